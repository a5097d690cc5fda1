"""A sign of life: what an actor says when it is asked whether it is there.

await worker.alive()   →  Sign(host="10.0.0.3", process_id=4711, phase="weights arrive", seconds=0.4, is_long=True)
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Who answers, and what it is at."""

    host: str
    """The address of its host."""
    process_id: int
    """Its process there."""
    phase: str
    """What it does at present; empty where it waits to be asked for something."""
    seconds: float
    """For how long."""
    is_long: bool = False
    """Whether the phase may take as long as a model's weights take to move."""

    def __str__(self) -> str:
        """For errors.

        >>> print(Sign(host="10.0.0.3", process_id=4711, phase="update", seconds=12.3))
        host 10.0.0.3, process 4711, at 'update' for 12 s
        """
        return f"host {self.host}, process {self.process_id}, at '{self.phase or 'waiting'}' for {self.seconds:.0f} s"


class Phase:
    """What an actor is at; `alive` reads it while another thread or coroutine works."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, bool, float]] = []
        self._idle_since = time.monotonic()

    @contextmanager
    def of(self, name: str, *, is_long: bool = False) -> Iterator[None]:
        """The phase while the block runs."""
        entry = (name, is_long, time.monotonic())
        self._stack.append(entry)
        try:
            yield
        finally:
            self._stack.remove(entry)
            self._idle_since = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether it may take as long as weights take to move."""
        return any(is_long for _, is_long, _ in self._stack)

    def sign(self) -> Sign:
        """As of now."""
        long = [entry for entry in self._stack if entry[1]]
        name, is_long, since = (long or self._stack or [("", False, self._idle_since)])[-1]
        return Sign(
            host=ray.util.get_node_ip_address(),
            process_id=os.getpid(),
            phase=name,
            seconds=time.monotonic() - since,
            is_long=is_long,
        )
