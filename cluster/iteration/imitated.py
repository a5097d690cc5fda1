"""The demonstrations that a run imitates: all of them in the object store, in an order that seed and step decide.

Demonstrations(run, 64).of_step(3)   →  Item, Item, …   of several environments, each step as they stand in all
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from cluster.errors import RunError
from cluster.groups.demonstrating import Demonstrating
from cluster.iteration.rows import Episodes, failed_tasks
from cluster.training import Training
from learner.worker import Item


class Demonstrations:
    """So many for each step; for none, none are made."""

    def __init__(self, run: Training, per_step: int) -> None:
        self._run, self._size, self._seed = run, per_step, run.config.learner.seed
        self._items: list[Item] = []
        if not per_step:
            return
        with run.phase("demonstrations"):
            made = enumerate(self._demonstrating.made(run.config.data))
            self._items = [replace(item, group=number) for number, item in made]
        if len(self._items) < per_step:
            raise RunError(
                f"there are {len(self._items)} demonstrations, fewer than the {per_step} of each step; raise "
                "data.count, or lower cluster.episodes_per_iteration (sft) or cluster.demonstrations_per_iteration (rl)"
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
        made = self._demonstrating.of_tasks(options, failed_tasks(one for one, _ in played))
        return [replace(item, group=first_group + place) for place, item in enumerate(made)]

    @property
    def _demonstrating(self) -> Demonstrating:
        config = self._run.config
        return Demonstrating(config.env, config.verifier, self._run.chat)

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
