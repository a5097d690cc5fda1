"""What answers in the place of engines and learner ranks, each after a time of its own, so that only the driver works.

    with stand_ins(config) as (launcher, learner):      a few actors, each of which stands for hundreds

Episodes are whole ones, of a length as language models play them, and travel as those of a real worker do: the driver
and Ray have what they would have to do for as many engines, but for the connections to as many processes.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import ray

from cluster.config import Config
from cluster.groups.learner_group import LearnerGroup
from cluster.groups.worker_states import Launcher, Worker
from learner.learner import UpdateReport
from learner.model_size import ModelSize
from learner.worker import Item
from rollout.engine import Prompt
from rollout.episode import Episode, EpisodeEnd
from rollout.play import Task
from rollout.probe import ProbeExpectation
from rollout.receivers import own_place
from rollout.sign import Sign
from rollout.traffic import Traffic
from rollout.transcript import ChatTokens
from rollout.weight_transfer import Place, SyncReport
from rollout.worker import Played
from study.bench.made_up import made_up

NUM_HOSTS = 2
EXCHANGE = (range(256), range(128))
"""What a turn shows and what is drawn after it: three of them are 6 KB and some words."""
CONCURRENT_CALLS = 100_000


class StandIn:
    """Workers and ranks, as an asynchronous Ray actor that has a time to answer and nothing to do."""

    def __init__(self, model: str, seconds: float) -> None:
        """An episode takes half to one and a half times so many seconds."""
        chat, solved = ChatTokens.load(Path(model)), made_up(0, [EXCHANGE] * 3)
        episodes = (solved, replace(solved, end=EpisodeEnd.OUT_OF_ATTEMPTS))
        self._made = [(episode, Played.of(episode, chat)) for episode in episodes]
        self._seconds, self._version, self._num_sent = seconds, 0, 0
        self._num_tokens = self._num_items = 0

    async def start(self, *of_a_rank: Any) -> float | ModelSize:
        """It is there at once."""
        return ModelSize(parameters=0) if of_a_rank else 0.0

    async def meet(self) -> str:
        """Where nobody meets."""
        return ""

    async def place(self) -> Place:
        """All on one host."""
        return own_place()

    async def process_id(self) -> int:
        """Its own, whoever it stands for."""
        return os.getpid()

    async def play(self, _env: Any, _verifier: Any, tasks: Sequence[Task], *_how: Any) -> AsyncIterator[Any]:
        """Each episode in its time, and behind it what it was; every other one is solved."""
        ends = sorted(
            (Random(f"{task.seed}/{task.sample}").uniform(0.5, 1.5), index) for index, task in enumerate(tasks)
        )
        passed = 0.0
        for end, index in ends:
            await asyncio.sleep((end - passed) * self._seconds)
            passed, task = end, replace(tasks[index], draw=None)
            episode, played = self._made[task.sample % 2]
            yield replace(episode, seed=task.seed, split=task.split, sample=task.sample)
            yield replace(played, task=task, oldest_version=self._version)

    async def verify(self, expected: ProbeExpectation) -> float:
        """As one that has the weights."""
        self._version = expected.version
        return 0.0

    async def version(self) -> int:
        """Of the learner."""
        return self._version

    async def connect(self, _workers: Any, _backend: str, _options: Any) -> None:
        """To nobody."""

    async def forget_workers(self) -> None:
        """Nor from anybody."""

    async def alive(self) -> Sign:
        """It answers at once."""
        return Sign(host="", process_id=os.getpid(), phase="", seconds=0.0)

    async def digests(self) -> dict[str, int]:
        """Others after each push."""
        self._num_sent += 1
        return {"weight": self._num_sent}

    async def send_weights(self, version: int, *_how: Any) -> SyncReport:
        """None."""
        return SyncReport(version=version, seconds=self._seconds, num_bytes=0, num_calls=1)

    async def expected(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """Of the probe."""
        return [[0.0] * (len(prompt.token_ids) - 1) for prompt in prompts]

    async def fetch(self, steps: Sequence[Sequence[Item]]) -> list[Item]:
        """The episodes, as a rank does."""
        items = [item for step in steps for item in step]
        episodes: list[Episode] = await asyncio.gather(*(item.episode for item in items))
        self._num_items = len(items)
        self._num_tokens = sum(turn.num_tokens for episode in episodes for turn in episode.turns)
        return []

    async def update(self, _success: float | None) -> UpdateReport:
        """Learns nothing."""
        return UpdateReport(
            version=self._version,
            num_sequences=self._num_items,
            num_tokens=self._num_tokens,
            looked=Traffic(),
            compared=Traffic(),
            trained=Traffic(tokens=self._num_tokens),
            seconds={},
            metrics={},
        )


class _Seat:
    """The handle of one worker, told apart from the others of its host."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return getattr(self._host, method)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StandInLauncher(Launcher):
    """Starts workers by leaving them to actors that are there."""

    hosts: Sequence[Any]

    def launch(self, number: int, life: int = 0) -> Worker:
        """One more of a host's."""
        return Worker(number, life, f"{self.prefix}-{number}", _Seat(self.hosts[number % len(self.hosts)]))


@contextmanager
def stand_ins(config: Config, seconds: float) -> Iterator[tuple[Launcher, LearnerGroup]]:
    """Who starts the workers, and the learner; on a Ray of their own."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        actor = ray.remote(StandIn).options(num_cpus=0, max_concurrency=CONCURRENT_CALLS)
        hosts = [actor.remote(config.learner.model, seconds) for _ in range(NUM_HOSTS)]
        learner = LearnerGroup.start(
            config.learner,
            config.rollout.temperature,
            timeout_seconds=config.cluster.step_timeout_seconds,
            launch=lambda _name, rank, *_of_a_rank, **_options: hosts[rank % NUM_HOSTS],
        )
        launcher = _StandInLauncher(
            model=Path(config.learner.model or ""),
            config=config.rollout,
            resources=lambda _place: {},
            prefix="stand-in",
            hosts=hosts,
        )
        yield launcher, learner
    finally:
        ray.shutdown()
