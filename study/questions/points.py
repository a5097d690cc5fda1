"""What is kept of a study that has asked something: a row for each wanted measure of each evaluation, as a CSV.

points_of(study, question)  →  [Kept(arm="rl_max_attempts_3", of="rl", values={…}, seed=10, when="end", …), …]
write(points, path); read(path)

An arm's first evaluation is that of what it starts from, so that the table stands by itself.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cluster.errors import ConfigError
from cluster.faults import hint
from cluster.question_options import QuestionConfig
from study.report.numbers import in_short, write_table
from study.report.rates import Rate, measures_of
from study.report.records import Point, Study

LEDGERS = {
    "flops": "compute/flops",
    "paper_flops": "compute/paper_flops",
    "trained_tokens": "compute/trained_tokens",
    "device_seconds": "compute/device_seconds",
}
"""What an arm had spent, as the table has it and as the records do."""
ACCOUNTS = {"flops": "FLOPs", "paper_flops": "FLOPs by the paper's count", "trained_tokens": "tokens trained on"}
"""Those that do not hang on the machine, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One measure of one evaluation."""

    arm: str
    """As its runs are called."""
    of: str
    """The arm that it is a variant of."""
    values: Mapping[str, Any]
    """What the sweep has set, by key."""
    seed: int
    when: Literal["start", "way", "end"]
    """Whether it is the policy that the arm starts from, one on the way, or the last."""
    iteration: int
    suite: str
    measure: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    flops: float
    paper_flops: float
    trained_tokens: float
    device_seconds: float

    @property
    def name(self) -> str:
        """Suite and measure, as the question names them."""
        return f"{self.suite}/{self.measure}"

    @property
    def rate(self) -> Rate:
        """The value with its interval."""
        return Rate(self.value, self.low, self.high, self.n)


def points_of(study: Study, question: QuestionConfig) -> list[Kept]:
    """In the study's order; ConfigError where a measure was never taken."""
    points = [point for name in question.wanted for point in _of_measure(study, name)]
    found = {point.name for point in points}
    for name in question.wanted:
        if name not in found:
            rows = [row for cell in study.cells.values() for row in cell.rows]
            known = sorted({f"{row['suite']}/{measure}" for row in rows for measure in measures_of(row)})
            raise ConfigError(f"compare.question: {name} was not measured; {hint(name, known, 'there are')}")
    return points


def _of_measure(study: Study, name: str) -> Iterator[Kept]:
    suite, _, measure = name.partition("/")
    for arm in study.arms:
        variant = study.sweep.get(arm, {})
        for seed in study.seeds:
            series = study.series(arm, seed, suite)
            for index, point in enumerate(series):
                if (rate := point.rate(measure)) is None:
                    continue
                begins = is_start(point, arm)
                yield Kept(
                    arm=arm,
                    of=str(variant.get("arm", arm)),
                    values=dict(variant.get("values", {})),
                    seed=seed,
                    when="start" if begins else "end" if index == len(series) - 1 else "way",
                    iteration=0 if begins else int(point.row["iteration"]),
                    suite=suite,
                    measure=measure,
                    value=rate.value,
                    low=rate.low,
                    high=rate.high,
                    n=rate.n,
                    **{short: point.at(ledger) for short, ledger in LEDGERS.items()},
                )


def is_start(point: Point, arm: str) -> bool:
    """Whether it is what the arm starts from, and no evaluation on its way."""
    return point.cell.arm != arm or point.row["iteration"] == 0


def write(points: Iterable[Kept], path: Path) -> None:
    """As CSV, numbers in five digits; what is not known is empty."""
    rows = ({**in_short(asdict(point)), "values": json.dumps(point.values) if point.values else ""} for point in points)
    write_table(path, [field.name for field in fields(Kept)], rows)


def read(path: Path) -> list[Kept]:
    """What was kept."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_read(row) for row in csv.DictReader(file)]


def _read(row: Mapping[str, str]) -> Kept:
    told: dict[str, Any] = {name: row[name] for name in ("arm", "of", "when", "suite", "measure")}
    told |= {name: float(row[name]) if row[name] else None for name in ("low", "high")}
    told |= {short: float(row[short]) for short in LEDGERS}
    return Kept(
        **told,
        values=json.loads(row["values"] or "{}"),
        seed=int(row["seed"]),
        iteration=int(row["iteration"]),
        value=float(row["value"]),
        n=int(row["n"]) if row["n"] else None,
    )


def ends(points: Sequence[Kept], arm: str, name: str, when: str = "end") -> dict[int, Kept]:
    """By seed, what an arm came to, or began at."""
    return {point.seed: point for point in points if (point.arm, point.name, point.when) == (arm, name, when)}
