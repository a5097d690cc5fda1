"""Many who are late at once are told in one line, and in another when they answer again: real Ray, no engines."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from cluster.groups.health import Health, Watched
from rollout.sign import Sign

MANY = 40


class Slow:
    """Answers for as many as there are, and while it is held for none."""

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()

    async def hold(self, holds: bool) -> None:
        """From now on, or no more."""
        (self._free.clear if holds else self._free.set)()

    async def alive(self) -> Sign:
        """When it is free."""
        await self._free.wait()
        return Sign(host="here", process_id=1, phase="waiting", seconds=0.0)


class Seat:
    """One of them, told apart."""

    def __init__(self, host: Any) -> None:
        self.alive = host.alive


@pytest.fixture
def slow() -> Iterator[Any]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray.remote(num_cpus=0, max_concurrency=10 * MANY)(Slow).remote()  # pyright: ignore[reportCallIssue]
    ray.shutdown()


def until(told: list[str], pattern: str) -> str:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if found := [line for line in told if re.search(pattern, line)]:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"nobody said {pattern}; said was {told}")


def test_many_who_are_late_at_once_are_one_line(slow: Any) -> None:
    told, doubts = list[str](), list[bool]()
    health = Health(20.0, told.append)
    seats = [Seat(slow) for _ in range(MANY)]
    for number, seat in enumerate(seats):
        health.watch(Watched(f"worker-{number}", seat, died=told.append, doubted=doubts.append, group=None))
    health.ask(seats)
    ray.get(slow.hold.remote(True))
    late = until(told, "not answered")
    assert re.match(
        rf"worker-0 and {MANY - 1} others have not answered for 1\d s; of the first: last heard \d+ s ago", late
    )
    ray.get(slow.hold.remote(False))
    assert until(told, "again") == f"worker-0 and {MANY - 1} others answer again"
    health.close()
    assert len(told) == 2
    assert doubts == [True] * MANY + [False] * MANY
