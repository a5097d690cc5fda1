"""The smallest verifier: one field of the answer must hold one value.

    | outcome    | earns | when                                |
    | correct    | +1    | the field holds the expected value  |
    | wrong      | −0.5  | it holds another                    |
    | unreadable | −1    | the field is not there              |

Whole numbers are compared as numbers, everything else as text without regard to case.
"""

from dataclasses import dataclass

from verifier.config import VerifierConfig, reward_table
from verifier.form import Form, read_as_asked
from verifier.protocol import Span, Verdict

REWARDS = {"correct": 1.0, "wrong": -0.5, "unreadable": -1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the answer has to hold: `Expected(field="sum", value="42")`."""

    field: str
    """The name of the field that is judged."""
    value: str
    """What it has to hold."""


class ExactValueVerifier:
    """Judges answers that are one value; scored alike under every preset."""

    def __init__(self, config: VerifierConfig) -> None:
        self.form: Form = config.form
        self.rewards = reward_table(REWARDS, config.rewards)

    def judge(self, answer: str, reference: Expected) -> Verdict:
        """The verdict on any text whatsoever."""
        fields = read_as_asked(answer, (reference.field,), self.form)
        field = fields.get(reference.field)
        if field is None:
            outcome, feedback = "unreadable", f'The answer has no readable "{reference.field}" field.'
        elif _same(field.text, reference.value):
            outcome, feedback = "correct", "Correct."
        else:
            outcome, feedback = "wrong", f"The value of {reference.field} is not right."
        return Verdict(
            outcome=outcome,
            correct=outcome == "correct",
            reward=self.rewards[outcome],
            feedback=feedback,
            spans=(Span(label="action", start=field.start, end=field.end),) if field else (),
            checks={"readable": field is not None},
        )


def _same(written: str, expected: str) -> bool:
    written = written.strip()
    if written.isdecimal() and expected.isdecimal() and len(written) <= 100:
        return int(written) == int(expected)
    return written.casefold() == expected.casefold()
