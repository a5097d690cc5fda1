"""Preset `paper`: the original's scoring case by case, and both sides of every difference that is documented."""

import json

import pytest

from tests.support.original_answers import Said, said_by
from tests.support.paper_reference import equation_score
from verifier._paper_equation import REWARDS
from verifier.answer_format import WINDOW
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand
from verifier.protocol import Verdict

HAND = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)
SHOWN = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, cards_are_shown=True)
THIRDS = Hand(labels=("3", "3", "8", "8"), numbers=(3, 3, 8, 8), target=24)
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
        ("0" * 500, "wrong_numbers", -4),
        # Brackets that stand where they cannot open and close nothing.
        ("7(5-10)+4", "illegal_formula", -6),
        ("7+)5+10+4", "illegal_formula", -6),
        ("()7+5+10+4", "illegal_formula", -6),
        ("7+5+10+4)", "illegal_formula", -3),
        ("(4-7)(5-10)", "illegal_formula", -6),
        # Nothing at all is legal, and leaves all numbers out.
        ("", "wrong_numbers", -2),
        ("=24", "wrong_numbers", -2),
        # Digits that are numbers and do not compute.
        ("７+5+10+4", "wrong_value", -1),
        ("0" * 40 + "7+5+10+4", "wrong_value", -1),
        ("07+5+10+4", "wrong_value", -1),
        ("⁷+5+10+4", "illegal_formula", -3),
        # Python's own limit on nested brackets.
        ("(" * 150 + "(7-5)*10+4" + ")" * 150, "correct", 5),
        ("(" * 250 + "(7-5)*10+4" + ")" * 250, "wrong_value", -1),
    ],
)
def test_penalties_add_up_as_in_the_original(formula: str, outcome: str, reward: float) -> None:
    verdict = judge(json.dumps({"formula": formula}))
    assert (verdict.outcome, verdict.reward) == (outcome, reward)


def test_a_long_formula_is_read_to_its_end() -> None:
    brackets = "(" * 90, ")" * 90
    numbers = [f"{brackets[0]}{number}{brackets[1]}" for number in (7, 5, 10, 4)]
    assert judge(json.dumps({"formula": "({}-{})*{}+{}".format(*numbers)})).reward == 5


def test_an_exact_solution_that_floating_point_misses_earns_nothing_and_hears_nothing() -> None:
    hand = Hand(labels=("3", "3", "8", "8"), numbers=(3, 3, 8, 8), target=24)
    verdict = judge('{"formula": "8/(3-8/3)"}', hand)
    assert (verdict.outcome, verdict.reward, verdict.feedback) == ("rounding", 0.0, "")


@pytest.mark.parametrize(
    ("formula", "hint"),
    [
        # Eight signs of (7-5)*10-4 begin a solution: (7-5)*10 goes on with +4.
        ("(7-5)*10-4", "a solution can begin with (7-5)*10."),
        ("(7-5)*4+10", "a solution can begin with (7-5)*."),
        ("((7-5)*4+10)", "a solution can begin with (."),
        ("７+5+10+4", "no solution begins like it."),
    ],
)
def test_the_hint_is_the_longest_beginning_of_a_solution(formula: str, hint: str) -> None:
    assert judge(json.dumps({"formula": formula})).feedback.endswith(hint)


def test_the_hint_is_cut_between_numbers_and_never_within_one() -> None:
    """A solution of 1, 2, 7 and 10 begins with 2*1, but none with 2*10."""
    hand = Hand(labels=("A", "2", "7", "10"), numbers=(1, 2, 7, 10), target=24)
    assert judge('{"formula": "2*10+1-7"}', hand).feedback.endswith("a solution can begin with 2*.")


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"formula":"(7-5)*10+4"}', "correct"),
        ('{"formula": "(7-5)*10+4",}', "correct"),
        ('{"formula":"(7-5)*10+4",}', "illegal_formula"),
        ("{'formula': '(7-5)*10+4'}", "illegal_formula"),
        ('[{"formula": "(7-5)*10+4=24"}]', "correct"),
        ('{"answer": {"formula": "(7-5)*10+4=24"}}', "correct"),
        ('{"answer": {"formula":"(7-5)*10+4=24"}}', "illegal_formula"),
        ('"formula": "(7-5)*10+4=24,\n"number": 1', "illegal_formula"),
        ('"formula": "(7-5)*\n10+4" "formula": "(7-5)*10+4"', "correct"),
        ('{"formula": "1", "formula": "(7-5)*10+4"}', "correct"),
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
        (SHOWN, "[7,5,\n K,4]", False),
        (SHOWN, "[7, 5, K, 4, 4]", False),
        (SHOWN, '["7", "5", "K", "4"]', False),
        (SHOWN, '[], "cards": [7, 5, K, 4]', True),
        (SHOWN, '"7, 5, K, 4"', False),  # this is how valid JSON may have them, and this is none
        (DIGITS, "['3', '3', '8', '8']", True),
        (DIGITS, "[3, 3, 8, 8]", False),
        (DIGITS, "[3,3,8,8]", True),
        (DIGITS, "[3,3, 8, 8]", True),
        (DIGITS, "[[3, 3, 8, 8]]", True),
        (DIGITS, "[3 , 3, ８, 8]", False),
    ],
)
def test_only_some_spellings_of_the_right_cards_are_recognised(hand: Hand, cards: str, recognised: bool) -> None:
    verdict = judge(f'{{"cards": {cards}, "formula": "1",}}', hand)
    assert (verdict.outcome != "wrong_cards") == recognised


@pytest.mark.parametrize("cards", ["7, 5, K, 4", "[4,K,5,7]", "['7', '5', 'K', '4']"])
def test_cards_in_a_json_string_are_read(cards: str) -> None:
    assert judge(json.dumps({"cards": cards, "formula": "(7-5)*10+4"}), SHOWN).reward == 5
    digits = json.dumps({"cards": "3, 3, 8, 8", "formula": "8*3"})
    assert judge(digits, DIGITS).outcome == "wrong_numbers"


def test_a_json_list_never_has_the_right_cards() -> None:
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


@pytest.mark.parametrize(
    ("answer", "hand", "corrected", "paper"),
    [
        ("{'formula': '(7-5)*10+4'}", HAND, ("correct", 5), ("illegal_formula", -3)),
        ('{"formula": "5", "formula": "(7-5)*10+4",}', HAND, ("correct", 5), ("wrong_numbers", -2)),
        ('{"cards": ["7", "5", "K", "4"], "formula": "(7-5)*10+4"}', SHOWN, ("correct", 5), ("wrong_cards", -1.5)),
        ('{"cards": [3, 3, 8, 8], "formula": "3+3+8+8",}', DIGITS, ("wrong_value", -1), ("wrong_cards", -1.5)),
        ('{"formula": "(7-5)*10+4=25"}', HAND, ("wrong_value", -1), ("correct", 5)),
        ('{"formula": "(7 - 5) × 10 + 4"}', HAND, ("correct", 5), ("illegal_formula", -3)),
        ('{"formula": "(７-5)*10+4"}', HAND, ("correct", 5), ("wrong_value", -1)),
        ('{"formula": "(07-5)*10+4"}', HAND, ("correct", 5), ("wrong_value", -1)),
        ('{"formula": ""}', HAND, ("illegal_formula", -3), ("wrong_numbers", -2)),
        ('{"formula": "=24"}', HAND, ("illegal_formula", -3), ("wrong_numbers", -2)),
        ('{"formula": "7(5-10)+3"}', HAND, ("illegal_formula", -3), ("illegal_formula", -10)),
        ('{"formula": "4+10*(7-5"}', HAND, ("illegal_formula", -3), ("partial", 1)),
        ('{"formula": "8/(3-8/3)"}', THIRDS, ("correct", 5), ("rounding", 0)),
    ],
)
def test_both_presets_score_as_the_table_says(
    answer: str, hand: Hand, corrected: tuple[str, float], paper: tuple[str, float]
) -> None:
    by_default = EquationVerifier(VerifierConfig()).judge(answer, hand)
    assert (by_default.outcome, by_default.reward) == corrected
    verdict = judge(answer, hand)
    assert (verdict.outcome, verdict.reward) == paper


def test_only_the_paper_preset_gives_a_hint() -> None:
    answer = '{"formula": "(7-5)*10-4"}'
    assert "(7-5)*10" in judge(answer).feedback
    assert "(7-5)" not in EquationVerifier(VerifierConfig()).judge(answer, HAND).feedback


@pytest.mark.parametrize(
    ("answer", "hand", "original", "ours"),
    [
        ('{"formula": 24}', HAND, (None, None, "TypeError"), (-3, False, None)),
        ('{"formula": ["(7-5)*10+4"]}', HAND, (None, None, "TypeError"), (-3, False, None)),
        ('{"cards": "7, 5, K, 4", "formula": null}', SHOWN, (None, None, "TypeError"), (-3, False, None)),
        ('{"cards": "7, 5, Q, 4", "formula": null}', SHOWN, (-1.5, False, None), (-1.5, False, None)),
        (f'{{"formula": "7+5+10+{"4" * 4301}"}}', HAND, (None, None, "ValueError"), (-4, False, None)),
        (f'{{"formula": "7+5+10+{"0" * 4300}4"}}', HAND, (None, None, "ValueError"), (-4, False, None)),
        (f'{{"formula": "7+5+10+{"4" * 4300}"}}', HAND, (-4, False, None), (-4, False, None)),
        ('{"formula": "(7-5)*10+4"}' + " " * WINDOW, HAND, (5, True, None), (-3, False, None)),
        (" " * WINDOW + '{"formula": "(7-5)*10+4"}', HAND, (5, True, None), (5, True, None)),
    ],
)
def test_what_the_original_does_otherwise_is_what_the_second_table_says(
    answer: str, hand: Hand, original: Said, ours: Said
) -> None:
    given = {"labels": list(hand.labels), "numbers": list(hand.numbers), "target": hand.target}
    assert said_by(equation_score, answer, **given, pictures=hand.cards_are_shown) == original
    verdict = judge(answer, hand)
    assert (verdict.reward, verdict.correct, None) == ours


@pytest.mark.parametrize(
    ("numbers", "formula", "outcome"),
    [
        ((1, 2, 3), "1+(2+3", "wrong_value"),
        ((1, 2, 3, 4), "1+2+(3+4", "partial"),
        ((1, 2, 3, 4, 5), "1+2+3+(4+5", "wrong_value"),
    ],
)
def test_hands_of_other_than_four_earn_no_part_and_get_no_hint(
    numbers: tuple[int, ...], formula: str, outcome: str
) -> None:
    hand = Hand(labels=tuple(map(str, numbers)), numbers=numbers, target=sum(numbers))
    verdict = judge(json.dumps({"formula": formula}), hand)
    assert verdict.outcome == outcome
    assert "begin with" not in verdict.feedback
