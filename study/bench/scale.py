"""`ruleshift bench scale`: whether the driver, which is one process, can drive a thousand engines.

Engines and ranks are stand-ins (stand_ins.py); the driver plays, chooses, deals, updates and pushes as in a run. Each
worker plays as many episodes an iteration whatever the number of workers, and eight workers have a rank; then few play
as many in all, lest what an iteration costs by itself tell in favour of the many. `driver` is the processor time of the
driver's process, all of its threads and what Ray does in it included.
"""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any, cast

import psutil
import ray

from cluster.config import Config, load_config
from cluster.groups.health import Health
from cluster.groups.learner_group import LearnerGroup
from cluster.groups.rollout_group import RolloutGroup
from cluster.groups.streaming import EpisodeStream
from cluster.groups.weight_sync import WeightSync
from cluster.groups.worker_lives import WorkerLives
from cluster.groups.worker_states import Launcher, Limits
from cluster.iteration.play_ahead import PlayAhead
from cluster.iteration.played import choose, items_of
from cluster.iteration.rows import rollout_row, share_solved
from cluster.record.console import Progress
from cluster.training import Training
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.play import Task
from rollout.probe import make_probe
from study.bench import Row
from study.bench.stand_ins import stand_ins
from verifier.config import VerifierConfig

ROOT = Path(__file__).parents[2]
FEW_WORKERS = 2
MANY_WORKERS = 1024
EPISODES = 64
"""Of a worker in an iteration, the samples of eight tasks."""
SAMPLES = 8
WORKERS_PER_RANK = 8
ITERATIONS = 50
BUSY_ITERATIONS = 3
"""Of few workers that play what all of the many do."""
WARM = 1
"""Iterations that do not count."""
SECONDS = 1.0
"""What an episode takes on average."""


@dataclass(slots=True)
class _Figures:
    """Of one number of workers: a figure for each iteration that counts."""

    episodes: int
    driver: list[float] = field(default_factory=list)
    playing: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    store: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def milliseconds(self, seconds: Sequence[float]) -> float:
        return 1000 * median(seconds) / self.episodes

    @property
    def growth(self) -> float:
        """Of the driver's memory, from the first fifth of the iterations to the last."""
        fifth = max(1, len(self.memory) // 5)
        return median(self.memory[-fifth:]) / median(self.memory[:fifth]) - 1


class _Driver:
    """What of a run speaks to workers and ranks; PlayAhead takes it for the run."""

    def __init__(self, config: Config, launcher: Launcher, learner: LearnerGroup) -> None:
        cluster = config.cluster
        self.config, self.learner, self.actors = config, learner, self
        self.stream, self.row = EpisodeStream(()), dict[str, float]()
        self.progress = Progress("scale", cluster.iterations, stream=StringIO(), is_terminal=False)
        self._sync = WeightSync(learner, make_probe(64), backend="shared_memory", dtype="float32")
        self._health = Health(cluster.health_timeout_seconds, print)
        workers, start, step = cluster.num_workers, cluster.start_timeout_seconds, cluster.step_timeout_seconds
        limits = Limits(base=workers, least=1, most=workers, restarts=0, start_seconds=start, step_seconds=step)
        lives = WorkerLives(launcher, limits, adopt=self._sync.push, health=self._health, say=print)
        self._rollouts = RolloutGroup(lives, print)
        lives.begin()
        lives.wait()
        self._ahead = PlayAhead(cast(Training, self))
        self.playing = 0.0

    def play(
        self, tasks: Sequence[Task], env: EnvConfig, verifier: VerifierConfig, config: RolloutConfig
    ) -> Iterator[Any]:
        """As `Actors.play`."""
        return self._rollouts.play(tasks, env, verifier, config)

    def close(self) -> None:
        """Ask nobody any more, and say nothing."""
        self._health.close()
        self.progress.close()

    def iterate(self, number: int) -> None:
        """Everything that the driver does of an iteration, but for the records."""
        self._rollouts.give(self._sync.push)
        began = time.process_time()
        played = self._ahead.next(number)
        self.playing = time.process_time() - began
        version = self.learner.version()
        chosen = choose(played, version, self.config)
        self.learner.update(items_of(chosen), share_solved(played))
        rollout_row(played, chosen, version=version, max_lag=0)
        if len(played) != self.config.cluster.episodes_per_iteration:
            raise AssertionError(f"{len(played)} episodes came of {self.config.cluster.episodes_per_iteration}")


def rows(
    workers: int = MANY_WORKERS, iterations: int = ITERATIONS, episodes: int = EPISODES, seconds: float = SECONDS
) -> list[Row]:
    """Drive few, then many, then few again with as many episodes in all."""
    few = _measured(FEW_WORKERS, iterations, FEW_WORKERS * episodes, seconds)
    many = _measured(workers, iterations, workers * episodes, seconds)
    busy = _measured(FEW_WORKERS, min(iterations, BUSY_ITERATIONS), workers * episodes, seconds)
    found: list[Row] = []
    for num_workers, figures in ((FEW_WORKERS, few), (workers, many), (FEW_WORKERS, busy)):
        name = f"{num_workers:,} workers, {figures.episodes:,} episodes an iteration"
        found += [
            (f"{name}: driver", figures.milliseconds(figures.driver), "ms an episode"),
            (f"{name}: driver, playing", figures.milliseconds(figures.playing), "ms an episode"),
            (f"{name}: wall clock", figures.milliseconds(figures.wall), "ms an episode"),
            (f"{name}: threads", max(figures.threads), "at most"),
            (f"{name}: memory of the driver", median(figures.memory) / 2**20, "MiB"),
            (f"{name}: memory's growth over {len(figures.memory)} iterations", 100 * figures.growth, "%"),
            (f"{name}: object store", max(figures.store) / 2**20, "MiB at most"),
        ]
    for title, others in (("as many each", few), ("as many in all", busy)):
        for part, ours, theirs in (("driver", many.driver, others.driver), ("playing", many.playing, others.playing)):
            ratio = many.milliseconds(ours) / others.milliseconds(theirs)
            found.append((f"{part}, many ÷ few with {title}", ratio, "ratio"))
    return found


def _measured(workers: int, iterations: int, episodes: int, seconds: float) -> _Figures:
    """`episodes` are those of an iteration."""
    config = _config(workers, iterations + WARM, episodes)
    figures = _Figures(episodes)
    with stand_ins(config, seconds) as (launcher, learner):
        driver = _Driver(config, launcher, learner)
        for number in range(iterations + WARM):
            with _timed() as spent:
                driver.iterate(number)
            if number >= WARM:
                figures.wall.append(spent[0])
                figures.driver.append(spent[1])
                figures.playing.append(driver.playing)
                figures.memory.append(_own_memory())
                figures.store.append(_object_store())
                figures.threads.append(threading.active_count())
            _show(workers, number, iterations, figures)
        driver.close()
    return figures


def _own_memory() -> int:
    """Of this process, what it shares with Ray's store left out."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def _show(workers: int, number: int, iterations: int, figures: _Figures) -> None:
    """A line for each iteration; at a thousand workers one takes a minute."""
    told = f"scale | {workers:,} workers, {figures.episodes:,} episodes | iteration {number + 1}/{iterations + WARM}"
    if figures.driver:
        milliseconds = 1000 * figures.driver[-1] / figures.episodes
        told += f" | driver {milliseconds:.2f} ms an episode, {figures.memory[-1] / 2**20:,.0f} MiB"
    print(told, file=sys.stderr, flush=True)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Seconds by the clock and of the processor."""
    spent: list[float] = []
    wall, processor = time.perf_counter(), time.process_time()
    yield spent
    spent += [time.perf_counter() - wall, time.process_time() - processor]


def _object_store() -> float:
    """Bytes that Ray's store holds."""
    name = "object_store_memory"
    return ray.cluster_resources().get(name, 0.0) - ray.available_resources().get(name, 0.0)


def _config(workers: int, iterations: int, episodes: int) -> Config:
    return load_config(
        [ROOT / "configs" / "nano" / "gp_l.yaml"],
        [
            f"learner.model={ROOT / 'models' / 'nano_gp_l'}",
            f"learner.num_ranks={max(1, workers // WORKERS_PER_RANK)}",
            f"cluster.num_rollout_workers={workers}",
            f"cluster.iterations={iterations}",
            f"cluster.samples_per_task={SAMPLES}",
            f"cluster.episodes_per_iteration={episodes}",
            # A process that stands for hundreds answers late where cores are few, and is not to be replaced for that.
            "cluster.health_timeout_seconds=3600",
        ],
    )
