"""The verifier of the 24 game and its kin: a formula must use each number of a hand once and make the target.

The answer is read from the fields `cards`, `number` and `formula` (and `thinking`, which is never judged).
One outcome per answer; the first that applies, in this order:

    | outcome         | earns | when                                                                            |
    | unreadable      | −3    | there is no `formula` (or no `cards`, where only these are asked for)           |
    | wrong_cards     | −1.5  | the hand is a picture and `cards` is not the hand, in any order                 |
    | illegal_formula | −3    | the formula is none: other signs, brackets that do not match, a second `=` …    |
    | wrong_numbers   | −2    | it does not use each number of the hand exactly once                            |
    | wrong_value     | −1    | it makes another value, divides by zero, or states another value after `=`      |
    | correct         | +5    |                                                                                 |

`attempts_exceeded` (−1) is for the answer that the original asks for after the last scored attempt and never reads;
only environments that reproduce it ask that question. Preset `paper` is `verifier._paper_equation`.
"""

from collections import Counter
from fractions import Fraction

from verifier import _paper_equation as paper
from verifier.answer_format import Field, read_integers, read_items, spans_of
from verifier.arithmetic import Equation, IllegalFormula, parse_equation
from verifier.config import VerifierConfig, reward_table
from verifier.form import Form, as_asked, read_as_asked
from verifier.hand import Hand
from verifier.protocol import SpanLabel, Verdict

REWARDS = {
    "correct": 5.0,
    "wrong_value": -1.0,
    "wrong_numbers": -2.0,
    "illegal_formula": -3.0,
    "wrong_cards": -1.5,
    "unreadable": -3.0,
    "attempts_exceeded": -1.0,
}

_LABELS: dict[str, SpanLabel] = {
    "thinking": "reasoning",
    "cards": "recognition",
    "number": "reasoning",
    "formula": "action",
}
_FIELDS = tuple(_LABELS)
_RANK_NAMES = {"ACE": "A", "JACK": "J", "QUEEN": "Q", "KING": "K", "T": "10"}


class EquationVerifier:
    """Judges formulas over a hand of numbers."""

    def __init__(self, config: VerifierConfig) -> None:
        self.preset = config.preset
        self.form: Form = config.form
        self.rewards = reward_table(paper.REWARDS if config.preset == "paper" else REWARDS, config.rewards)

    def judge(self, answer: str, reference: Hand) -> Verdict:
        """The verdict on any text whatsoever."""
        fields = read_as_asked(answer, _FIELDS, self.form)
        equation = _read_equation(fields)
        if not reference.scored:
            outcome, feedback = "attempts_exceeded", "There are no attempts left."
        elif self.preset == "paper":
            checks = _checks(fields, equation, reference)
            return paper.judge(answer, reference, self.rewards, spans_of(fields, _LABELS), checks)
        else:
            outcome, feedback = _outcome(fields, equation, reference, self.form)
        return Verdict(
            outcome=outcome,
            correct=outcome == "correct",
            reward=self.rewards[outcome],
            feedback=feedback,
            spans=spans_of(fields, _LABELS),
            checks=_checks(fields, equation, reference),
        )


def _outcome(
    fields: dict[str, Field], equation: Equation | IllegalFormula | None, reference: Hand, form: Form
) -> tuple[str, str]:
    """The first outcome that applies, and what to say."""
    wanted = "cards" if reference.asks == "cards" else "formula"
    if wanted not in fields:
        return (
            "unreadable",
            f'The answer has no readable "{wanted}" field; {as_asked(form)}',
        )
    if (reference.cards_are_shown or reference.asks == "cards") and not _cards_recognised(fields, reference):
        return "wrong_cards", "The cards are not the ones in the picture; look at them again."
    if reference.asks == "cards":
        return "correct", "Correct."
    if not isinstance(equation, Equation):
        return "illegal_formula", f"The formula {equation}."
    if fault := _number_fault(equation.numbers, reference.numbers):
        return "wrong_numbers", fault
    if equation.value is None:
        return "wrong_value", "The formula divides by zero."
    if equation.value != reference.target:
        return "wrong_value", f"The formula makes {_text(equation.value)}, not {reference.target}."
    if equation.stated not in (None, reference.target):
        return "wrong_value", f"The formula does not equal the {equation.stated} that stands beside it."
    return "correct", "Correct."


def _read_equation(fields: dict[str, Field]) -> Equation | IllegalFormula | None:
    if "formula" not in fields:
        return None
    try:
        return parse_equation(fields["formula"].text)
    except IllegalFormula as fault:
        return fault


def _number_fault(used: tuple[int, ...], given: tuple[int, ...]) -> str:
    """What is wrong with the numbers used; empty where nothing is."""
    if sorted(used) == sorted(given):
        return ""
    used_count, given_count = Counter(used), Counter(given)
    foreign = sorted(number for number in used_count if number not in given_count)
    excess = sorted(number for number in used_count if used_count[number] > given_count[number] > 0)
    unused = sorted((given_count - used_count).elements())
    faults = []
    if foreign:
        faults.append(f"uses {_listed(foreign)}, not in the hand")
    if excess:
        faults.append(f"uses {_listed(excess)} more often than the hand gives it")
    if unused:
        faults.append(f"leaves out {_listed(unused)}")
    return f"The formula {', and '.join(faults)}."


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (" …" if len(numbers) > 6 else "")


def _text(value: Fraction) -> str:
    """A value as it is said in feedback; absurdly long ones are not spelt out."""
    text = str(value)
    return text if len(text) <= 24 else "a number of many digits"


def _cards_recognised(fields: dict[str, Field], reference: Hand) -> bool:
    if "cards" not in fields:
        return False
    items = read_items(fields["cards"].text)
    if len(items) != len(reference.labels):
        return False
    return sorted(_RANK_NAMES.get(item, item) for item in map(_rank, items)) == sorted(reference.labels)


def _rank(item: str) -> str:
    """`k` is K, `١٠` is 10; suits may be named or drawn beside the rank, they are not asked for."""
    item = item.strip("♠♥♦♣♤♡♢♧\ufe0e\ufe0f").upper()
    return str(int(item)) if item.isdecimal() and len(item) <= 2 else item


def _checks(fields: dict[str, Field], equation: Equation | IllegalFormula | None, reference: Hand) -> dict[str, bool]:
    """The side facts of an answer; those that the question does not ask for are absent."""
    checks = {"readable": ("cards" if reference.asks == "cards" else "formula") in fields}
    if reference.cards_are_shown or reference.asks == "cards":
        checks["cards_recognised"] = _cards_recognised(fields, reference)
    if reference.asks == "cards":
        return checks
    numbers = read_integers(fields["number"].text) if "number" in fields else None
    checks["numbers_read"] = numbers is not None and sorted(numbers) == sorted(reference.numbers)
    # What was read is one thing, what the formula counts with another.
    used = sorted(equation.numbers) if isinstance(equation, Equation) else None
    checks["numbers_used"] = used == sorted(reference.numbers)
    # Neither depends on what the cards count.
    checks["formula_legal"] = isinstance(equation, Equation)
    checks["makes_target"] = isinstance(equation, Equation) and equation.value == reference.target
    if reference.training_numbers is not None:
        if sorted(reference.training_numbers) != sorted(reference.numbers):
            checks["training_numbers_used"] = used == sorted(reference.training_numbers)
        checks["right_under_training_rule"] = (
            isinstance(equation, Equation)
            and equation.value == reference.target
            and sorted(equation.numbers) == sorted(reference.training_numbers)
        )
    return checks
