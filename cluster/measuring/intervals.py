"""How sure a rate is when its answers hang together, whether two policies differ, and pass@k.

interval(shares)                  of a rate whose units come in clusters, each cluster one Share
paired_difference(first, second)  of two policies on the same tasks, with a test
pass_at_k(k, samples, right)      the chance that one of k samples is right

Hands with the same numbers are one problem, all answers of a route are one walk: counted as independent, they would
make every interval too narrow. Clusters are what is independent here.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypeVar

import numpy as np

TaskT = TypeVar("TaskT", bound=Hashable)

_ROUNDS, _AT_ONCE = 9, 1_111
"""Resamplings, in rounds so that thousands of clusters fit into memory; with what was observed they are 10,000."""


class Share(NamedTuple):
    """What a cluster has: 3 of its 4 answers are right in `Share(3, 4)`; successes may be parts of one."""

    successes: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much more often the first policy succeeds than the second, on the same tasks.

    On four tasks, of which the first solves three and the second one of these:
    `PairedDifference(value=0.5, low=0.0, high=1.0, p_value=0.5, n=4, num_clusters=4, only_first=2, only_second=0,
    mcnemar_p=0.5)`
    """

    value: float
    """The mean difference over tasks."""
    low: float
    """The lower end of its bootstrap interval, over clusters."""
    high: float
    """The upper end."""
    p_value: float
    """Of the test that turns the sign of the difference cluster by cluster: how often chance alone does as much."""
    n: int
    """How many tasks both were measured on."""
    num_clusters: int
    """How many independent groups these are."""
    only_first: int
    """Tasks that the first solves more often."""
    only_second: int
    """Tasks that the second solves more often."""
    mcnemar_p: float | None
    """Of McNemar's exact test, which takes tasks for independent; None where a task was played more than once."""


def interval(shares: Sequence[Share], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the chance behind all shares together.

    Wilson's, with as many independent units as explain the variance between clusters, and Student's quantile for
    their number. Where all units agree, the variance says nothing, and those of one cluster are taken for one.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, both excluded")
    counted = [_checked(share) for share in shares if share.n]
    if not counted:
        return 0.0, 1.0
    successes, sizes = np.array(counted, np.float64).T
    n, num_clusters = sizes.sum(), len(counted)
    share = successes.sum() / n
    units = n**2 / (sizes**2).sum()
    if num_clusters > 1 and 0 < share < 1:
        variance = ((successes - share * sizes) ** 2).sum() / n**2 * num_clusters / (num_clusters - 1)
        units = min(share * (1 - share) / variance, n) if variance > 1e-12 else units
    reach = _student(confidence, num_clusters - 1) if num_clusters > 1 else NormalDist().inv_cdf((1 + confidence) / 2)
    return _wilson(float(share), float(units), reach)


def pass_at_k(k: int, samples: int, right: int) -> float:
    """The chance that at least one of k is right, by `samples` samples of which `right` are, without bias.

    `pass_at_k(2, 4, 1)` is 0.5: of the six pairs of four samples, three hold the right one.
    """
    if not 0 <= right <= samples:
        raise ValueError(f"{right} of {samples} samples are right; that must lie between 0 and {samples}")
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples; k must lie between 1 and the number of samples")
    return 1 - comb(samples - right, k) / comb(samples, k)


def paired_difference(
    first: Mapping[TaskT, Sequence[bool]],
    second: Mapping[TaskT, Sequence[bool]],
    *,
    cluster_of: Mapping[TaskT, Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare what two policies did at the same tasks: for each task, which of its plays succeeded."""
    if first.keys() != second.keys():
        alone = sorted(map(str, first.keys() ^ second.keys()))
        raise ValueError(f"the policies met different tasks, so they cannot be paired: {alone[0]} only one of them")
    tasks = [task for task in first if first[task] and second[task]]
    if not tasks:
        raise ValueError("there is no task that both policies were measured on")
    differences = np.array([np.mean(first[task]) - np.mean(second[task]) for task in tasks])
    groups: dict[Hashable, int] = {}
    for task in tasks:
        groups.setdefault(cluster_of[task] if cluster_of is not None else task, len(groups))
    number = np.array([groups[cluster_of[task] if cluster_of is not None else task] for task in tasks])
    sums, sizes = np.bincount(number, differences), np.bincount(number)
    generator = np.random.default_rng(seed)
    low, high = _bootstrap(sums, sizes, confidence, generator)
    more, fewer = int((differences > 0).sum()), int((differences < 0).sum())
    played_once = all(len(first[task]) == len(second[task]) == 1 for task in tasks)
    return PairedDifference(
        value=float(differences.mean()),
        low=low,
        high=high,
        p_value=_sign_test(sums, generator),
        n=len(tasks),
        num_clusters=len(groups),
        only_first=more,
        only_second=fewer,
        mcnemar_p=mcnemar(more, fewer) if played_once else None,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The chance of a split at least so uneven of the tasks that one of two policies solves, were they equals."""
    if min(only_first, only_second) < 0:
        raise ValueError(f"{only_first} and {only_second} tasks; a count cannot be less than 0")
    total, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(total, count) for count in range(fewer + 1)) / 2**total)


def _checked(share: Share) -> Share:
    if not 0 <= share.successes <= share.n:
        raise ValueError(f"{share.successes} successes out of {share.n}; they must lie between 0 and n")
    return share


def _wilson(share: float, units: float, reach: float) -> tuple[float, float]:
    weight = reach**2 / units
    middle = (share + weight / 2) / (1 + weight)
    radius = reach / (1 + weight) * sqrt(share * (1 - share) / units + weight / (4 * units))
    # At the ends the formula gives exactly 0 and 1, but for the last bits.
    return (middle - radius if share > 0 else 0.0), (middle + radius if share < 1 else 1.0)


def _student(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's distribution, by its expansion in the normal one (Abramowitz 26.7.5): within
    0.1 % from 4 degrees of freedom on, and below by 1 % at 2 and by 11 % at 1."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _bootstrap(
    sums: np.ndarray, sizes: np.ndarray, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """The middle of the means over clusters drawn anew, as many as there are."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, both excluded")
    means = []
    for _ in range(_ROUNDS):
        drawn = generator.integers(0, len(sums), size=(_AT_ONCE, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _sign_test(sums: np.ndarray, generator: np.random.Generator) -> float:
    """Were the policies equals, each cluster's difference might as well have the other sign."""
    differing = sums[np.abs(sums) > 1e-12]
    # The observed signs are one of the possibilities; sums of equal numbers may differ in their last bits.
    observed, extreme = abs(differing.sum()) - 1e-9, 1
    for _ in range(_ROUNDS):
        signs = generator.integers(0, 2, size=(_AT_ONCE, len(differing)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ differing) >= observed).sum())
    return extreme / (_ROUNDS * _AT_ONCE + 1)
