"""What a rollout worker says of itself while it plays: how full it is, how fast, and how old its weights are.

    Meter().played(one); .adopted(version)       in the worker, as it happens
    await meter.stats(engine)  →  WorkerStats     with what vLLM's scheduler says of itself at that moment

vLLM's own statistics are made at every step and for every token; these are read when someone asks, and cost nothing
otherwise. `teach` makes vLLM's core process answer, by way of the plug-in in rollout/weight_transfer.py.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rollout.episode import EpisodeEnd

if TYPE_CHECKING:
    from rollout.vllm_engine import VllmEngine

QUESTION = "occupancy"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """A worker at one moment; what is counted is counted since it started."""

    version: int
    """Of the policy that it holds."""
    weights_age_seconds: float
    """How long it has held that."""
    sampled_tokens: int
    """How many tokens were drawn in episodes that have ended."""
    ended: Mapping[EpisodeEnd, int]
    """How many episodes have ended how."""
    running: int
    """How many answers are being drawn."""
    waiting: int
    """How many wait for room."""
    cache_used: float
    """Which share of the room for keys and values is taken."""
    prefix_asked: int
    """How many tokens of prompts were looked up in the prefix cache."""
    prefix_hit: int
    """How many of them were there."""

    def numbers(self, before: Self | None = None, seconds: float = 0.0) -> dict[str, float]:
        """As metrics; what is told by the second, or as a share, is of the seconds since it was asked before."""
        numbers: dict[str, float] = {
            "engine/version": self.version,
            "engine/weights_age_seconds": self.weights_age_seconds,
            "engine/running": self.running,
            "engine/waiting": self.waiting,
            "engine/cache_used": self.cache_used,
            **{f"engine/ended/{end.value}": self.ended.get(end, 0) for end in EpisodeEnd},
        }
        if before is not None and seconds:
            numbers["engine/tokens_per_second"] = (self.sampled_tokens - before.sampled_tokens) / seconds
            if asked := self.prefix_asked - before.prefix_asked:
                numbers["engine/prefix_hits"] = (self.prefix_hit - before.prefix_hit) / asked
        return numbers


class Meter:
    """Counts what a worker does."""

    def __init__(self) -> None:
        self._sampled_tokens = self._prefix_asked = self._prefix_hit = self._version = 0
        self._ended: Counter[EpisodeEnd] = Counter()
        self._adopted = time.monotonic()

    def played(self, end: EpisodeEnd, sampled_tokens: int) -> None:
        """An episode has ended."""
        self._ended[end] += 1
        self._sampled_tokens += sampled_tokens

    def adopted(self, version: int) -> None:
        """The engine holds these weights from now on."""
        self._version, self._adopted = version, time.monotonic()

    async def stats(self, engine: "VllmEngine") -> WorkerStats:
        """All of it, with what the scheduler says now."""
        running, waiting, cache_used, asked, hit = await engine._llm.engine_core.call_utility_async(QUESTION)
        self._prefix_asked += asked
        self._prefix_hit += hit
        return WorkerStats(
            version=self._version,
            weights_age_seconds=time.monotonic() - self._adopted,
            sampled_tokens=self._sampled_tokens,
            ended=dict(self._ended),
            running=running,
            waiting=waiting,
            cache_used=cache_used,
            prefix_asked=self._prefix_asked,
            prefix_hit=self._prefix_hit,
        )


def occupancy(core: Any) -> list[float]:
    """In vLLM's core process: answers that run and wait, the share of the cache in use, and how many tokens were looked
    up in the prefix cache and found since the last time."""
    from vllm.v1.metrics.stats import PrefixCacheStats

    cache = core.scheduler.kv_cache_manager
    if not cache.log_stats:  # it counts from the first question on
        cache.log_stats, cache.prefix_cache_stats = True, PrefixCacheStats()
    found = cache.make_prefix_cache_stats()
    running, waiting = core.scheduler.get_request_counts()
    return [running, waiting, cache.usage, found.queries, found.hits]


def teach() -> None:
    """Have the core of this process's vLLM answer."""
    from vllm.v1.engine.core import EngineCore

    setattr(EngineCore, QUESTION, occupancy)
