"""Countdown: make a free target from a handful of numbers; the verifier of GeneralPoints, and no cards.

The target is what some formula over the numbers makes, so every task can be solved. Splits go by the multiset of
numbers and are shared with GeneralPoints: a multiset that one holds out is held out in the other.
"""

from random import Random
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from envs._cards.hands import demonstrate, mistaken, random_value, split_key
from envs._cards.wording import solve_text
from envs.protocol import OpenEpisode, Question, Split, generator_for
from envs.revision import RevisedQuestion
from envs.splits import SplitConfig, draw_until
from envs.wording import Wording
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand


class Config(SplitConfig):
    """The options of `countdown`."""

    task_options: ClassVar = (
        *("num_numbers", "largest_number", "smallest_target", "largest_target", "wording", "thinking"),
    )

    num_numbers: int = Field(default=4, ge=3, le=6)
    """How many numbers are given."""
    largest_number: int = Field(default=13, ge=2, le=100)
    """Numbers are drawn from 1 to this, with replacement."""
    smallest_target: int = Field(default=1, ge=1, le=10_000)
    """The least target."""
    largest_target: int = Field(default=100, ge=1, le=10_000)
    """The greatest target."""
    wording: Wording = "fixed"
    """One wording for all questions, or any of several paraphrases for each."""
    thinking: bool = False
    """Whether the answer begins with a `thinking` field; demonstrations then show a search."""
    demonstration: Literal["shortest", "any"] = "shortest"
    """Which of a hand's solutions a demonstration shows."""

    @model_validator(mode="after")
    def _targets_in_order(self) -> "Config":
        if self.smallest_target > self.largest_target:
            raise ValueError("smallest_target must not be greater than largest_target")
        return self


class Environment:
    """Asks for a formula that makes a free target."""

    def __init__(self, config: Config, verifier_config: VerifierConfig) -> None:
        self.config = config
        self.verifier = EquationVerifier(verifier_config)

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The numbers and the target that `seed` stands for."""
        config = self.config
        hand = draw_until(
            generator_for("countdown hand", split, seed),
            self._draw_hand,
            lambda hand: hand is not None and config.admits(split_key(hand.numbers), split),
            f"targets from {config.smallest_target} to {config.largest_target} in the {split} split",
        )
        assert hand is not None
        question = Question(
            text=solve_text(
                target=hand.target,
                num=config.num_numbers,
                hand=", ".join(hand.labels),
                rule="",
                one="number",
                thinks=config.thinking,
                wording=config.wording,
                generator=generator_for("countdown wording", split, seed),
            ),
            reference=hand,
            expert_answer=demonstrate(
                hand,
                generator_for("countdown demonstration", split, seed),
                with_cards=False,
                thinks=config.thinking,
                shortest=config.demonstration == "shortest",
            ),
        )
        return RevisedQuestion(
            question,
            self.verifier,
            max_attempts=config.max_attempts,
            draw_mistake=lambda generator: mistaken(hand, generator, with_cards=False),
        )

    def _draw_hand(self, generator: Random) -> Hand | None:
        """Numbers and a target in range that they make, or None where the drawn formula makes another value."""
        config = self.config
        numbers = tuple(generator.randint(1, config.largest_number) for _ in range(config.num_numbers))
        target = random_value(numbers, generator)
        if target is None or not config.smallest_target <= target <= config.largest_target:
            return None
        return Hand(labels=tuple(map(str, numbers)), numbers=numbers, target=target)
