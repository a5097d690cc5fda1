"""Actors that play nothing, and go wrong at some seeds; they load little and are there at once."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

HANGS, RAISES, DIES, DIES_BEFORE_THE_SUMMARY = 1001, 1002, 1003, 1004


class Unreadable:
    """An episode that only its process can have."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise AssertionError("an episode was fetched")


class Player:
    """Plays tasks one after the other; their seeds are all that is told of them."""

    num_playing = 0

    async def playing(self) -> int:
        return self.num_playing

    async def play(self, _env: Any, _verifier: Any, tasks: Sequence[Any], *_how: Any) -> AsyncIterator[Any]:
        self.num_playing += 1
        try:
            async for each in self._played(tasks):
                yield each
        finally:
            self.num_playing -= 1

    async def _played(self, tasks: Sequence[Any]) -> AsyncIterator[Any]:
        for task in tasks:
            if task.seed == HANGS:
                await asyncio.sleep(1000)
            if task.seed == RAISES:
                raise ValueError("seed 1002 cannot be played")
            if task.seed == DIES:
                await asyncio.sleep(0.2)  # until what was yielded has gone
                os._exit(1)
            yield Unreadable()
            if task.seed == DIES_BEFORE_THE_SUMMARY:
                await asyncio.sleep(0.2)
                os._exit(1)
            yield task.seed
