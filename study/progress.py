"""What a person sees of a study while it is made: which cell of how many, and the time left of the whole.

study | sft_seed0 begins, cell 3 of 12 | 20 min left
study | sft_seed0 made in 4 min | 3 of 12 cells made, 1 under way | 14 min left
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TextIO

from cluster.record.console import duration
from study.cells import Cell
from study.marks import mark_of, seconds_left


class StudyProgress:
    """The progress of all cells; threads may tell it of theirs."""

    def __init__(
        self,
        cells: Sequence[Cell],
        width: int,
        log: Path,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`width` cells are made at a time."""
        self._cells, self._width, self._log, self._clock = cells, width, log, clock
        self._stream = stream or sys.stderr
        self._marks = {cell.folder: mark_of(cell.folder) for cell in cells}
        self._began: dict[Path, float] = {}
        self._changing = Lock()

    def begins(self, cell: Cell) -> None:
        """A cell is under way."""
        with self._changing:
            self._began[cell.folder] = self._clock()
        self.say(f"{cell.folder.name} begins, cell {self._cells.index(cell) + 1} of {len(self._cells)}", self._left())

    def made(self, cell: Cell) -> None:
        """A cell is made, and its mark written."""
        with self._changing:
            seconds = self._clock() - self._began.pop(cell.folder)
            self._marks[cell.folder] = mark_of(cell.folder)
        self.say(f"{cell.folder.name} made in {duration(seconds)}", self.standing())

    def standing(self) -> str:
        """How many are made, and when all will be."""
        made = sum(mark.is_done for mark in self._marks.values())
        under_way = f", {len(self._began)} under way" if self._began else ""
        parts = [f"{made} of {len(self._cells)} cells made{under_way}", self._left()]
        return " | ".join(part for part in parts if part)

    def say(self, *parts: str) -> None:
        """A line, on the terminal and in the study's log."""
        line = " | ".join(["study", *(part for part in parts if part)])
        with self._changing:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            print(line, file=self._stream, flush=True)

    def _left(self) -> str:
        now = self._clock()
        begun = {folder: now - since for folder, since in dict(self._began).items()}
        left = seconds_left(self._cells, self._marks, begun, self._width)
        return "" if left is None else f"{duration(left)} left"
