"""Answers are read in the form that was asked for, where a verifier minds it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from envs._cards.wording import as_original
from envs.catalog import make_environment
from envs.general_points import Config
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.exact_value import ExactValueVerifier, Expected
from verifier.form import Form, has_form
from verifier.hand import Hand
from verifier.navigation import NavigationVerifier

HAND = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)
JSON = '{"cards": ["7", "5", "K", "4"], "number": [7, 5, 10, 4], "formula": "(7-5)*10+4=24"}'
FORMS: tuple[Form, ...] = ("any", "json", "original")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (JSON, {"any", "json"}),
        (f" {JSON}\n", {"any", "json"}),
        (as_original(JSON), {"any", "original"}),
        (f"So it is: {JSON}", {"any"}),
        (f"{JSON} {JSON}", {"any"}),
        (JSON[:-1], {"any"}),
        (as_original(JSON).replace(",\n}", "\n}"), {"any"}),
        (as_original(JSON).removesuffix("}"), {"any"}),
        ("[1, 2]", {"any"}),
        ("[" * 100_000, {"any"}),
        ("1" * 10_000, {"any"}),
        ("{\n}", {"any", "json", "original"}),
        ("", {"any"}),
    ],
)
def test_which_form_an_answer_has(answer: str, expected: set[str]) -> None:
    assert {form for form in FORMS if has_form(answer, form)} == expected


@given(st.text(alphabet='{}[]",:\n a1', max_size=60))
def test_any_text_has_a_form_or_not(text: str) -> None:
    assert has_form(text, "any")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    assert has_form(text, "json") == isinstance(parsed, dict)


@pytest.mark.parametrize("form", FORMS)
def test_what_has_another_form_is_unreadable_and_told_so(form: Form) -> None:
    judge = EquationVerifier(VerifierConfig(form=form)).judge
    for answer, own in ((JSON, "json"), (as_original(JSON), "original")):
        verdict = judge(answer, HAND)
        assert verdict.correct == verdict.checks["readable"] == (form in ("any", own))
        if not verdict.correct:
            wanted = "the form that" if form == "original" else "the JSON format that"
            assert verdict.outcome == "unreadable" and wanted in verdict.feedback and not verdict.spans


def test_every_verifier_minds_it() -> None:
    of_json = VerifierConfig(form="json")
    wrapped = 'Well: {"sum": 42}'
    assert ExactValueVerifier(VerifierConfig()).judge(wrapped, Expected(field="sum", value="42")).correct
    assert ExactValueVerifier(of_json).judge(wrapped, Expected(field="sum", value="42")).outcome == "unreadable"
    env = make_environment(Config(name="general_points", written="original"), VerifierConfig(form="original"))
    question = env.open(0, "train").first_question()
    assert env.verifier.judge(question.expert_answer, question.reference).correct
    assert NavigationVerifier(of_json).form == "json"


def test_the_originals_own_reading_has_no_other_form() -> None:
    with pytest.raises(ValidationError, match="preset=paper reads answers as the original did"):
        VerifierConfig(preset="paper", form="json")
