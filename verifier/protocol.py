"""What a verifier is, and what it says of an answer.

    answer (text) + reference (what only the verifier knows)  →  Verdict

A verifier is a pure function of the two: no state, no randomness, no exception for any text. Everything that
metrics, rewards, feedback and token weights need later is in the verdict, so that no answer is read twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar

SpanLabel = Literal["recognition", "reasoning", "action"]

ReferenceT = TypeVar("ReferenceT", contravariant=True)

UNSCORED = "attempts_exceeded"
"""The outcome of an answer that is asked for and never judged."""


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of an answer that play one part in it.

    In `{"cards": ["A", "3"], "formula": "1+3"}` the list of cards is `recognition`, the formula `action`;
    whatever no span covers is format.
    """

    label: SpanLabel
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier says of one answer.

    Example, for the hand 7, 5, 10, 4 and the answer `{"formula": "(7-5)*10+5"}`:

        Verdict(outcome="wrong_numbers", correct=False, reward=-2.0,
                feedback="The formula does not use 4. It uses 5 more often than it was given.",
                spans=(Span(label="action", start=13, end=23),),
                checks={"readable": True, "numbers_read": False})
    """

    outcome: str
    """A stable label for metrics and reward tables, one of the verifier's documented outcomes."""
    correct: bool
    """Whether the question is answered; it can never be true for two different outcomes of one verifier."""
    reward: float
    """What the outcome earns."""
    feedback: str
    """What to tell the model, in one or two sentences that never give a solution away."""
    spans: tuple[Span, ...] = ()
    """Which characters were recognition, reasoning and action, in order and without overlap."""
    checks: Mapping[str, bool]
    """Side facts that metrics count, by name (`readable`, `cards_recognised`, …); a name that is absent was not
    asked for by this question."""


class Verifier(Protocol[ReferenceT]):
    """Judges answers to one kind of question."""

    def judge(self, answer: str, reference: ReferenceT) -> Verdict:
        """Judge any text at all, in bounded time, without raising."""
        ...
