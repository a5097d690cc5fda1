"""The route verifier: hand-worked tables for both presets, and that no text whatever upsets it."""

import json
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.original_answers import Said, said_by
from tests.support.paper_reference import navigation_score
from verifier.answer_format import WINDOW
from verifier.config import VerifierConfig
from verifier.navigation import NavigationVerifier, Position, same_action

CORRECTED = NavigationVerifier(VerifierConfig())
PAPER = NavigationVerifier(VerifierConfig(preset="paper"))

CORNER = Position(
    action="turn_direction(north)",
    intersection=True,
    landmark="Joe's Pizza",
    landmark_text="Joe's Pizza is on your left",
    instruction="Turn right, to face north.",
    other_landmarks=("Blue Heron Cafe", "Joe's Pizza Annex"),
    choices=("forward()", "stop()", "turn_direction(north)", "turn_direction(west)"),
)
STREET = Position(
    action="forward()",
    intersection=False,
    landmark=None,
    landmark_text="No landmark nearby",
    instruction="Go forward to the next intersection.",
    other_landmarks=("Joe's Pizza",),
)
SEEN_AT_CORNER = "Joe's Pizza is on your left; this is an intersection"


def _answer(action: str, observation: str = SEEN_AT_CORNER, instruction: str = "Turn right, to face north.") -> str:
    return json.dumps({"current observation": observation, "current instruction": instruction, "action": action})


@pytest.mark.parametrize(
    "spelling",
    [
        "turn_direction(north)",
        "Turn_Direction(North)",
        " turn_direction( north ) ",
        "turn_direction('north')",
        'turn_direction("north")',
        "turn direction(north)",
        "turn_direction(north).",
    ],
)
def test_an_action_may_be_spelt_in_many_ways(spelling: str) -> None:
    verdict = CORRECTED.judge(_answer(spelling), CORNER)
    assert (verdict.outcome, verdict.correct, verdict.reward) == ("correct", True, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"action": "turn_direction("north")"}',
        "{'action': 'turn_direction(north)'}",
        'So:\n```json\n{"action" : "turn_direction(north)",}\n```',
        "Action: turn_direction(north)",
        '{"ACTION": turn_direction("north")}',
    ],
)
def test_an_answer_need_not_be_strict_json(text: str) -> None:
    assert CORRECTED.judge(text, CORNER).correct
    assert not PAPER.judge(text, CORNER).correct


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("forward", "forward()", True),
        ("FORWARD ()", "forward()", True),
        ("stop", "stop()", True),
        ("turn_direction(slightly_left)", "turn_direction(slightly left)", True),
        ("turn_direction(north-east)", "turn_direction(northeast)", True),
        ("turn_direction(left)", "turn_direction(slightly left)", False),
        ("forward() stop()", "forward()", False),
        ("turn_direction", "turn_direction(north)", False),
        ("north", "turn_direction(north)", False),
        ("", "stop()", False),
    ],
)
def test_two_spellings_are_one_action_only_if_they_say_the_same(first: str, second: str, same: bool) -> None:
    assert same_action(first, second) is same


@pytest.mark.parametrize(
    ("position", "action", "observation", "outcome", "reward"),
    [
        (CORNER, "turn_direction(north)", SEEN_AT_CORNER, "correct", 1.0),
        (CORNER, "turn_direction(north)", "nothing", "correct", 1.0),
        (CORNER, "turn_direction(west)", SEEN_AT_CORNER, "wrong_action", -1.0),
        (CORNER, "forward()", SEEN_AT_CORNER.upper(), "wrong_action", -1.0),
        (CORNER, "forward()", "Joe’s Pizza, left. At the crossroads", "wrong_action", -1.0),
        (CORNER, "forward()", "Joe's Pizza is on your left", "wrong_recognition", -1.5),
        (CORNER, "forward()", "Joe's Pizza; not an intersection", "wrong_recognition", -1.5),
        (CORNER, "forward()", "No landmark nearby; this is an intersection", "wrong_recognition", -1.5),
        (CORNER, "forward()", "Blue Heron Cafe; this is an intersection", "wrong_recognition", -1.5),
        (CORNER, "forward()", "Joe's Pizza and Blue Heron Cafe; intersection", "wrong_recognition", -1.5),
        (CORNER, "forward()", "Joe's Pizza Annex; this is an intersection", "wrong_recognition", -1.5),
        (STREET, "forward()", "an intersection", "correct", 1.0),
        (STREET, "stop()", "No landmark nearby", "wrong_action", -1.0),
        (STREET, "stop()", "No landmark nearby; there is no intersection yet", "wrong_action", -1.0),
        (STREET, "stop()", "I am not at an intersection. Joe's Pizza", "wrong_recognition", -1.5),
        (STREET, "stop()", "No Joe's Pizza in sight", "wrong_action", -1.0),
        (STREET, "stop()", "Some Bank is on your right", "wrong_recognition", -1.5),
        (STREET, "stop()", "No landmark nearby; this is an intersection", "wrong_recognition", -1.5),
        (STREET, "stop()", "no landmark here, but I see an intersection", "wrong_recognition", -1.5),
    ],
)
def test_corrected_judges_the_action_first_and_then_what_was_seen(
    position: Position, action: str, observation: str, outcome: str, reward: float
) -> None:
    verdict = CORRECTED.judge(_answer(action, observation), position)
    assert (verdict.outcome, verdict.reward) == (outcome, reward)


@pytest.mark.parametrize(
    ("position", "text", "outcome", "reward"),
    [
        (CORNER, _answer("turn_direction(north)"), "correct", 1.0),
        (CORNER, _answer("turn_direction( north )", "nothing"), "wrong_action", -1.0),
        (CORNER, 'x "action": "turn_direction(north)" y', "correct", 1.0),
        (CORNER, 'x "action":"turn_direction(north)" y', "wrong_action", -1.0),
        # The original's fault: a true observation at a real intersection is called false.
        (CORNER, _answer("forward()"), "wrong_recognition", -1.5),
        (CORNER, _answer("forward()", "Joe's Pizza"), "wrong_action", -1.0),
        (STREET, _answer("stop()", "this is an intersection"), "wrong_recognition", -1.5),
        (STREET, _answer("stop()", "no intersection"), "wrong_recognition", -1.5),
        (STREET, _answer("stop()", "Intersection"), "wrong_action", -1.0),
        (STREET, "I do not know.", "wrong_action", -1.0),
        (STREET, "[1, 2]", "wrong_action", -1.0),
        (STREET, '{"action": ["forward()"]}', "wrong_action", -1.0),
        (
            replace(STREET, landmark_text="intersection bar"),
            _answer("stop()", "a bar"),
            "wrong_recognition",
            -1.5,
        ),
    ],
)
def test_paper_scores_as_the_original_did(position: Position, text: str, outcome: str, reward: float) -> None:
    verdict = PAPER.judge(text, position)
    assert (verdict.outcome, verdict.reward) == (outcome, reward)


@pytest.mark.parametrize(
    ("observation", "claims"),
    [
        (["intersection"], True),
        (["an intersection"], False),
        ([["intersection"]], False),
        ({"intersection": False}, True),
        ({"seen": "intersection"}, False),
        ([], False),
    ],
)
def test_an_observation_that_is_a_list_or_an_object_is_searched_as_the_original_searched_it(
    observation: object, claims: bool
) -> None:
    answer = json.dumps({"current observation": observation, "action": "stop()"})
    for landmark_text in ("No landmark nearby", "intersection bar"):
        expected = -1.5 if claims != ("intersection" in landmark_text) else -1.0
        assert navigation_score(answer, "forward()", landmark_text) == (expected, False)
        assert PAPER.judge(answer, replace(STREET, landmark_text=landmark_text)).reward == expected


@pytest.mark.parametrize(
    ("answer", "landmark_text", "original", "ours"),
    [
        ('{"current observation": null, "action": "stop()"}', "none", (None, None, "TypeError"), (-1.0, False, None)),
        ('{"current observation": 7, "action": "stop()"}', "none", (None, None, "TypeError"), (-1.0, False, None)),
        ('{"current observation": true}', "intersection bar", (None, None, "TypeError"), (-1.5, False, None)),
        ('{"current observation": null, "action": "forward()"}', "none", (1.0, True, None), (1.0, True, None)),
        ('"action": "forward()"' + " " * WINDOW, "none", (1.0, True, None), (-1.0, False, None)),
        (" " * WINDOW + '"action": "forward()"', "none", (1.0, True, None), (1.0, True, None)),
    ],
)
def test_what_the_original_does_otherwise_is_what_the_table_says(
    answer: str, landmark_text: str, original: Said, ours: Said
) -> None:
    assert said_by(navigation_score, answer, action="forward()", landmark_text=landmark_text) == original
    verdict = PAPER.judge(answer, replace(STREET, landmark_text=landmark_text))
    assert (verdict.reward, verdict.correct, None) == ours


def test_only_the_paper_preset_calls_a_true_observation_at_an_intersection_false() -> None:
    answer = _answer("turn_direction(west)")
    assert "not at an intersection" in PAPER.judge(answer, CORNER).feedback
    assert CORRECTED.judge(answer, CORNER).reward == -1.0
    assert PAPER.judge(answer, CORNER).checks == CORRECTED.judge(answer, CORNER).checks


@pytest.mark.parametrize("text", ["", "I would go on.", '{"current observation": "nothing"}'])
def test_an_answer_without_an_action_is_unreadable(text: str) -> None:
    verdict = CORRECTED.judge(text, CORNER)
    assert (verdict.outcome, verdict.reward, verdict.checks["readable"]) == ("unreadable", -1.0, False)


@pytest.mark.parametrize("verifier", [CORRECTED, PAPER])
def test_the_unscored_answer_earns_the_same_whatever_it_is(verifier: NavigationVerifier) -> None:
    verdict = verifier.judge(_answer("turn_direction(north)"), replace(CORNER, scored=False))
    assert (verdict.outcome, verdict.correct, verdict.reward) == ("attempts_exceeded", False, -1.0)


@pytest.mark.parametrize("verifier", [CORRECTED, PAPER])
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (json.dumps({"current observation": SEEN_AT_CORNER}), "correct"),
        (json.dumps({"current observation": "Joe's Pizza"}), "wrong_recognition"),
        (json.dumps({"current observation": "an intersection"}), "wrong_recognition"),
        (json.dumps({"action": "turn_direction(north)"}), "unreadable"),
    ],
)
def test_recognition_alone_is_judged_by_the_place(verifier: NavigationVerifier, text: str, outcome: str) -> None:
    verdict = verifier.judge(text, replace(CORNER, asks="recognition"))
    assert verdict.outcome == outcome
    assert set(verdict.checks) == {"readable", "intersection_recognised", "landmark_recognised", "place_recognised"}
    assert verdict.checks["place_recognised"] == verdict.correct


def test_feedback_on_recognition_does_not_say_what_is_there() -> None:
    verdict = CORRECTED.judge('{"current observation": "nothing"}', replace(CORNER, asks="recognition"))
    assert "intersection" not in verdict.feedback
    assert "Joe" not in verdict.feedback


@pytest.mark.parametrize("verifier", [CORRECTED, PAPER])
@pytest.mark.parametrize("observation", [SEEN_AT_CORNER, "nothing", "Blue Heron Cafe; an intersection"])
@pytest.mark.parametrize("action", ["forward()", "jump()", "turn_direction(west)"])
def test_feedback_never_names_the_right_action(verifier: NavigationVerifier, observation: str, action: str) -> None:
    assert "north" not in verifier.judge(_answer(action, observation), CORNER).feedback


def test_feedback_tells_a_foreign_action_from_a_wrong_one() -> None:
    foreign = CORRECTED.judge(_answer("turn_direction(right)"), CORNER)
    wrong = CORRECTED.judge(_answer("turn_direction(west)"), CORNER)
    assert foreign.outcome == wrong.outcome == "wrong_action"
    assert foreign.feedback != wrong.feedback


def test_side_facts_are_counted_apart_from_the_outcome() -> None:
    checks = CORRECTED.judge(
        _answer("turn_direction(north)", "Joe's Pizza", "1. turn right to face NORTH"), CORNER
    ).checks
    assert checks == {
        "readable": True,
        "intersection_recognised": False,
        "landmark_recognised": True,
        "place_recognised": False,
        "instruction_read": True,
        "turn_direction_correct": True,
    }


@pytest.mark.parametrize("verifier", [CORRECTED, PAPER])
@pytest.mark.parametrize(
    ("wanted", "given", "told"),
    [
        ("turn_direction(north)", "turn_direction(north)", {"turn_direction_correct": True}),
        ("turn_direction(north)", "forward()", {"turn_direction_correct": False}),
        ("forward()", "turn_direction(north)", {"forward_correct": False}),
        ("stop()", "stop()", {"stop_correct": True}),
    ],
)
def test_the_kind_of_the_right_action_is_noticed_whatever_is_answered(
    verifier: NavigationVerifier, wanted: str, given: str, told: dict[str, bool]
) -> None:
    checks = verifier.judge(_answer(given), replace(CORNER, action=wanted)).checks
    assert {name: passed for name, passed in checks.items() if name.endswith("_correct")} == told


@pytest.mark.parametrize(
    ("action", "right_under_training_rule"),
    [("turn_direction(North)", True), ("turn_direction(right)", False)],
)
def test_an_action_that_training_would_call_right_is_noticed(action: str, right_under_training_rule: bool) -> None:
    position = replace(CORNER, action="turn_direction(right)", training_action="turn_direction(north)")
    assert CORRECTED.judge(_answer(action), position).checks["right_under_training_rule"] is right_under_training_rule
    assert "right_under_training_rule" not in CORRECTED.judge(_answer(action), CORNER).checks


def test_spans_say_which_characters_are_which_part() -> None:
    answer = '{"thinking": "hm", "current observation": "a", "current instruction": "b", "action": "turn("x")"}'
    spans = CORRECTED.judge(answer, CORNER).spans
    assert [(span.label, answer[span.start : span.end]) for span in spans] == [
        ("reasoning", "hm"),
        ("recognition", "a"),
        ("reasoning", "b"),
        ("action", 'turn("x")'),
    ]


def test_rewards_can_be_changed_by_label_and_a_wrong_label_is_refused() -> None:
    verifier = NavigationVerifier(VerifierConfig(rewards={"wrong_action": -0.25}))
    assert verifier.judge(_answer("turn_direction(west)"), CORNER).reward == -0.25
    with pytest.raises(ValueError, match="did you mean 'wrong_action'"):
        NavigationVerifier(VerifierConfig(rewards={"wrong_actions": 0.0}))


_PIECES = st.sampled_from(
    [
        '"action"',
        ": ",
        '"current observation": "',
        "turn_direction(",
        '"north")',
        "{",
        "}",
        "[",
        "intersection",
        "not ",
        ";",
    ]
)
_ANY_TEXT = st.one_of(st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=5))).map("".join))


@given(
    answer=_ANY_TEXT,
    landmark=st.one_of(st.none(), st.text(min_size=1, max_size=20)),
    others=st.lists(st.text(max_size=20), max_size=3),
    asks=st.sampled_from(["action", "recognition"]),
    scored=st.booleans(),
)
def test_any_text_gets_a_verdict_with_ordered_spans(
    answer: str, landmark: str | None, others: list[str], asks: Literal["action", "recognition"], scored: bool
) -> None:
    position = replace(CORNER, landmark=landmark, other_landmarks=tuple(others), asks=asks, scored=scored)
    for verifier in (CORRECTED, PAPER):
        verdict = verifier.judge(answer, position)
        assert verdict.correct == (verdict.outcome == "correct")
        ends = [0, *(place for span in verdict.spans for place in (span.start, span.end)), len(answer)]
        assert ends == sorted(ends)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "[" * 100_000,
        '"action": "' * 20_000,
        '{"current observation": "' + "intersection not " * 10_000 + '", "action": "x"}',
        '{"current observation": "' + "joes " * 20_000 + '", "action": "' + "(" * 20_000 + '"}',
        '{"current observation": "' + "joes | ; " * 10_000 + '", "action": "stop()"}',
    ],
)
@pytest.mark.timeout(5)
def test_hostile_text_is_judged_in_bounded_time(text: str) -> None:
    for verifier in (CORRECTED, PAPER):
        assert not verifier.judge(text, CORNER).correct
