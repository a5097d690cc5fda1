"""Sums that cannot all be asked: some raise, some never come."""

from threading import Event

from envs import add_up
from envs.protocol import OpenEpisode, Split


class Config(add_up.Config):
    """The options of `unreliable`."""

    raises: tuple[int, ...] = ()
    """The seeds that raise."""
    hangs: tuple[int, ...] = ()
    """The seeds that never come."""


class Environment(add_up.Environment):
    """Asks for the sum of two numbers, if it asks."""

    config: Config

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The sum that `seed` stands for."""
        if seed in self.config.raises:
            raise LookupError(f"the sum of seed {seed} is lost")
        if seed in self.config.hangs:
            Event().wait()
        return super().open(seed, split)
