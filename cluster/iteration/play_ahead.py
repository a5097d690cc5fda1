"""Which tasks an iteration plays, and the playing itself: now, or while the learner still learns from the last ones.

PlayAhead(run).next(3)   →  every episode of iteration 3, those of up to `rollout.max_policy_lag` more in play already
tasks_of(3, config)      →  what it plays first; tasks_instead_of(2, 3, 0, config), what for two groups that were flat
"""

import math
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple

from cluster.config import Config
from cluster.groups.learner_group import EpisodesLost
from cluster.iteration.rows import PLAYING, Episodes, flat_tasks
from cluster.memory import give_back
from cluster.stopping import hear
from cluster.training import Training
from rollout.play import Task
from rollout.worker import Played


class _Begun(NamedTuple):
    """An iteration whose episodes are in play."""

    heard: SimpleQueue[Any]
    is_left: Event


class PlayAhead:
    """Episodes of the present iteration, and of as many more as may lag behind, in play at the same time."""

    def __init__(self, run: Training) -> None:
        self._run = run
        self._begun: deque[_Begun] = deque()
        self._expected = -1

    def next(self, iteration: int) -> Episodes:
        """All episodes of an iteration, sorted by task, so that nothing depends on which ended first."""
        give_back()  # what the episodes before have left
        lag = self._run.config.rollout.max_policy_lag
        if iteration != self._expected:
            self.leave()  # the run has gone back to a checkpoint
        self._expected = iteration + 1
        last = min(iteration + lag, self._run.config.cluster.iterations - 1)
        while iteration + len(self._begun) <= last:
            self._begun.append(self._begin(iteration + len(self._begun)))
        heard, found = self._begun.popleft().heard, []
        self._run.progress.expects(len(tasks_of(iteration, self._run.config)))
        while isinstance(item := hear(heard, math.inf), tuple):
            found.append(item)
            self._run.progress.came()
        if isinstance(item, BaseException):
            raise item
        self._run.row[PLAYING] = item
        if len({_place(pair) for pair in found}) < len(found):
            raise RuntimeError(f"a task of iteration {iteration} was counted twice")
        return sorted(found, key=_place)

    def again(self, iteration: int, played: Episodes, lost: EpisodesLost) -> Episodes:
        """The same episodes, with those played again whose references are of hosts that are gone."""
        config = self._run.config
        gone = [one.task for one, reference in played if reference in lost.episodes]
        if not gone:
            raise lost  # demonstrations, which only a run that begins again makes again
        self._run.stop.is_patient = False  # the learner was to be changed, and was not
        self._run.push()  # engines that have slept have no weights
        kept = [pair for pair in played if pair[1] not in lost.episodes]
        tasks = [replace(task, draw=_draw(iteration, config)) for task in gone]
        self._run.progress.say(f"{len(tasks)} episodes were on a host that is gone, and are played again")
        with self._run.phase("rollout"):
            played_again = self._run.actors.play(tasks, config.env, config.verifier, config.rollout)
            kept += self._run.progress.counted(played_again, len(tasks))
        return sorted(kept, key=_place)

    def leave(self) -> None:
        """End what is in play: of what nobody waits for no more is asked, and workers are free for what comes."""
        for begun in self._begun:
            begun.is_left.set()
        self._begun.clear()

    def _begin(self, iteration: int) -> "_Begun":
        """What is heard: pairs, and behind them the seconds that they took or what went wrong."""
        begun = _Begun(SimpleQueue(), Event())
        heard, config = begun.heard, self._run.config

        def play() -> None:
            started = time.perf_counter()
            try:
                tasks, redraw = tasks_of(iteration, config), 0
                while tasks and not begun.is_left.is_set():
                    played: list[Played] = []
                    with closing(self._run.actors.play(tasks, config.env, config.verifier, config.rollout)) as pairs:
                        for pair in pairs:
                            if begun.is_left.is_set():
                                return
                            self._run.stream.send(pair[1])
                            heard.put(pair)
                            played.append(pair[0])
                    tasks = tasks_instead_of(len(flat_tasks(played)), iteration, redraw, config)
                    redraw += 1
                self._run.stream.flush()
                heard.put(time.perf_counter() - started)
            except BaseException as error:
                heard.put(error)

        Thread(target=play, daemon=True, name=f"play-{iteration}").start()
        return begun


def _place(pair: tuple[Played, Any]) -> tuple[int, int]:
    return pair[0].task.seed, pair[0].task.sample


def _draw(iteration: int, config: Config) -> str:
    """What makes the draws of an iteration repeatable."""
    return f"{config.learner.seed}/{iteration}"


def tasks_of(iteration: int, config: Config) -> list[Task]:
    """The tasks of an iteration: they follow from its number alone."""
    return _tasks(iteration, 0, config.cluster.tasks_per_iteration, config)


def tasks_instead_of(num_flat: int, iteration: int, redraw: int, config: Config) -> list[Task]:
    """What is played for so many tasks that teach nothing; nothing where no redraw is left."""
    return _tasks(iteration, redraw + 1, num_flat, config) if redraw < config.learner.advantage.num_redraws else []


def _tasks(iteration: int, turn: int, num_tasks: int, config: Config) -> list[Task]:
    """Each iteration has room for as many tasks as it may play, so that no other plays them."""
    rounds = 1 + config.learner.advantage.num_redraws
    first = config.cluster.first_seed + (iteration * rounds + turn) * config.cluster.tasks_per_iteration
    return [
        Task(seed=seed, sample=sample, draw=_draw(iteration, config))
        for seed in range(first, first + num_tasks)
        for sample in range(config.cluster.samples_per_task)
    ]
