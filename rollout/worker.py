"""A rollout worker: a Ray actor with one engine, which plays the tasks it is given and adopts new weights.

    start_worker(name, model, config)                     ─▶  RolloutWorker (actor)
    stream(name, worker, env, verifier, tasks, config)    ⇢   (Played, ObjectRef[Episode]) as each episode ends

The four calls of a weight update come from the sender (`rollout/weight_transfer.py`) through `rollout/receivers.py`.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
import ray

from envs.catalog import shared_environment
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.engine import EngineError, EngineState
from rollout.engine_stats import Meter, WorkerStats
from rollout.episode import Episode, EpisodeEnd
from rollout.play import Round, Task, Way, play_rounds
from rollout.probe import ProbeExpectation
from rollout.receivers import own_place
from rollout.sign import Phase, Sign
from rollout.streams import NO_ROUNDS, Streams
from rollout.traffic import Traffic, total, traffic_of
from rollout.transcript import ChatTokens
from rollout.vllm_engine import VllmEngine
from rollout.weight_files import file_with
from rollout.weight_transfer import Place
from verifier.config import VerifierConfig

FOREVER = 1e6
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a driver has to know of an episode that it never looks into."""

    task: Task
    """Which episode it was; without its `draw`."""
    part: str
    """Which part of a mixture asked; empty without one."""
    end: EpisodeEnd
    """Why it is over."""
    error: str | None
    """The traceback, where it failed."""
    reward: float
    """What it earned."""
    num_turns: int
    """How many answers were drawn."""
    num_right: int
    """How many of them the verifier called right."""
    traffic: Traffic
    """What went through the model, pictures expanded."""
    num_context_tokens: int
    """The length of the dialogue before each answer, added up."""
    oldest_version: int
    """The oldest version of the policy that drew any of its tokens; without tokens, more than there can be."""
    drawn: int
    """A checksum of the task and of all tokens that were drawn: two plays with the same one are the same."""

    @property
    def num_tokens(self) -> int:
        """The length of all dialogues, pictures expanded."""
        return self.traffic.tokens

    @property
    def num_sampled_tokens(self) -> int:
        """How many tokens were drawn."""
        return self.traffic.scored

    @classmethod
    def of(cls, episode: Episode, chat: ChatTokens, of_round: str = "") -> Self:
        """The summary of an episode."""
        before = num_context_tokens = 0
        traffic = list(traffic_of(episode, chat))
        for turn, added in zip(episode.turns, traffic, strict=True):
            before = (0 if turn.starts_new_context else before) + added.tokens
            num_context_tokens += before - added.scored
        versions = [span.version for turn in episode.turns for span in turn.policy_versions]
        return cls(
            task=Task(seed=episode.seed, split=episode.split, sample=episode.sample, round=of_round),
            part=episode.part,
            end=episode.end,
            error=episode.error,
            reward=episode.reward,
            num_turns=len(episode.turns),
            num_right=sum(turn.verdict.correct for turn in episode.turns),
            traffic=total(traffic),
            num_context_tokens=num_context_tokens,
            oldest_version=min(versions, default=sys.maxsize),
            drawn=_checksum(episode),
        )


def _checksum(episode: Episode) -> int:
    words = f"{episode.split}/{episode.seed}/{episode.sample}".encode()
    return reduce(lambda so_far, turn: crc32(turn.sampled_token_ids.tobytes(), so_far), episode.turns, crc32(words))


class RolloutWorker:
    """One engine, and the episodes that it plays. Runs as an asynchronous Ray actor."""

    def __init__(self, name: str, model: str, config: RolloutConfig) -> None:
        self._name = name
        self._config = config
        self._chat = ChatTokens.load(Path(model))
        self._model = Path(model)
        self._engine: VllmEngine | None = None
        self._phase = Phase()
        self._meter = Meter()

    async def start(self) -> float:
        """Load the policy, or make the engine of one that is like it ready for another learner; the seconds that it
        took."""
        started = time.monotonic()
        if self._engine is not None:
            await self._engine.begin_anew()
            self._meter = Meter()
            return time.monotonic() - started
        with self._phase.of("start"):
            self._engine = await VllmEngine.start(
                self._model,
                self._config.engine,
                forbidden_token_ids=self._chat.forbidden_token_ids,
                keeps_cache=self._config.keep_cache == "within_lag",
            )
        return time.monotonic() - started

    @property
    def engine(self) -> VllmEngine:
        """The engine, once it has started."""
        if self._engine is None:
            raise EngineError(f"rollout worker {self._name} was asked to play before start()")
        return self._engine

    async def play(
        self,
        env: EnvConfig,
        verifier: VerifierConfig,
        tasks: Sequence[Task],
        config: RolloutConfig,
        rounds: Mapping[str, Round] = NO_ROUNDS,
    ) -> AsyncIterator[Episode | Played]:
        """Each episode as it ends, and behind it what it was; tasks of a round are asked what that says."""
        rounds = {"": Round(env=env, verifier=verifier, temperature=config.temperature), **rounds}
        ways = {}
        for name in {task.round for task in tasks}:
            asked = rounds[name]
            asks = await asyncio.to_thread(shared_environment, asked.env, asked.verifier)
            ways[name] = Way(asks, asked.temperature, asked.verifier.noise)
        async with aclosing(play_rounds(ways, self.engine, self._chat, tasks, config)) as ended:
            async for task, episode in ended:
                played = Played.of(episode, self._chat, task.round)
                self._meter.played(played.end, played.num_sampled_tokens)
                yield episode
                yield played

    async def process_id(self) -> int:
        """Which process of its host this is."""
        return os.getpid()

    async def alive(self) -> Sign:
        """A sign of life from the engine, or from this process while there is none."""
        return self._phase.sign() if self._engine is None else await self._engine.alive()

    async def place(self) -> Place:
        """Where it is, and how many ranks its engine has."""
        return own_place(self._config.engine.tensor_parallel_size)

    async def state(self) -> EngineState:
        """Whether the engine may play."""
        return self.engine.state

    async def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """First call of all updates: how weights will arrive."""
        await self.engine.init_weight_transfer(init_info)

    async def start_weight_update(self) -> None:
        """From here on STALE."""
        await self.engine.start_weight_update()

    async def update_weights(self, update_info: dict[str, Any], contents: np.ndarray | None = None) -> None:
        """One bucket; the contents of its file come along where that is on another host."""
        if contents is None:
            await self.engine.update_weights(update_info)
            return
        with file_with(contents) as path:
            await self.engine.update_weights({**update_info, "path": str(path)})

    async def finish_weight_update(self, version: int) -> None:
        """All buckets are in; still STALE until `verify`."""
        await self.engine.finish_weight_update(version)

    async def verify(self, expected: ProbeExpectation) -> float:
        """READY, if what the engine says of the probe is what the learner says; the largest gap."""
        gap = await self.engine.verify(expected)
        self._meter.adopted(expected.version)
        return gap

    async def stats(self) -> WorkerStats:
        """How full it is, how fast, and how old its weights are."""
        return await self._meter.stats(self.engine)

    async def digests(self) -> dict[str, int]:
        """The digest of each of its weights."""
        return await self.engine.digests()

    async def sleep(self) -> None:
        """Leave the GPU to the learner."""
        await self.engine.sleep()

    async def wake(self) -> None:
        """Take the GPU back."""
        await self.engine.wake()

    async def close(self) -> None:
        """Release the engine; the actor may be killed then."""
        if self._engine is not None:
            await self._engine.close()


def start_worker(name: str, model: Path, config: RolloutConfig, **resources: Any) -> Any:
    """The actor, under a name that tells a reader of the Ray dashboard what it does; call `start` on it."""
    actor = ray.remote(RolloutWorker).options(name=name, max_concurrency=1000, **resources)
    return actor.remote(name, str(model.resolve()), config)


def stream(
    name: str,
    worker: Any,
    env_config: EnvConfig,
    verifier_config: VerifierConfig,
    tasks: Sequence[Task],
    config: RolloutConfig,
    rounds: Mapping[str, Round] = NO_ROUNDS,
) -> Iterator[tuple[Played, Any]]:
    """What was played and the reference to its episode, as episodes end; the episodes themselves are not fetched."""
    streams: Streams[str] = Streams(env_config, verifier_config, config, rounds)
    streams.open(name, name, worker, tasks)
    while streams:
        for _, item in streams.ended(FOREVER):
            if isinstance(item, Exception):
                raise item
            yield item
