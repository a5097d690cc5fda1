"""Add two numbers: the smallest environment, and the one to copy.

A new environment is one file like this and one YAML that names it (`configs/envs/add_up.yaml`). It needs two
classes: `Config`, the options, and `Environment`, which opens an episode for a seed. The contract tests find it.
"""

from random import Random

from pydantic import Field

from envs.protocol import OpenEpisode, Question, Split, generator_for
from envs.revision import RevisedQuestion
from envs.splits import SplitConfig, draw_until
from verifier.config import VerifierConfig
from verifier.exact_value import ExactValueVerifier, Expected


class Config(SplitConfig):
    """The options of `add_up`."""

    largest: int = Field(default=99, ge=1, le=10**9)
    """Both numbers are drawn from 0 to this."""


class Environment:
    """Asks for the sum of two numbers."""

    def __init__(self, config: Config, verifier_config: VerifierConfig) -> None:
        self.config = config
        self.verifier = ExactValueVerifier(verifier_config)

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The sum that `seed` stands for."""
        a, b = draw_until(
            generator_for("add_up", split, seed),
            lambda generator: (generator.randint(0, self.config.largest), generator.randint(0, self.config.largest)),
            lambda pair: self.config.admits(f"add_up {min(pair)} {max(pair)}", split),
            f"largest={self.config.largest} in the {split} split",
        )
        question = Question(
            text=f'What is {a} + {b}? Answer with JSON only: {{"sum": "a whole number"}}',
            reference=Expected(field="sum", value=str(a + b)),
            expert_answer=f'{{"sum": {a + b}}}',
        )
        return RevisedQuestion(
            question,
            self.verifier,
            max_attempts=self.config.max_attempts,
            draw_mistake=lambda generator: f'{{"sum": {_nearby(a + b, generator)}}}',
        )


def _nearby(total: int, generator: Random) -> int:
    """A forgotten or an imagined carry, or a slip by one."""
    return max(0, total + generator.choice([-10, -1, 1, 10]))
