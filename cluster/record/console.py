"""What a person sees while a run goes on: one live line in a terminal, plain lines in a job's log.

    rl | learn | iteration 12/60 | success 31.5 % | reward 1.42 | 14.9k tokens/s | 3 min left

In a log there is a line for each iteration that has ended and, whatever the run waits for, one every half minute:

    rl | rollout 37/128 for 2 min | iteration 12/60 | …

A terminal shows a bar besides.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, TextIO, TypeVar

from cluster.record.files import append
from cluster.record.ticking import SECONDS_BETWEEN_LINES, Ticking

ItemT = TypeVar("ItemT")
BAR_WIDTH = 20


class Progress:
    """The progress of one run. Use it as a context, or close it."""

    def __init__(
        self,
        title: str,
        total: int,
        *,
        stream: TextIO | None = None,
        is_terminal: bool | None = None,
        log: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`total` iterations; `log` gets the plain lines too."""
        self._title, self._total, self._clock, self._log = title, total, clock, log
        self._stream = stream or sys.stderr
        self._stage, self._stage_began = "start", clock()
        self._come = self._expected = 0
        self._iteration = 0
        self._shown: list[str] = []
        self._done = 0.0
        self._paced_from: tuple[float, float] | None = None
        self._seconds_of_all: float | None = None
        self._started = self._ended = self._last_line = clock()
        self._live: Any = None
        if self._stream.isatty() if is_terminal is None else is_terminal:
            self._live = self._start_live()
        self._is_closed, self._writing = False, Lock()
        self._ticking = Ticking(self._tick)

    def stage(self, name: str) -> None:
        """What is going on now."""
        self._stage, self._stage_began = name, self._clock()
        self._come = self._expected = 0

    def starts(self, what: str) -> None:
        """What the run waits for before it can do anything; said at once."""
        self.stage(f"starts {what}")
        self._line()

    def expects(self, count: int) -> None:
        """So many more are to come in this stage."""
        self._expected += count

    def came(self) -> None:
        """One of them has."""
        self._come += 1

    def counted(self, items: Iterable[ItemT], count: int) -> Iterator[ItemT]:
        """The items, so many, each told as it comes."""
        self.expects(count)
        for item in items:
            self.came()
            yield item

    def update(self, iteration: int, row: Mapping[str, Any], *, spent: float = 0.0) -> None:
        """Say that an iteration has ended, by its row of metrics; the first need not be number 1, in a resumed run.

        `spent` is which share of a budget is used up, where that may end the run before the last iteration.
        """
        now, done = self._clock(), max(iteration / self._total, spent)
        if self._paced_from is None or done <= self._done:
            # The first took a start too, and says nothing of the others.
            self._paced_from, self._seconds_of_all = (done, now), None
        else:
            self._seconds_of_all = (now - self._paced_from[1]) / (done - self._paced_from[0])
        self._iteration, self._done, self._ended, self._shown = iteration, done, now, _shown(row)
        self._line()

    def say(self, message: str) -> None:
        """Say something that happened, on a line of its own."""
        self._write(f"{self._title} | {message}")
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False)

    def close(self) -> None:
        """Say how it stands in the end, and give the terminal back."""
        if self._is_closed:
            return
        self._is_closed = True
        self._ticking.stop()
        self._write(" | ".join([*self._parts(), f"ended after {duration(self._clock() - self._started)}"]))
        if self._live is not None:
            self._live.stop()
            self._live = None

    def text(self) -> str:
        """The line as it is now; plain ASCII, since job logs may be."""
        left = self._seconds_left()
        return " | ".join([*self._parts(), *([] if left is None else [f"{duration(left)} left"])])

    def _parts(self) -> list[str]:
        return [self._title, self._now(), f"iteration {self._iteration}/{self._total}", *self._shown]

    def _now(self) -> str:
        """The stage, how much of it is done where that is known, and since when where that is long ago."""
        counted = f" {self._come}/{self._expected}" if self._expected else ""
        seconds = self._clock() - self._stage_began
        return f"{self._stage}{counted}" + (f" for {duration(seconds)}" if seconds >= SECONDS_BETWEEN_LINES else "")

    def _tick(self) -> None:
        if self._clock() - self._last_line >= SECONDS_BETWEEN_LINES and not self._is_closed:
            self._line()

    def _seconds_left(self) -> float | None:
        """At the pace since the first iteration that ended; None before the second has."""
        if self._seconds_of_all is None:
            return None
        return max(self._seconds_of_all * (1 - self._done) - (self._clock() - self._ended), 0.0)

    def _line(self) -> None:
        self._last_line = self._clock()
        self._write(self.text())

    def _write(self, line: str) -> None:
        with self._writing:
            if self._log is not None:
                append(self._log, f"{time.strftime('%H:%M:%S')} {line}\n".encode())
            if self._live is None:
                print(line, file=self._stream, flush=True)

    def _start_live(self) -> Any:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        live = Live(
            get_renderable=lambda: Text(f"{bar(self._done)} {self.text()}", no_wrap=True, overflow="ellipsis"),
            console=Console(file=self._stream, force_terminal=True),
            refresh_per_second=4,
        )
        live.start()
        return live


def bar(share: float) -> str:
    """How much is done, as a picture.

    >>> bar(0.25)
    '[#####---------------]'
    """
    done = round(BAR_WIDTH * min(max(share, 0.0), 1.0))
    return f"[{'#' * done}{'-' * (BAR_WIDTH - done)}]"


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `3 min`, `2 h 05 min`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _shown(row: Mapping[str, Any]) -> list[str]:
    """The few numbers of a row of metrics that a person wants to see at once, those that are there."""
    parts = []
    if (success := row.get("rollout/success")) is not None:
        parts.append(f"success {100 * success:.1f} %")
    if (reward := row.get("rollout/reward")) is not None:
        parts.append(f"reward {reward:.2f}")
    if (loss := row.get("learner/sft_loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (speed := _tokens_per_second(row)) is not None:
        parts.append(f"{speed:.0f} tokens/s" if speed < 1000 else f"{speed / 1000:.1f}k tokens/s")
    return parts


def _tokens_per_second(row: Mapping[str, Any]) -> float | None:
    """Of the rollouts where there are any, else of the learner."""
    if row.get("seconds/playing") and "rollout/sampled_tokens" in row:
        return row["rollout/sampled_tokens"] / row["seconds/playing"]
    return row.get("seconds/learner_tokens_per_second")
