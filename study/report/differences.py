"""Whether two policies differ: over the tasks that both were measured on, and over the seeds they were trained with.

Tasks are what a policy meets, seeds are what a method meets. A difference counts only if it holds over both: the
larger of two p-values is the p-value, the wider of two intervals the interval. With one seed there is the first alone,
and what it says is of two policies and not of two methods.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import atan, cos, pi, sin, sqrt
from statistics import NormalDist, fmean, stdev

from cluster.measuring.intervals import paired_difference
from study.report.judging import Plays, Unit
from study.report.rates import Rate
from study.report.records import Point

LEVEL = 0.05
PlaysOf = Callable[[Point, str], Plays]
"""Those of an evaluation, by a measure."""
ClusterOf = Callable[[Unit], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much higher a rate is in one policy than in another, and how sure that is."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    task_p: float
    """Of the test over tasks, all seeds together."""
    seed_p: float | None
    """Of Student's test over seeds; None with one seed."""
    n: int
    """How many plays or tasks each side has."""
    is_paired: bool
    """Whether the same tasks were compared one by one; otherwise the intervals of the two rates were."""

    @property
    def holds_over_tasks(self) -> bool:
        """Whether it is more than chance over the tasks."""
        return self.task_p < LEVEL

    @property
    def p(self) -> float:
        """Over tasks and, where there are several, over seeds: the larger of the two."""
        return max(self.task_p, self.seed_p or 0.0)

    @property
    def is_significant(self) -> bool:
        """Whether it is more than chance over both."""
        return self.p < LEVEL


def compare(
    pairs: Sequence[tuple[Point, Point]],
    measure: str,
    plays_of: PlaysOf,
    cluster_of: ClusterOf,
    *,
    against: str | None = None,
) -> Difference | None:
    """How much higher `measure` is in the first of each pair than it, or `against`, is in the second; there is a pair
    for each seed.

    Paired by the plays of both sides, where these were kept and tell of the same.
    """
    measures = measure, against or measure
    return _paired(pairs, measures, plays_of, cluster_of) or _unpaired(pairs, measures)


def holm(values: Sequence[float]) -> list[float]:
    """The p-values of so many tests, corrected for being so many (Holm, step down).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order, worst, corrected = sorted(range(len(values)), key=values.__getitem__), 0.0, [0.0] * len(values)
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = worst
    return corrected


def student_p(t: float, freedom: int) -> float:
    """The two-sided chance of at least this `t` (Abramowitz 26.7.3 and 26.7.4).

    >>> round(student_p(12.706, 1), 4), round(student_p(4.303, 2), 4), round(student_p(2.776, 4), 4)
    (0.05, 0.05, 0.05)
    """
    angle = atan(abs(t) / sqrt(freedom))
    odd = freedom % 2
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for index in range((freedom - odd) // 2):
        total += term
        step = 2 * index + 1 + odd
        term *= step / (step + 1) * cos(angle) ** 2
    inside = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return max(0.0, 1 - inside)


def student_reach(freedom: int, confidence: float = 0.95) -> float:
    """How many standard errors the interval reaches to either side."""
    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - confidence else (low, middle)
    return high


def over_seeds(rates: Sequence[Rate]) -> Rate | None:
    """The mean of the seeds, with the wider of Student's interval and the mean of theirs; one seed's own alone."""
    if not rates:
        return None
    if len(rates) == 1:
        return rates[0]
    values = [rate.value for rate in rates]
    n = sum(rate.n or 0 for rate in rates) or None
    low, high = _student_interval(values)
    lows, highs = [rate.low for rate in rates], [rate.high for rate in rates]
    if None not in lows and None not in highs:
        # All seeds met the same tasks: their luck with these does not show in how far the seeds lie apart.
        low = max(min(low, fmean(end for end in lows if end is not None)), 0.0)
        high = min(max(high, fmean(end for end in highs if end is not None)), 1.0)
    return Rate(fmean(values), low, high, n)


def _student_interval(values: Sequence[float]) -> tuple[float, float]:
    reach = student_reach(len(values) - 1) * stdev(values) / sqrt(len(values))
    return fmean(values) - reach, fmean(values) + reach


def _paired(
    pairs: Sequence[tuple[Point, Point]], measures: tuple[str, str], plays_of: PlaysOf, cluster_of: ClusterOf
) -> Difference | None:
    firsts: dict[tuple[int, Unit], Sequence[bool]] = {}
    seconds: dict[tuple[int, Unit], Sequence[bool]] = {}
    by_seed = []
    for index, (one, other) in enumerate(pairs):
        first, second = plays_of(one, measures[0]), plays_of(other, measures[1])
        common = [unit for unit in first if unit in second]
        if not common or not _are_alike(first, second):
            return None
        by_seed.append(fmean(fmean(first[unit]) - fmean(second[unit]) for unit in common))
        firsts |= {(index, unit): first[unit] for unit in common}
        seconds |= {(index, unit): second[unit] for unit in common}
    if not by_seed:
        return None
    # A task is the same problem under every seed, so that all its plays and steps are one cluster.
    clusters = {unit: cluster_of(unit) for unit in dict.fromkeys(unit for _, unit in firsts)}
    found = paired_difference(firsts, seconds, cluster_of={play: clusters[play[1]] for play in firsts})
    return _joined(fmean(by_seed), found.low, found.high, found.p_value, by_seed, found.n, is_paired=True)


def _are_alike(first: Plays, second: Plays) -> bool:
    """Whether the steps of the same tasks were asked about equally often; a policy that fails early is asked less."""
    tasks = {unit[:3] for unit in first} & {unit[:3] for unit in second}
    units = {unit for unit in (*first, *second) if unit[:3] in tasks}
    return all(len(first.get(unit, ())) == len(second.get(unit, ())) for unit in units if unit.step)


def _unpaired(pairs: Sequence[tuple[Point, Point]], measures: tuple[str, str]) -> Difference | None:
    normal, by_seed, variance, n = NormalDist(), [], 0.0, 0
    for one, other in pairs:
        first, second = one.rate(measures[0]), other.rate(measures[1])
        if first is None or second is None or None in (first.low, second.low, first.high, second.high):
            return None
        by_seed.append(first.value - second.value)
        for rate in (first, second):
            assert rate.low is not None and rate.high is not None  # as was asked above
            variance += ((rate.high - rate.low) / 2 / normal.inv_cdf(0.975)) ** 2
        n += min(first.n or 0, second.n or 0)
    if not by_seed:
        return None
    error = sqrt(variance) / len(by_seed)
    value, reach = fmean(by_seed), error * normal.inv_cdf(0.975)
    p = 2 * (1 - normal.cdf(abs(value) / error)) if error else 1.0
    return _joined(value, value - reach, value + reach, p, by_seed, n, is_paired=False)


def _joined(
    value: float, low: float, high: float, task_p: float, by_seed: Sequence[float], n: int, *, is_paired: bool
) -> Difference:
    seed_p = None
    if len(by_seed) > 1:
        spread = stdev(by_seed)
        seed_p = student_p(value / spread * sqrt(len(by_seed)), len(by_seed) - 1) if spread else float(value == 0)
        seed_low, seed_high = _student_interval(by_seed)
        low, high = max(min(low, seed_low), -1.0), min(max(high, seed_high), 1.0)
    return Difference(
        value=value, low=low, high=high, by_seed=tuple(by_seed), task_p=task_p, seed_p=seed_p, n=n, is_paired=is_paired
    )
