"""What answers say that they tried, held against arithmetic: every statement of a thought is computed again.

thinking/statements_right   of the equations that thoughts state, those that are so, of whatever numbers
thinking/backtracks         of the answers that think, those that drop a try that misses, or a dead end that is one
thinking/checks             of the answers that think, those that check what they give, and are right in that

Of games with numbers alone: an answer without a formula says nothing that could be computed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from rollout.scores import Rate
from verifier.answer_format import read_fields
from verifier.arithmetic import IllegalFormula, parse_equation
from verifier.solver import is_solvable

# Numbers of more than nine digits, and formulas of more than eighty characters, are no part of any game.
_STATED = re.compile(
    r"(?<![\d+*/()-])(?P<formula>-?[\d(][\d+*/()-]{0,80}) = (?P<value>-?\d{1,9}(?:/[1-9]\d{0,8})?)(?![\d/])"
    r"(?P<dropped>, no\b|: (?P<left>\d{1,9}(?:, \d{1,9}){0,9}) cannot make (?P<target>\d{1,9})\b)?"
)
_CHECK = re.compile(r"Check: it uses (?P<numbers>\d{1,9}(?:, \d{1,9}){0,9}), each once")
MOST_NUMBERS = 5
"""What is left of more than these takes long to search."""


@dataclass(frozen=True, slots=True)
class Thought:
    """What one answer states before it answers."""

    statements: int
    right: int
    backtracks: bool
    checks: bool

    @classmethod
    def of(cls, answer: str) -> "Thought | None":
        """Of an answer that thinks and gives a formula; None of others."""
        if "thinking" not in answer:
            return None  # most say nothing of it, and need not be read again
        said = read_fields(answer, ("thinking", "formula"))
        if said.keys() != {"thinking", "formula"}:
            return None
        text, formula = said["thinking"].text, said["formula"].text
        stated = [(match, _is_so(match)) for match in _STATED.finditer(text)]
        return cls(
            statements=len(stated),
            right=sum(is_so for _, is_so in stated),
            backtracks=any(is_so and _misses(match, formula) for match, is_so in stated),
            checks=_is_checked(text, formula),
        )


def thoughts(answers: Iterable[str]) -> dict[str, Rate]:
    """Of all answers that think; nothing where none does."""
    known = [thought for answer in answers if (thought := Thought.of(answer)) is not None]
    if not known:
        return {}
    statements = sum(thought.statements for thought in known)
    rates = {
        "thinking/backtracks": Rate(sum(thought.backtracks for thought in known), len(known)),
        "thinking/checks": Rate(sum(thought.checks for thought in known), len(known)),
    }
    if statements:
        rates["thinking/statements_right"] = Rate(sum(thought.right for thought in known), statements)
    return rates


def _is_so(stated: re.Match[str]) -> bool:
    formula = stated["formula"]
    try:
        # A formula of the game never begins with a sign; a thought's may.
        value = parse_equation(f"0{formula}" if formula.startswith("-") else formula).value
        return value == Fraction(stated["value"])
    except IllegalFormula:
        return False


def _misses(stated: re.Match[str], formula: str) -> bool:
    """Whether it is dropped, and rightly: its value is not what the answer makes, or what is left cannot make it."""
    if stated["left"]:
        left = [int(number) for number in stated["left"].split(", ")]
        made = stated["value"] in stated["left"].split(", ")
        return len(left) <= MOST_NUMBERS and made and not is_solvable(left, int(stated["target"]))
    if not stated["dropped"]:
        return False
    try:
        return parse_equation(formula).value != Fraction(stated["value"])
    except IllegalFormula:
        return False


def _is_checked(text: str, formula: str) -> bool:
    """Whether the numbers that it says it uses are those of its formula."""
    if (match := _CHECK.search(text)) is None:
        return False
    try:
        used = parse_equation(formula).numbers
    except IllegalFormula:
        return False
    return sorted(map(int, match["numbers"].split(", "))) == sorted(used)
