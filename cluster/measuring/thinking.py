"""What answers say that they tried, held against arithmetic: every statement of a thought is computed again.

thinking/statements_right   of the equations that thoughts state, those that are so
thinking/backtracks         of the answers that think, those that drop a try, for a reason that is so
thinking/checks             of the answers that think, those that check what they give, and are right in that
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from rollout.scores import Rate
from verifier.answer_format import read_fields
from verifier.arithmetic import IllegalFormula, parse_equation
from verifier.solver import is_solvable

_STATED = re.compile(r"(?P<formula>[\d(][\d+*/() -]*) = (?P<value>-?\d+(?:/[1-9]\d*)?)(?P<dropped>, no\b)?")
_DEAD_END = re.compile(r" = (?P<value>\d+): (?P<left>\d+(?:, \d+)*) cannot make (?P<target>\d+)")
_CHECK = re.compile(r"Check: it uses (?P<numbers>\d+(?:, \d+)*), each once")
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
        """Of an answer that thinks; None of others."""
        said = read_fields(answer, ("thinking", "formula"))
        if "thinking" not in said:
            return None
        text = said["thinking"].text
        stated = [(match, _is_so(match)) for match in _STATED.finditer(text)]
        return cls(
            statements=len(stated),
            right=sum(is_so for _, is_so in stated),
            backtracks=any(is_so and match["dropped"] for match, is_so in stated) or _has_dead_end(text),
            checks=_is_checked(text, said["formula"].text if "formula" in said else ""),
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
    try:
        return parse_equation(stated["formula"]).value == Fraction(stated["value"])
    except IllegalFormula:
        return False


def _has_dead_end(text: str) -> bool:
    """Whether it leaves a way from which there is none to the target."""
    for match in _DEAD_END.finditer(text):
        left = [int(number) for number in match["left"].split(", ")]
        if len(left) <= MOST_NUMBERS and int(match["value"]) in left and not is_solvable(left, int(match["target"])):
            return True
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
