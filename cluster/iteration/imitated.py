"""The demonstrations that a run imitates: all of them in the object store, in an order that seed and step decide.

Demonstrations(run, 64).of_step(3)   →  Item, Item, …   of several environments, each step as they stand in all
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from random import Random

import ray

from cluster.errors import RunError
from cluster.iteration.rows import Episodes, failed_tasks
from cluster.training import Training
from envs.catalog import make_environment
from envs.protocol import Env
from learner.demonstrations.make import demonstrate, make_demonstrations, to_episode
from learner.worker import Item
from rollout.episode import Episode
from rollout.traffic import total, traffic_of


class Demonstrations:
    """So many for each step; for none, none are made."""

    def __init__(self, run: Training, per_step: int) -> None:
        self._run, self._size, self._seed = run, per_step, run.config.learner.seed
        self._items: list[Item] = []
        if not per_step:
            return
        with run.phase("demonstrations"):
            found = list(make_demonstrations(self._env, run.config.data))
            episodes = [to_episode(demonstration, run.chat) for demonstration in found]
            self._items = [self._item(episode, number) for number, episode in enumerate(episodes)]
            if len({episode.env for episode in episodes}) > 1 and not any(item.part for item in self._items):
                # A file may hold what no mixture asks.
                pairs = zip(self._items, episodes, strict=True)
                self._items = [replace(item, part=episode.env) for item, episode in pairs]
        if len(found) < per_step:
            raise RunError(
                f"there are {len(found)} demonstrations, fewer than the {per_step} of each step; raise data.count, or "
                "lower cluster.episodes_per_iteration (sft) or cluster.demonstrations_per_iteration (rl)"
            )

    def of_step(self, step: int, *, first_group: int = 0) -> list[Item]:
        """The demonstrations of a step: the next of an epoch's random order, and on into the next epoch's.

        Each part has its share of any run of them.
        """
        count = len(self._items)
        places = range(step * self._size, (step + 1) * self._size)
        orders = {epoch: self._order(epoch) for epoch in {place // count for place in places}}
        chosen = [orders[place // count][place % count] for place in places]
        return [replace(self._items[index], group=first_group + index) for index in chosen]

    def of_failed(self, played: Episodes, *, first_group: int) -> list[Item]:
        """The demonstrator at each played task that no sample solved, as far as he solves it."""
        if not self._run.config.cluster.demonstrate_failed:
            return []
        options = self._run.config.data.model_copy(update={"split": "train"})
        found = demonstrate(self._env, options, failed_tasks(one for one, _ in played))
        return [self._item(to_episode(each, self._run.chat), first_group + place) for place, each in enumerate(found)]

    @cached_property
    def _env(self) -> Env:
        """Made where it is asked: one of routes with pictures takes its time."""
        return make_environment(self._run.config.env, self._run.config.verifier)

    def _item(self, episode: Episode, group: int) -> Item:
        return Item(
            episode=ray.put(episode),
            num_tokens=total(traffic_of(episode, self._run.chat)).tokens,
            group=group,
            part=episode.part,
            is_demonstration=True,
        )

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._items)))
        Random(f"{self._seed}/{epoch}").shuffle(order)
        return spread(order, [item.part for item in self._items])


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
