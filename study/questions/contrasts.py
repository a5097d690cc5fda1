"""Arms held against each other: differences corrected for their number, where one passes another, what would choose.

contrasts_of(study, question)   →  [Contrast(first="rl", second="sft", by=…, value=0.12, low=…, p=…, …), …]
passes(points, "rl", "sft", …)  →  the compute from which on the first is above the second, or None
selections(points, question)    →  how well each measure of a start tells what comes of it
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from cluster.errors import ConfigError
from cluster.measuring.choosing import direction
from cluster.question_options import START, ContrastConfig, QuestionConfig
from study.questions.points import LEDGERS, Kept, is_start
from study.report.differences import compare, holm, over_seeds
from study.report.findings import Findings
from study.report.numbers import in_short, write_table
from study.report.rates import Rate
from study.report.records import Point, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How much higher the first arm ends than the second, over all seeds."""

    first: str
    second: str
    by: str
    against: str = ""
    """What the second is measured by, where that is something else."""
    of_first: float
    of_second: float
    value: float
    low: float
    high: float
    p: float
    """Over tasks and seeds, the larger of the two."""
    corrected: float
    """For the number of contrasts of the question (Holm)."""
    seeds: int
    n: int


def contrasts_of(study: Study, question: QuestionConfig) -> list[Contrast]:
    """Those that could be made; an arm of which nothing was measured is left out. Raises ConfigError where a measure
    has no interval to compare by."""
    findings, found = Findings(study), list[Contrast]()
    for asked in question.contrasts:
        suite, _, measure = asked.by.partition("/")
        of_other, _, against = (asked.against or asked.by).partition("/")
        pairs = _pairs(study, asked, suite, of_other)
        if not pairs:
            continue
        difference = compare(pairs, measure, findings.plays, findings.cluster_of(suite), against=against)
        if difference is None:
            raise ConfigError(
                f"compare.question.contrasts: {asked.by} or {asked.against or asked.by} has no interval, so that "
                f"{asked.first} and {asked.second} cannot be held against each other by it; name a rate"
            )
        sides = [
            [rate.value for point in side if (rate := point.rate(name))]
            for side, name in zip(zip(*pairs, strict=True), (measure, against), strict=True)
        ]
        found.append(
            Contrast(
                first=asked.first,
                second=asked.second,
                by=asked.by,
                against=asked.against or "",
                of_first=fmean(sides[0]),
                of_second=fmean(sides[1]),
                value=difference.value,
                low=difference.low,
                high=difference.high,
                p=difference.p,
                corrected=difference.p,
                seeds=len(difference.by_seed),
                n=difference.n,
            )
        )
    corrected = holm([contrast.p for contrast in found])
    return [replace(contrast, corrected=p) for contrast, p in zip(found, corrected, strict=True)]


def _pairs(study: Study, asked: ContrastConfig, suite: str, of_other: str) -> list[tuple[Point, Point]]:
    pairs = []
    for seed in study.seeds:
        series = study.series(asked.first, seed, suite)
        began = next(iter(study.series(asked.first, seed, of_other)), None)
        if asked.second != START:
            other = study.last(asked.second, seed, of_other)
        else:
            other = began if began is not None and is_start(began, asked.first) else None
        # By one measure, a policy is not held against itself.
        if series and other is not None and (series[-1].row is not other.row or asked.against):
            pairs.append((series[-1], other))
    return pairs


def write(contrasts: Sequence[Contrast], path: Path) -> None:
    """As CSV."""
    rows = (in_short(asdict(contrast)) for contrast in contrasts)
    write_table(path, [field.name for field in fields(Contrast)], rows)


def read(path: Path) -> list[Contrast]:
    """What was kept."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("first", "second", "by", "against"), str),
        **dict.fromkeys(("seeds", "n"), int),
    }
    return [Contrast(**{name: kinds.get(name, float)(value) for name, value in row.items()}) for row in rows]


def passes(points: Sequence[Kept], first: str, second: str, name: str, ledger: str) -> float | None:
    """The compute from which on the first arm is above the second for good, both as the means of their seeds and
    straight between evaluations; None where it is not above at the end of what both have spent."""
    curves = [[(x, rate.value) for x, rate in curve(points, arm, name, ledger)] for arm in (first, second)]
    if any(len(each) < 2 for each in curves):
        return None
    (one_x, one_y), (two_x, two_y) = (np.array(each).T for each in curves)
    last = min(one_x[-1], two_x[-1])
    places = np.unique(np.clip(np.concatenate([one_x, two_x]), max(one_x[0], two_x[0]), last))
    ahead = np.interp(places, one_x, one_y) - np.interp(places, two_x, two_y)
    if ahead[-1] <= 0:
        return None
    behind = np.flatnonzero(ahead <= 0)
    if not len(behind):
        return float(places[0])
    at = behind[-1]
    share = -ahead[at] / (ahead[at + 1] - ahead[at])
    return float(places[at] + share * (places[at + 1] - places[at]))


def curve(points: Sequence[Kept], arm: str, name: str, ledger: str) -> list[tuple[float, Rate]]:
    """The mean of the seeds at each evaluation in turn; one that has ended stays where it ended."""
    assert ledger in LEDGERS
    seeds: dict[int, list[Kept]] = {}
    for point in points:
        if (point.arm, point.name) == (arm, name):
            seeds.setdefault(point.seed, []).append(point)
    return [
        (fmean(getattr(point, ledger) for point in at_once), rate)
        for at_once in _held(list(seeds.values()))
        if (rate := over_seeds([point.rate for point in at_once])) is not None
    ]


def _held(seeds: Sequence[Sequence[Kept]]) -> Iterator[list[Kept]]:
    for index in range(max(map(len, seeds), default=0)):
        yield [points[min(index, len(points) - 1)] for points in seeds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """How a measure of a start tells what comes of it."""

    by: str
    spearman: float
    """Between the ranks of both, starts of one seed at a time, the mean of the seeds; 1 where it tells all."""
    regret: float
    """How much worse the outcome of the start that it chooses is than that of the best, the mean of the seeds; of
    several that it finds equally good, the mean of theirs."""
    starts: int


def selections(points: Sequence[Kept], question: QuestionConfig) -> list[Selector]:
    """Of each selector of the question, over the starts that all of them were measured on, where these are three or
    more."""
    wanted = [*((by, "start") for by in question.selectors), (question.outcome or "", "end")]
    *told, came = (
        {(point.seed, point.arm): point.value for point in points if (point.name, point.when) == each}
        for each in wanted
    )
    common = [start for start in came if all(start in known for known in told)]
    by_seed = {seed: [start for start in common if start[0] == seed] for seed in dict.fromkeys(s for s, _ in common)}
    starts = [each for each in by_seed.values() if len(each) > 2]
    return [_selector(by, known, came, starts) for by, known in zip(question.selectors, told, strict=True) if starts]


def _selector(
    by: str, told: Mapping[tuple[int, str], float], came: Mapping[tuple[int, str], float], starts: Sequence[Any]
) -> Selector:
    sign, ranks, regrets = direction(by.partition("/")[2]) or 1, [], []
    for of_seed in starts:
        scores = np.array([sign * told[start] for start in of_seed])
        results = np.array([came[start] for start in of_seed])
        ranks.append(spearman(scores, results))
        regrets.append(float(results.max() - results[scores == scores.max()].mean()))
    return Selector(by=by, spearman=fmean(ranks), regret=fmean(regrets), starts=min(map(len, starts)))


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of ranks, equals sharing theirs; 0 where either is all alike."""
    first, second = _ranks(one), _ranks(other)
    if not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])
