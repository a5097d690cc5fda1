"""Which rank learns from which episodes, and in which optimizer step.

deal(items, config)   →  for each rank and each step, its items
"""

from collections.abc import Sequence
from random import Random

from learner.batch import balance
from learner.config import LearnerConfig
from learner.worker import Item


def deal(items: Sequence[Item], config: LearnerConfig) -> list[list[list[Item]]]:
    """For each rank and each optimizer step, its items: the steps are the same whatever the number of ranks."""
    if len(items) < config.minibatches:
        raise ValueError(
            f"learner.minibatches={config.minibatches}: there are only {len(items)} episodes to share among as many "
            "optimizer steps; lower it or play more episodes"
        )
    order = list(range(len(items)))
    # Groups and lengths come in the order of playing, which must not decide what is learned together.
    Random(f"{config.seed}/{len(items)}").shuffle(order)
    # Each part of a mixture is dealt by itself.
    order.sort(key=lambda index: items[index].part)
    ranks: list[list[list[Item]]] = [[] for _ in range(config.num_ranks)]
    for start in range(config.minibatches):
        chosen = [items[index] for index in order[start :: config.minibatches]]
        for rank, share in enumerate(balance([item.num_tokens for item in chosen], config.num_ranks)):
            ranks[rank].append([chosen[index] for index in share])
    return ranks
