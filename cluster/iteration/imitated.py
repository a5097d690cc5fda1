"""The demonstrations that a run imitates: all of them in the object store, in an order that seed and step decide.

Demonstrations(run, 64).of_step(3)   →  Item, Item, …   of several environments, each step as they stand in all
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import ray

from cluster.errors import RunError
from cluster.iteration.rows import Episodes
from cluster.training import Training
from envs.catalog import make_environment
from learner.demonstrations.make import demonstrate, make_demonstrations, to_episode
from learner.worker import Item
from rollout.episode import Episode, EpisodeEnd
from rollout.traffic import total, traffic_of


class Demonstrations:
    """So many for each step; for none, none are made."""

    def __init__(self, run: Training, per_step: int) -> None:
        config = run.config
        self._run, self._env = run, make_environment(config.env, config.verifier)
        self._size, self._seed = per_step, config.learner.seed
        self._lengths: list[int] = []
        self._references: list[Any] = []
        self._parts: list[str] = []
        if not per_step:
            return
        with run.phase("demonstrations"):
            found = list(make_demonstrations(self._env, config.data))
            episodes = [to_episode(demonstration, run.chat) for demonstration in found]
            self._lengths = [self._length(episode) for episode in episodes]
            self._references = [ray.put(episode) for episode in episodes]
            self._parts = [episode.part for episode in episodes]
            if len({episode.env for episode in episodes}) > 1 and not any(self._parts):
                # A file may hold what no mixture asks.
                self._parts = [episode.env for episode in episodes]
        if len(found) < per_step:
            raise RunError(
                f"there are {len(found)} demonstrations, fewer than the {per_step} of each step; raise data.count, or "
                "lower cluster.episodes_per_iteration (sft) or cluster.demonstrations_per_iteration (rl)"
            )

    def of_step(self, step: int, *, first_group: int = 0) -> list[Item]:
        """The demonstrations of a step: the next of an epoch's random order, and on into the next epoch's.

        Each part has its share of any run of them.
        """
        count = len(self._references)
        places = range(step * self._size, (step + 1) * self._size)
        orders = {epoch: self._order(epoch) for epoch in {place // count for place in places}}
        chosen = [orders[place // count][place % count] for place in places]
        return [
            Item(
                episode=self._references[index],
                num_tokens=self._lengths[index],
                group=first_group + index,
                part=self._parts[index],
                is_demonstration=True,
            )
            for index in chosen
        ]

    def of_failed(self, played: Episodes, *, first_group: int) -> list[Item]:
        """For each played task that no sample solved, the demonstrator at the same task, as far as he solves it; not
        where environment or verifier failed, as they would again."""
        if not self._run.config.cluster.demonstrate_failed:
            return []
        others = (EpisodeEnd.SOLVED, EpisodeEnd.FAILED)
        left_out = {one.task.seed for one, _ in played if one.end in others}
        failed = sorted({one.task.seed for one, _ in played} - left_out)
        options = self._run.config.data.model_copy(update={"split": "train"})
        found = [to_episode(each, self._run.chat) for each in demonstrate(self._env, options, failed)]
        return [
            Item(
                episode=ray.put(episode),
                num_tokens=self._length(episode),
                group=first_group + number,
                part=episode.part,
                is_demonstration=True,
            )
            for number, episode in enumerate(found)
        ]

    def _length(self, episode: Episode) -> int:
        return total(traffic_of(episode, self._run.chat)).tokens

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._references)))
        Random(f"{self._seed}/{epoch}").shuffle(order)
        return spread(order, self._parts)


def spread(order: Sequence[int], parts: Sequence[str]) -> list[int]:
    """The same indices, those of each part in their order and evenly over the whole; one part alone stays as it is.

    >>> spread([3, 0, 1, 2], ["cards", "cards", "streets", "streets"])
    [3, 0, 2, 1]
    """
    sizes, had, places = Counter(parts), Counter[str](), dict[int, float]()
    for index in order:
        places[index] = (had[parts[index]] + 0.5) / sizes[parts[index]]
        had[parts[index]] += 1
    return sorted(order, key=places.__getitem__)
