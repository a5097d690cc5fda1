"""Numbers of a row of evaluations: what was measured, with its interval and what it was counted over.

rate_of(row, "success")  →  Rate(value=0.6, low=0.44, high=0.74, n=40)
measures_of(row)         →  ["success", "first_try_success", …]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

CONTEXT = ("iteration", "suite", "temperature")


@dataclass(frozen=True, slots=True)
class Rate:
    """A number, with its interval and what it was counted over where these are recorded."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


def number(value: Any) -> float | None:
    """The value if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def rate_of(row: Row, measure: str) -> Rate | None:
    """A measure of a row with its interval."""
    value = number(row.get(measure))
    if value is None:
        return None
    n = number(row.get(f"{measure}_n"))
    low, high = number(row.get(f"{measure}_low")), number(row.get(f"{measure}_high"))
    return Rate(value, low, high, None if n is None else int(n))


def measures_of(row: Row) -> list[str]:
    """The names of what was measured, without compute, context and the ends of intervals."""
    rest = {f"{name}{ending}" for name in row for ending in ("_n", "_low", "_high")}
    skipped = {*CONTEXT, *rest}
    return [
        name
        for name, value in row.items()
        if name not in skipped and not name.startswith("compute/") and number(value) is not None
    ]


def measure_words(measure: str) -> str:
    """The name of a measure that no environment has named, in words."""
    first = "checks_at_first_attempt/"
    if measure.startswith(first):
        return f"{measure.removeprefix(first).replace('_', ' ')} at the first attempt"
    return measure.replace("_", " ").replace("/", " ")
