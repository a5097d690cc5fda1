"""Sums that cannot all be asked: some raise, some never come; and where wanted all come late."""

import time
from threading import Event
from typing import Any

from envs import add_up
from envs.protocol import OpenEpisode, Split


class Config(add_up.Config):
    """The options of `unreliable`."""

    raises: tuple[int, ...] = ()
    """The seeds that raise."""
    hangs: tuple[int, ...] = ()
    """The seeds that never come."""
    seconds_to_make: float = 0.0
    """How long it takes to make the environment."""


class Environment(add_up.Environment):
    """Asks for the sum of two numbers, if it asks."""

    config: Config
    num_made = 0

    def __init__(self, config: Config, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        time.sleep(config.seconds_to_make)
        Environment.num_made += 1

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The sum that `seed` stands for."""
        if seed in self.config.raises:
            raise LookupError(f"the sum of seed {seed} is lost")
        if seed in self.config.hangs:
            Event().wait()
        return super().open(seed, split)
