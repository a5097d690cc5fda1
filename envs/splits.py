"""Train, validation and test: which tasks belong where, decided by a hash of what makes a task itself.

The hash is of the task's content, never of its index or of the rest of the data, so a task stays in its split when
options change, when data are added, and across environments: a number multiset held out in one is held out in all.
"""

import hashlib
from collections.abc import Callable
from random import Random
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from envs.protocol import EnvConfig, EnvError, Split

TaskT = TypeVar("TaskT")


class SplitConfig(EnvConfig):
    """The options of an environment whose tasks are split."""

    splits: Literal["exact", "none"] = "exact"
    """`exact`: no task of one split is ever drawn in another. `none`: every split draws from all tasks, as the
    original did."""
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of all tasks that is held out for choosing between checkpoints."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Share of all tasks that is held out for the final measurement."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction together must leave something to train on")
        return self

    def admits(self, key: str, split: Split) -> bool:
        """Whether the task that `key` identifies may be drawn in `split`."""
        return self.splits == "none" or self._split_of(key) == split

    def _split_of(self, key: str) -> Split:
        digest = hashlib.sha256(key.encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.test_fraction:
            return "test"
        return "validation" if position < self.test_fraction + self.validation_fraction else "train"


def draw_until(
    generator: Random,
    draw: Callable[[Random], TaskT],
    accepts: Callable[[TaskT], bool],
    options: str,
    max_draws: int = 20_000,
) -> TaskT:
    """The first drawn task that is accepted; raises EnvError where the options leave none."""
    for _ in range(max_draws):
        task = draw(generator)
        if accepts(task):
            return task
    raise EnvError(f"none of {max_draws} drawn tasks fits {options}; loosen one of them")
