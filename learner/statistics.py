"""Sums that become means once all micro-batches and ranks have added theirs, and how long each part took."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

NAMES = (
    "policy_loss",
    "clip_fraction",
    "value_loss",
    "entropy",
    "kl_old",
    "kl_reference",
    "kl_teacher",
    "sft_loss",
    "sft_kl",
)
"""What is averaged over an update: over answers or tokens, value targets, tokens, or demonstrations' weights."""


class Statistics:
    """Adds a sum and how much it is a sum of; the ranks' are added at the end."""

    def __init__(self) -> None:
        self.sums = np.zeros((len(NAMES), 2))

    def add(self, name: str, total: torch.Tensor | float, count: float) -> None:
        """Add `total`, which `count` entries made."""
        self.sums[NAMES.index(name)] += float(total), count

    def since(self, before: np.ndarray, name: str, over_ranks: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean over all ranks of what was added since `sums` was copied; 0 where nothing was."""
        total, count = over_ranks(self.sums[NAMES.index(name)] - before[NAMES.index(name)])
        return float(total / count) if count else 0.0

    def means(self, over_ranks: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """The means over all ranks, of what was added at all."""
        sums = over_ranks(self.sums.reshape(-1)).reshape(-1, 2)
        return {name: float(total / count) for name, (total, count) in zip(NAMES, sums, strict=True) if count}


def explained_variance(values: np.ndarray, returns: np.ndarray, gather: Callable[[np.ndarray], np.ndarray]) -> float:
    """The share of the returns' variance that the critic foresaw, over all ranks; 0 where they do not vary."""
    errors = returns - values
    local = [len(returns), returns.sum(), (returns**2).sum(), errors.sum(), (errors**2).sum()]
    count, total, squares, error, error_squares = gather(np.array([local])).sum(axis=0)
    variance = squares / count - (total / count) ** 2 if count else 0.0
    if variance <= 0:
        return 0.0
    return float(1 - (error_squares / count - (error / count) ** 2) / variance)


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add what the block takes."""
        started = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - started
