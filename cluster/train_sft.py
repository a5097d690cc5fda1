"""`ruleshift sft`: imitate demonstrations; the learner, evaluations and records are those of `rl`.

for each iteration:  evaluate if due → one optimizer step on the next demonstrations → record → checkpoint if due
"""

from pathlib import Path
from random import Random
from typing import Any

import ray

from cluster.config import Config
from cluster.errors import RunError
from cluster.open_training import open_training
from cluster.training import Training, learner_row
from envs.catalog import make_environment
from learner.demonstrations import make_demonstrations, to_episode
from learner.worker import Item


def train_sft(config: Config, resume: Path | None = None, at: Path | None = None) -> Path:
    """Train by imitation; the run's folder."""
    with open_training(config, "sft", resume, at) as run:
        with run.phase("demonstrations"):
            demonstrations = Demonstrations(run)
        while run.goes_on():
            with run.supervisor.iteration():
                run.evaluate_if_due()
                report = run.learn(demonstrations.of_step(run.iteration))
                run.ledger.charge_update(report, played_share=0.0, seconds=run.row["seconds/learn"])
                run.end_iteration(learner_row(report))
        if not run.was_stopped:
            run.finish()
        return run.directory.path


class Demonstrations:
    """All demonstrations in the object store, in an order that follows from seed and step alone."""

    def __init__(self, run: Training) -> None:
        config = run.config
        found = list(make_demonstrations(make_environment(config.env, config.verifier), config.data))
        if len(found) < config.cluster.episodes_per_iteration:
            raise RunError(
                f"there are {len(found)} demonstrations, fewer than cluster.episodes_per_iteration="
                f"{config.cluster.episodes_per_iteration}; raise data.count or lower the other"
            )
        episodes = [to_episode(demonstration, run.chat) for demonstration in found]
        self._lengths = [sum(turn.num_tokens for turn in episode.turns) for episode in episodes]
        self._references: list[Any] = [ray.put(episode) for episode in episodes]
        self._size, self._seed = config.cluster.episodes_per_iteration, config.learner.seed

    def of_step(self, step: int) -> list[Item]:
        """The demonstrations of a step: the next of an epoch's random order, and on into the next epoch's."""
        count = len(self._references)
        places = range(step * self._size, (step + 1) * self._size)
        orders = {epoch: self._order(epoch) for epoch in {place // count for place in places}}
        chosen = [orders[place // count][place % count] for place in places]
        return [
            Item(episode=self._references[index], num_tokens=self._lengths[index], group=index, is_demonstration=True)
            for index in chosen
        ]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._references)))
        Random(f"{self._seed}/{epoch}").shuffle(order)
        return order
