"""Preset `paper`: the original's scoring, case by case."""

import json

import pytest

from verifier._paper_equation import REWARDS
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand
from verifier.protocol import Verdict

HAND = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)
SHOWN = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, cards_are_shown=True)
DIGITS = Hand(labels=("3", "3", "8", "8"), numbers=(3, 3, 8, 8), target=24, cards_are_shown=True)


def judge(answer: str, hand: Hand = HAND) -> Verdict:
    return EquationVerifier(VerifierConfig(preset="paper")).judge(answer, hand)


@pytest.mark.parametrize(
    ("formula", "outcome", "reward"),
    [
        ("(7-5)*10+4=24", "correct", 5),
        ("(7-5)*10+4=25", "correct", 5),
        ("(7-5)*10+4=x=y", "correct", 5),
        ("7*5-10-4", "wrong_value", -1),
        ("4+10*(7-5", "partial", 1),
        ("(7-5)*10+5", "wrong_numbers", -4),
        ("(7-5)*10", "wrong_numbers", -2),
        ("(7-5)*10+4+4", "wrong_numbers", -2),
        ("(7-5)*10+4+3", "wrong_numbers", -2),
        ("(7-5) *10+4", "illegal_formula", -3),
        ("(7−5)×10+4", "illegal_formula", -3),
        ("(7-5)10+4", "illegal_formula", -3),
        ("(7-5)**10+4", "illegal_formula", -3),
        ("+7-5)*10+4", "illegal_formula", -6),
        ("9**9**9", "illegal_formula", -10),
        ("7/(5-5)+10+4", "wrong_numbers", -2),
        ("0" * 500, "illegal_formula", -3),
    ],
)
def test_penalties_add_up_as_in_the_original(formula: str, outcome: str, reward: float) -> None:
    verdict = judge(json.dumps({"formula": formula}))
    assert (verdict.outcome, verdict.reward) == (outcome, reward)


def test_an_exact_solution_that_floating_point_misses_earns_nothing_and_hears_nothing() -> None:
    hand = Hand(labels=("3", "3", "8", "8"), numbers=(3, 3, 8, 8), target=24)
    verdict = judge('{"formula": "8/(3-8/3)"}', hand)
    assert (verdict.outcome, verdict.reward, verdict.feedback) == ("rounding", 0.0, "")


def test_the_hint_is_the_longest_beginning_of_a_solution() -> None:
    """For 5 the first four signs of (7-5)*10-4 begin a solution: (7-5)*10 goes on with +4."""
    assert "(7-5)*10" in judge('{"formula": "(7-5)*10-4"}').feedback


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"formula":"(7-5)*10+4"}', "correct"),
        ('{"formula": "(7-5)*10+4",}', "correct"),
        ('{"formula":"(7-5)*10+4",}', "illegal_formula"),
        ("{'formula': '(7-5)*10+4'}", "illegal_formula"),
        ('{"formula": 24}', "illegal_formula"),
        ('"formula": "1" "formula": "(7-5)*10+4"', "wrong_numbers"),
        ("", "illegal_formula"),
        ("[" * 100_000, "illegal_formula"),
    ],
)
def test_the_formula_is_read_as_the_original_reads_it(text: str, outcome: str) -> None:
    assert judge(text).outcome == outcome


@pytest.mark.parametrize(
    ("hand", "cards", "recognised"),
    [
        (SHOWN, "['7', '5', 'K', '4']", True),
        (SHOWN, "[7, 5, K, 4]", True),
        (SHOWN, '["7", "5", "K", "4"]', False),
        (DIGITS, "['3', '3', '8', '8']", True),
        (DIGITS, "[3, 3, 8, 8]", False),
    ],
)
def test_only_some_spellings_of_the_right_cards_are_recognised(hand: Hand, cards: str, recognised: bool) -> None:
    verdict = judge(f'{{"cards": {cards}, "formula": "1",}}', hand)
    assert (verdict.outcome != "wrong_cards") == recognised


def test_valid_json_never_has_the_right_cards() -> None:
    verdict = judge('{"cards": ["7", "5", "K", "4"], "formula": "(7-5)*10+4"}', SHOWN)
    assert (verdict.outcome, verdict.reward) == ("wrong_cards", -1.5)
    assert verdict.checks["cards_recognised"], "the side fact is what was really recognised"


def test_the_reward_table_is_the_published_one() -> None:
    assert {label: REWARDS[label] for label in ("correct", "partial", "wrong_value", "wrong_cards")} == {
        "correct": 5,
        "partial": 1,
        "wrong_value": -1,
        "wrong_cards": -1.5,
    }
