"""The 24-game verifier: one outcome per answer by a documented precedence, exact, and silent about solutions."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracle import expected_outcome, random_formula
from verifier.config import VerifierConfig
from verifier.equation import REWARDS, EquationVerifier
from verifier.hand import Hand
from verifier.protocol import Verdict
from verifier.solver import solutions

HAND = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)
SHOWN = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, cards_are_shown=True)


def judge(answer: str, hand: Hand = HAND, **config: object) -> Verdict:
    return EquationVerifier(VerifierConfig.model_validate(config)).judge(answer, hand)


def answer(formula: str, cards: object = ("7", "5", "K", "4"), number: object = (7, 5, 10, 4)) -> str:
    return json.dumps({"cards": cards, "number": number, "formula": formula}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("formula", "outcome"),
    [
        ("(7-5)*10+4", "correct"),
        ("(7-5)*10+4=24", "correct"),
        ("24=(7-5)*10+4", "correct"),
        ("( 7 − 5 ) × 10 ＋ 4 = 24", "correct"),
        ("4+10*(7-5)", "correct"),
        ("(7-5)*10+4=25", "wrong_value"),
        ("7*5-10-4=24", "wrong_value"),
        ("7*4-10/5=24", "wrong_value"),
        ("7+4+10/(5-5)", "wrong_numbers"),
        ("(7-5)*10+5", "wrong_numbers"),
        ("4*6", "wrong_numbers"),
        ("24", "wrong_numbers"),
        ("24=24", "wrong_numbers"),
        ("(7-5)*10+4+4-4", "wrong_numbers"),
        ("(7-5)*K+4", "illegal_formula"),
        ("(7-5)*10+4)", "illegal_formula"),
        ("(7-5)10+4", "illegal_formula"),
        ("", "illegal_formula"),
        ("7-5*10^4", "illegal_formula"),
    ],
)
def test_a_formula_has_the_first_outcome_that_applies(formula: str, outcome: str) -> None:
    verdict = judge(answer(formula))
    assert (verdict.outcome, verdict.reward) == (outcome, REWARDS[outcome])
    assert verdict.correct == (outcome == "correct")


def test_arithmetic_is_exact() -> None:
    hand = Hand(labels=("3", "3", "8", "8"), numbers=(3, 3, 8, 8), target=24)
    assert judge('{"formula": "8/(3-8/3)"}', hand).correct


def test_a_division_by_zero_is_a_wrong_value() -> None:
    hand = Hand(labels=("5", "5", "K", "4"), numbers=(5, 5, 10, 4), target=24)
    verdict = judge('{"formula": "(10+4)/(5-5)"}', hand)
    assert (verdict.outcome, verdict.feedback) == ("wrong_value", "The formula divides by zero.")


@pytest.mark.parametrize("text", ["", "no idea", "{}", '{"cards": ["7", "5", "K", "4"]}'])
def test_an_answer_without_a_formula_is_unreadable(text: str) -> None:
    verdict = judge(text)
    assert (verdict.outcome, verdict.reward, verdict.checks["readable"]) == ("unreadable", -3.0, False)


@pytest.mark.parametrize("cards", [["4", "K", "5", "7"], "7, 5, k, 4", ["７", "5♠", "King", "4"], [7, 5, "K", 4]])
def test_cards_of_a_picture_are_a_multiset_in_any_spelling(cards: object) -> None:
    verdict = judge(answer("(7-5)*10+4", cards), SHOWN)
    assert verdict.correct
    assert verdict.checks["cards_recognised"]


@pytest.mark.parametrize("cards", [["7", "5", "Q", "4"], ["7", "5", "K"], ["7", "5", "K", "4", "4"], [], "?"])
def test_wrong_cards_of_a_picture_come_before_any_fault_of_the_formula(cards: object) -> None:
    for formula in ("(7-5)*10+4", "nonsense"):
        verdict = judge(answer(formula, cards), SHOWN)
        assert (verdict.outcome, verdict.reward) == ("wrong_cards", -1.5)


def test_cards_do_not_count_where_they_stand_in_the_question() -> None:
    verdict = judge(answer("(7-5)*10+4", ["A"]))
    assert verdict.correct
    assert "cards_recognised" not in verdict.checks


def test_recognition_alone_is_judged_by_the_cards_alone() -> None:
    asked = Hand(labels=("7", "K"), numbers=(7, 10), target=24, cards_are_shown=True, asks="cards")
    assert judge('{"cards": ["K", "7"]}', asked).correct
    assert judge('{"cards": ["K", "8"]}', asked).outcome == "wrong_cards"
    assert judge('{"formula": "1"}', asked).outcome == "unreadable"


@pytest.mark.parametrize(
    ("number", "read"), [([10, 4, 5, 7], True), ("7 5 10 4", True), ([7, 5, 13, 4], False), ("?", False)]
)
def test_the_numbers_line_is_measured_and_never_punished(number: object, read: bool) -> None:
    verdict = judge(answer("(7-5)*10+4", number=number))
    assert verdict.correct
    assert verdict.checks["numbers_read"] == read


def test_an_answer_that_follows_the_training_rule_is_recognised_as_such() -> None:
    shifted = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 13, 4), target=24, training_numbers=(7, 5, 10, 4))
    verdict = judge(answer("(7-5)*10+4"), shifted)
    assert (verdict.outcome, verdict.checks["right_under_training_rule"]) == ("wrong_numbers", True)
    assert not judge(answer("7+4+13"), shifted).checks["right_under_training_rule"]


def test_the_unread_last_answer_earns_the_same_whatever_it_says() -> None:
    unread = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, scored=False)
    verdict = judge(answer("(7-5)*10+4"), unread)
    assert (verdict.outcome, verdict.reward, verdict.correct) == ("attempts_exceeded", -1.0, False)


def test_spans_say_what_was_recognition_reasoning_and_action() -> None:
    text = '{"thinking": "hm", "cards": ["7"], "number": [7], "formula": "1+2"}'
    spans = {text[span.start : span.end]: span.label for span in judge(text).spans}
    assert spans == {"hm": "reasoning", '"7"': "recognition", "7": "reasoning", "1+2": "action"}


def test_rewards_can_be_changed_one_by_one() -> None:
    assert judge(answer("1"), rewards={"wrong_numbers": -0.5}).reward == -0.5
    assert judge(answer("(7-5)*10+4"), rewards={"wrong_numbers": -0.5}).reward == 5


def test_a_reward_for_an_unknown_outcome_is_an_error_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"verifier\.rewards\.wrong_number: .* did you mean 'wrong_numbers'"):
        judge("", rewards={"wrong_number": 1})


def test_a_hundred_thousand_random_formulas_agree_with_the_oracle() -> None:
    """Numbers of the hand in another order, now and then one too many, too few, or foreign."""
    generator = Random(24)
    verifier = EquationVerifier(VerifierConfig())
    seen: dict[str, int] = {}
    for _ in range(100_000):
        numbers = [generator.randint(1, 13) for _ in range(generator.choice((3, 4, 4, 4, 5, 6)))]
        used = generator.sample(numbers, len(numbers))
        if generator.random() < 0.15:
            used[generator.randrange(len(used))] = generator.randint(1, 13)
        if generator.random() < 0.05:
            used.append(generator.randint(1, 13))
        formula = random_formula(used, generator)
        hand = Hand(labels=tuple(map(str, numbers)), numbers=tuple(numbers), target=24)
        expected = expected_outcome(formula, hand.numbers, 24)
        assert verifier.judge(f'{{"formula": "{formula}"}}', hand).outcome == expected, formula
        seen[expected] = seen.get(expected, 0) + 1
    assert min(seen["correct"], seen["wrong_value"], seen["wrong_numbers"]) > 300


@given(st.text(max_size=400))
def test_random_text_is_never_correct_and_never_raises(text: str) -> None:
    for hand in (HAND, SHOWN):
        verdict = judge(text, hand)
        assert not verdict.correct
        assert len(verdict.feedback) < 300


@given(st.text(st.sampled_from("0123456789+-*/()=. "), max_size=60), st.sampled_from(["corrected", "paper"]))
def test_random_formulas_never_raise(formula: str, preset: str) -> None:
    verdict = judge(answer(formula), HAND, preset=preset)
    assert verdict.outcome in EquationVerifier(VerifierConfig.model_validate({"preset": preset})).rewards


def test_feedback_is_short_and_gives_no_solution_away() -> None:
    generator = Random(3)
    found = solutions(HAND.numbers, 24)
    for _ in range(2_000):
        formula = random_formula(generator.sample(HAND.numbers, 4), generator)
        verdict = judge(answer(formula))
        if not verdict.correct:
            assert not any(solution in verdict.feedback for solution in found)
            assert 1 <= verdict.feedback.count(". ") + 1 <= 2


@pytest.mark.parametrize(
    ("formula", "used", "used_in_training"),
    [
        ("(7+4-11)*2", True, False),
        ("(7+4-10)*2", False, True),  # by the training rule, and another value
        ("7*4-2*2", False, False),
        ("7+", False, False),
    ],
)
def test_what_a_formula_counts_is_noticed_whatever_it_makes(formula: str, used: bool, used_in_training: bool) -> None:
    shifted = Hand(labels=("7", "4", "J", "2"), numbers=(7, 4, 11, 2), target=24, training_numbers=(7, 4, 10, 2))
    checks = judge(answer(formula), shifted).checks
    assert (checks["numbers_used"], checks["training_numbers_used"]) == (used, used_in_training)


@pytest.mark.parametrize(
    ("formula", "legal", "makes_target"),
    [
        ("(7+4-11)*2", True, False),
        ("4*(7+10-11)", True, True),  # whatever the hand is
        ("6*4=25", True, True),
        ("7*4/0", True, False),
        ("7+", False, False),
    ],
)
@pytest.mark.parametrize("preset", ["corrected", "paper"])
def test_what_no_rule_changes_is_noticed_beside_it(formula: str, legal: bool, makes_target: bool, preset: str) -> None:
    hand = Hand(labels=("7", "4", "J", "2"), numbers=(7, 4, 11, 2), target=24)
    checks = EquationVerifier(VerifierConfig.model_validate({"preset": preset})).judge(answer(formula), hand).checks
    assert (checks["formula_legal"], checks["makes_target"]) == (legal, makes_target)


def test_a_hand_that_both_rules_count_alike_does_not_tell_them_apart() -> None:
    alike = Hand(labels=("7", "4", "5", "2"), numbers=(7, 4, 5, 2), target=24, training_numbers=(7, 4, 5, 2))
    assert "training_numbers_used" not in judge(answer("7+4+5+2"), alike).checks
