"""`ruleshift rl`: play, learn, push, again.

    for each iteration:  evaluate if due → roll out → learn → push → record → checkpoint if due

With `rollout.max_policy_lag` of 1 or more, the episodes of the next iterations are played while the learner learns.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from cluster.config import Config
from cluster.errors import RunError
from cluster.open_training import open_training
from cluster.training import Training, learner_row
from learner.learner import UpdateReport
from learner.worker import Item
from rollout.episode import EpisodeEnd
from rollout.play import Task
from rollout.worker import Played

Episodes = list[tuple[Played, Any]]


def train_rl(config: Config, resume: Path | None = None, at: Path | None = None) -> Path:
    """Train by play; the run's folder."""
    with open_training(config, "rl", resume, at) as run:
        ahead = _Ahead(run)
        while run.goes_on():
            with run.supervisor.iteration():
                run.evaluate_if_due()
                run.push()
                with run.phase("rollout"):
                    played = ahead.next(run.iteration)
                chosen = _choose(played, run)
                report = run.learn(_items(chosen))
                _charge(run, played, report)
                run.end_iteration(_row(played, chosen, report))
        if not run.was_stopped:
            run.finish()
        return run.directory.path


class _Ahead:
    """Episodes of the present iteration, and of as many more as may lag behind, in play at the same time."""

    def __init__(self, run: Training) -> None:
        self._run = run
        self._begun: deque[SimpleQueue[Any]] = deque()
        self._expected = -1

    def next(self, iteration: int) -> Episodes:
        """All episodes of an iteration, sorted by task, so that nothing depends on which ended first."""
        lag = self._run.config.rollout.max_policy_lag
        if iteration != self._expected:
            self._begun.clear()  # the run has gone back to a checkpoint
        self._expected = iteration + 1
        while len(self._begun) <= lag:
            self._begun.append(self._begin(iteration + len(self._begun)))
        found = list(_heard(self._begun.popleft()))
        return sorted(found, key=lambda pair: (pair[0].task.seed, pair[0].task.sample))

    def _begin(self, iteration: int) -> "SimpleQueue[Any]":
        heard: SimpleQueue[Any] = SimpleQueue()
        config, tasks = self._run.config, tasks_of(iteration, self._run.config)

        def play() -> None:
            try:
                rollouts = self._run.rollouts
                for pair in rollouts.play(tasks, config.env, config.verifier, config.rollout, self._run.adopt):
                    heard.put(pair)
                heard.put(None)
            except BaseException as error:
                heard.put(error)

        Thread(target=play, daemon=True, name=f"play-{iteration}").start()
        return heard


def _heard(queue: "SimpleQueue[Any]") -> Iterator[tuple[Played, Any]]:
    while (item := queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def tasks_of(iteration: int, config: Config) -> list[Task]:
    """The tasks of an iteration: they follow from its number alone."""
    samples = config.cluster.samples_per_task
    num_tasks = config.cluster.episodes_per_iteration // samples
    first = config.cluster.first_seed + iteration * num_tasks
    return [
        Task(seed=seed, sample=sample, draw=f"{config.learner.seed}/{iteration}")
        for seed in range(first, first + num_tasks)
        for sample in range(samples)
    ]


def _choose(played: Episodes, run: Training) -> Episodes:
    """Those that can be learned from: whole, with an answer, and of a policy that is new enough."""
    failed = [pair for pair in played if pair[0].end is EpisodeEnd.FAILED]
    allowed = run.config.rollout.max_failed_fraction
    if len(failed) > allowed * len(played):
        first = failed[0][0]
        raise RunError(
            f"{len(failed)} of {len(played)} episodes failed by a fault of the environment, more than "
            f"rollout.max_failed_fraction={allowed}; the first, seed {first.task.seed}, with\n{first.error}"
        )
    oldest = run.learner.version() - run.config.rollout.max_policy_lag
    chosen = [
        (one, reference)
        for one, reference in played
        if one.end is not EpisodeEnd.FAILED and one.num_sampled_tokens and one.oldest_version >= oldest
    ]
    if len(chosen) < run.config.learner.minibatches:
        raise RunError(
            f"only {len(chosen)} of {len(played)} episodes can be learned from, too few for "
            f"learner.minibatches={run.config.learner.minibatches}; look at the episodes in {run.directory.path}"
        )
    return chosen


def _items(chosen: Episodes) -> list[Item]:
    groups = {seed: number for number, seed in enumerate(dict.fromkeys(one.task.seed for one, _ in chosen))}
    return [
        Item(episode=reference, num_tokens=one.num_tokens, group=groups[one.task.seed]) for one, reference in chosen
    ]


def _charge(run: Training, played: Episodes, report: UpdateReport) -> None:
    summaries = [one for one, _ in played]
    run.ledger.charge_rollout(
        prompt_tokens=sum(one.num_shown_tokens for one in summaries),
        sampled_tokens=sum(one.num_sampled_tokens for one in summaries),
        context_tokens=sum(one.num_context_tokens for one in summaries),
        num_calls=sum(one.num_turns for one in summaries),
        num_contexts=sum(one.num_contexts for one in summaries),
        seconds=run.row["seconds/rollout"],
    )
    run.ledger.charge_update(report, played_share=1.0, seconds=run.row["seconds/learn"])


def _row(played: Episodes, chosen: Episodes, report: UpdateReport) -> dict[str, float]:
    summaries = [one for one, _ in played]
    ends = {f"rollout/{end.value}": float(np.mean([one.end is end for one in summaries])) for end in EpisodeEnd}
    return {
        "rollout/episodes": len(played),
        "rollout/learned_from": len(chosen),
        "rollout/reward": float(np.mean([one.reward for one in summaries])),
        "rollout/success": float(np.mean([one.end is EpisodeEnd.SOLVED for one in summaries])),
        "rollout/turns": float(np.mean([one.num_turns for one in summaries])),
        "rollout/sampled_tokens": sum(one.num_sampled_tokens for one in summaries),
        **ends,
        **learner_row(report),
    }
