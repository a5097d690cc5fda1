"""A measure along the way of an arm: each seed's points, and their mean with its interval.

seed_curves(study, "sft", "rule_shift", "success")  →  [[(0.0, Rate), (1e12, Rate), …], …]     a curve for each seed
mean_curve(…)                                       →  [(0.0, Rate), (1e12, Rate), …]
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from study.report.differences import over_seeds
from study.report.rates import Rate
from study.report.records import Point, Study

Curve = Sequence[tuple[float, Rate]]


def seed_curves(study: Study, arm: str, suite: str, measure: str) -> list[Curve]:
    """Against what each seed had spent, where anything was measured."""
    return curves_of(study, arm, suite, lambda point: point.rate(measure))


def curves_of(study: Study, arm: str, suite: str, told: Callable[[Point], Rate | None]) -> list[Curve]:
    """The same of anything that an evaluation tells."""
    curves = []
    for seed in study.seeds:
        found = [(point.at(study.ledger), rate) for point in study.series(arm, seed, suite) if (rate := told(point))]
        if found:
            curves.append(sorted(found, key=lambda pair: pair[0]))
    return curves


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The first points of all seeds, then the second of all, as far as every seed has come."""
    return [
        (fmean(x for x, _ in points), rate)
        for points in zip(*curves, strict=False)
        if (rate := over_seeds([rate for _, rate in points])) is not None
    ]
