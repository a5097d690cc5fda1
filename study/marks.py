"""What a study notes in the folder of each cell, and what follows for the time that the others will take.

mark_of(folder)                 →  Mark: of which configuration it is, whether it is made, in how many seconds
write_mark(cell, is_done=…)
expected_seconds(cell, study)   →  as long as others of its name took, or of its command, or any; None of nothing
seconds_left(…)                 →  until all are made
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from cluster.record.files import replace
from study.cells import Cell

MARK = "cell.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Of a cell: `Mark(digest="3f0c…", is_done=True, seconds=212.4)`."""

    digest: str | None = None
    """Of its configuration; None where it was never begun."""
    is_done: bool = False
    """Whether it is made."""
    seconds: float | None = None
    """How long it took, all its beginnings together; None where that was not noted."""


def mark_of(folder: Path) -> Mark:
    """The mark in a cell's folder."""
    file = folder / MARK
    if not file.is_file():
        return Mark()
    told = json.loads(file.read_text(encoding="utf-8"))
    return Mark(digest=told["digest"], is_done=told["is_done"], seconds=told.get("seconds"))


def write_mark(cell: Cell, *, is_done: bool, seconds: float) -> None:
    """At once, in the place of the one before."""
    told = {"digest": cell.digest, "is_done": is_done, "seconds": round(seconds, 1)}
    replace(cell.folder / MARK, json.dumps(told).encode())


def expected_seconds(cell: Cell, cells: Iterable[Cell], marks: Mapping[Path, Mark]) -> float | None:
    """As long as the made cells took that are most like it; None while there are none."""
    made = [(one, seconds) for one in cells if (seconds := _taken(marks[one.folder])) is not None]
    alike = (
        [seconds for one, seconds in made if one.name == cell.name],
        [seconds for one, seconds in made if one.command == cell.command],
        [seconds for _, seconds in made],
    )
    return next((mean(seconds) for seconds in alike if seconds), None)


def seconds_left(
    cells: Sequence[Cell], marks: Mapping[Path, Mark], begun: Mapping[Path, float], width: int
) -> float | None:
    """Until all are made, `width` at a time; `begun` says for how long cells have been under way this time. None while
    no cell has been made."""
    left = []
    for cell in cells:
        if not marks[cell.folder].is_done:
            whole = expected_seconds(cell, cells, marks)
            if whole is None:
                return None
            had = (marks[cell.folder].seconds or 0.0) + begun.get(cell.folder, 0.0)
            left.append(max(whole - had, 0.0))
    return max(sum(left) / width, max(left, default=0.0))


def _taken(mark: Mark) -> float | None:
    return mark.seconds if mark.is_done else None
