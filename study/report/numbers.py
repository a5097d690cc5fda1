"""Every number of a study or of several, in long form: a row for each measure of each evaluation."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.record.files import replace
from study.report.rates import measures_of, rate_of
from study.report.records import COMPUTE, Study

COLUMNS = (
    *("study", "arm", "seed", "suite", "temperature", "iteration", "measure", "value", "low", "high", "n"),
    *COMPUTE,
)


def numbers(study: Study) -> Iterator[dict[str, Any]]:
    """A row for each number that was measured, the ends of its interval beside it."""
    for (arm, seed), cell in study.cells.items():
        for row in cell.rows:
            context = {key: row[key] for key in ("suite", "temperature", "iteration")}
            spent = {key: row.get(key) for key in COMPUTE}
            for measure in measures_of(row):
                rate = rate_of(row, measure)
                assert rate is not None  # since it is one of the measures
                yield {
                    "study": study.name,
                    "arm": arm,
                    "seed": seed,
                    **context,
                    "measure": measure,
                    "value": rate.value,
                    "low": rate.low,
                    "high": rate.high,
                    "n": rate.n,
                    **spent,
                }


def write_numbers(studies: Iterable[Study], path: Path) -> None:
    """The table as CSV; what was not recorded is empty."""
    write_table(path, COLUMNS, (row for study in studies for row in numbers(study)))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace(path, text.getvalue().encode())


def in_short(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with five digits of each number that is not whole."""
    return {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}


def packed(study: Study) -> dict[str, Any]:
    """The same for a page, in few bytes: words stand once, and rows name them by their places."""
    words: dict[str, int] = {}
    rows = []
    for row in numbers(study):
        places = [words.setdefault(str(row[key]), len(words)) for key in ("arm", "suite", "measure")]
        ends = [_short(row[key]) for key in ("value", "low", "high")]
        spent = _short(row[study.ledger] if study.ledger in row else row["compute/flops"])
        rows.append([*places, row["seed"], row["temperature"], row["iteration"], *ends, row["n"], spent])
    return {"words": list(words), "rows": rows}


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
