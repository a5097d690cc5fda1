"""Outcome label → reward: a preset, changed here and there by the config.

    verifier:
      preset: corrected            # or `paper`: score as the original code did, for comparison with its figures
      rewards: {wrong_value: -0.5}

Each verifier lists its own outcomes and what they earn; a label that it does not know is an error.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from verifier.form import Form

Preset = Literal["corrected", "paper"]
Feedback = Literal["full", "outcome", "none"]
SAID = {"preset", "feedback", "noise", "form"}
"""Options that mean the same for every verifier."""


class UnknownOutcome(ValueError):
    """A reward was set for a label that no outcome of the verifier bears; the message names the nearest."""


class VerifierConfig(BaseModel):
    """How answers are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: Preset = "corrected"
    """`corrected`: one outcome per answer, exact arithmetic, the right fields checked. `paper`: the original's
    scoring with its quirks, so that its published figures can be compared."""
    rewards: Mapping[str, float] = {}
    """Rewards that differ from the preset's, by outcome label."""
    feedback: Feedback = "full"
    """What the model is told before it tries again: in words what was wrong, the outcome's name alone, or nothing."""
    form: Form = "any"
    """How an answer has to be written to be read: `any` way in which its fields can be found, as one `json` object, or
    as `original` demands it (`env.written=original`). Others are unreadable; preset `paper` has its own ways."""
    noise: float = Field(default=0.0, ge=0, lt=0.5)
    """With which chance an answer that is played to learn from is judged the other way round. Suites of an evaluation
    are judged without it, unless they name it themselves."""

    @model_validator(mode="after")
    def _reads_one_way(self) -> Self:
        if self.preset == "paper" and self.form != "any":
            raise ValueError(f"form={self.form}: preset=paper reads answers as the original did; leave form at any")
        return self


def reward_table(defaults: Mapping[str, float], overrides: Mapping[str, float]) -> dict[str, float]:
    """The preset's table with the config's changes; raises UnknownOutcome for a label that no outcome bears."""
    for label in overrides:
        if label not in defaults:
            close = get_close_matches(label, defaults, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"the outcomes are {', '.join(defaults)}."
            raise UnknownOutcome(f"verifier.rewards.{label}: no outcome of this verifier has that label; {hint}")
    return {**defaults, **overrides}
