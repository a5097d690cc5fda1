"""Preset `paper` says what the original said: of all its answers that are kept, and of fresh ones by a reference."""

import json
from random import Random

import pytest

from tests.support.card_answers import made_up
from tests.support.original_answers import Row, Said, rows, said_by
from tests.support.paper_reference import equation_score, navigation_score
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.navigation import NavigationVerifier, Position
from verifier.protocol import Verdict

CONFIG = VerifierConfig(preset="paper")
CARDS = EquationVerifier(CONFIG)
ROUTES = NavigationVerifier(CONFIG)

# Where the original crashed, ours has a verdict; this is the only difference that its own answers show.
CARDS_CRASH = (-3.0, False, None)
NUM_CARDS_CRASHES = 88
ROUTES_CRASHES = {(-1.0, False, None): 26, (-1.5, False, None): 3}


@pytest.fixture(scope="module")
def card_rows() -> list[Row]:
    return rows("paper_equation")


@pytest.fixture(scope="module")
def route_rows() -> list[Row]:
    return rows("paper_navigation")


def said(verdict: Verdict) -> Said:
    return verdict.reward, verdict.correct, None


def referred(row: Row) -> Said:
    given = row.given
    if "action" in given:
        return said_by(navigation_score, row.answer, **given)
    return said_by(equation_score, row.answer, **given)


def differing(pairs: list[tuple[Row, Said]]) -> list[str]:
    """The rows of which something else is said, in full."""
    return [
        f"row {row.number}: {row.answer!r} {row.given} was {row.said}, is {ours}"
        for row, ours in pairs
        if ours != row.said
    ]


def test_the_originals_answers_are_all_there(card_rows: list[Row], route_rows: list[Row]) -> None:
    assert (len(card_rows), len(route_rows)) == (6_000, 1_500)


def test_the_reference_says_what_the_original_said(card_rows: list[Row], route_rows: list[Row]) -> None:
    assert differing([(row, referred(row)) for row in card_rows + route_rows]) == []


def test_cards_earn_what_the_original_gave_for_them(card_rows: list[Row]) -> None:
    judged = [(row, said(CARDS.judge(row.answer, row.hand()))) for row in card_rows]
    assert differing([pair for pair in judged if pair[0].said[2] is None]) == []
    crashed = [(row, ours) for row, ours in judged if row.said == (None, None, "TypeError")]
    assert [ours for _, ours in crashed] == [CARDS_CRASH] * NUM_CARDS_CRASHES
    assert len({row.number for row, _ in crashed}) + sum(row.said[2] is None for row, _ in judged) == len(judged)


def test_routes_earn_what_the_original_gave_for_them(route_rows: list[Row]) -> None:
    judged = [(row, said(ROUTES.judge(row.answer, row.position()))) for row in route_rows]
    assert differing([pair for pair in judged if pair[0].said[2] is None]) == []
    crashed = [ours for row, ours in judged if row.said == (None, None, "TypeError")]
    assert {ours: crashed.count(ours) for ours in crashed} == ROUTES_CRASHES


def disagreements_over_cards(seeds: range, num_hands: int) -> list[str]:
    """The fresh answers that ours judges otherwise than the reference, hints included."""
    found = []
    for seed in seeds:
        hand, answer = made_up(Random(seed), num_hands)
        verdict = CARDS.judge(answer, hand)
        labels, numbers = list(hand.labels), list(hand.numbers)
        hint = ""
        try:
            score = equation_score(answer, labels, numbers, hand.target, pictures=hand.cards_are_shown)
        except TypeError:
            expected = CARDS_CRASH[:2]
        else:
            expected = (score.reward, score.solved)
            if score.begins is not None:
                hint = f" begin with {score.begins}." if score.begins else "; no solution begins like it."
        if (verdict.reward, verdict.correct) != expected or not verdict.feedback.endswith(hint):
            found.append(f"seed {seed}: {answer!r} at {hand} should be {expected} {hint!r}, is {verdict}")
    return found


def test_three_thousand_fresh_answers_over_cards_agree_with_the_reference() -> None:
    assert disagreements_over_cards(range(3_000), num_hands=100) == []


def test_the_fresh_answers_are_of_every_kind() -> None:
    """Else their agreement would say little."""
    judged = [
        CARDS.judge(answer, hand) for hand, answer in (made_up(Random(seed), num_hands=100) for seed in range(3_000))
    ]
    outcomes = [verdict.outcome for verdict in judged]
    shares = {outcome: outcomes.count(outcome) for outcome in CARDS.rewards}
    assert min(shares[outcome] for outcome in ("correct", "wrong_value", "wrong_cards", "wrong_numbers")) > 100, shares
    assert shares["illegal_formula"] > 100 and shares["partial"] > 5 and shares["rounding"] > 0, shares
    assert len({verdict.reward for verdict in judged}) > 12


def route_answer(generator: Random) -> str:
    action = generator.choice(["stop()", "forward()", "stop", " stop()", "", None, 7, ["stop()"]])
    observation = generator.choice(
        [
            "an intersection",
            "INTERSECTION",
            "no",
            None,
            7,
            True,
            ["intersection"],
            ["an intersection"],
            {"intersection": 1},
        ]
    )
    fields = {"current observation": observation, "current instruction": "x", "action": action}
    for key in list(fields):
        if generator.random() < 0.1:
            del fields[key]
    text = json.dumps(fields, separators=(generator.choice([", ", ",", ",\n"]), generator.choice([": ", ":"])))
    if generator.random() < 0.4:
        place = generator.randint(0, len(text))
        text = text[:place] + generator.choice(["\n", '"', ",", "", "'"]) + text[place + generator.randint(0, 2) :]
    return generator.choice([text, text, f"[{text}]", f'{{"a": {text}}}', f"So {text}", json.dumps(text)])


def test_three_thousand_fresh_answers_on_routes_agree_with_the_reference() -> None:
    for seed in range(3_000):
        generator = Random(seed)
        answer, landmark_text = route_answer(generator), generator.choice(["No landmark nearby", "intersection diner"])
        expected = said_by(navigation_score, answer, action="stop()", landmark_text=landmark_text)
        if expected[2] is not None:  # the documented difference: the observation claims nothing
            expected = (-1.5 if "intersection" in landmark_text else -1.0, False, None)
        position = Position(
            action="stop()", intersection=True, landmark=None, landmark_text=landmark_text, instruction="Stop."
        )
        assert said(ROUTES.judge(answer, position)) == expected, answer
