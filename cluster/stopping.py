"""A request to stop, and where a run hears it.

    with stop_signals(10.0) as stop:     SIGTERM and Ctrl-C make the request; to ask again is to insist
        with heard_by_waits(stop):
            wait(calls, 3600)            ray.wait of one, and
            hear(queue, 3600)            queue.get, and
            pause(10)                    time.sleep: all raise Interrupted where the run may be left
            stop.check()                 so does this

A run may be left at once, unless the learner is being changed: then once the time is over that a stop may take. Waits
look for the request instead of being interrupted by the signal, since Ray makes something else of what a handler
raises, and since runs side by side wait in threads, which no signal reaches.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, TypeVar

import ray

T = TypeVar("T")

STOPPED = 130
"""The exit status of a command that was asked to stop."""
STOP_SECONDS = 10.0
CLOSE_SECONDS = 4.5
"""How long everything may take to close behind that; then the process ends, and what is below it with it."""
SECONDS_BETWEEN_LOOKS = 0.2
LONGEST_WAIT_SECONDS = 3600.0
ONE_REQUEST_SECONDS = 1.0
"""Signals as close together as this are one request: `timeout`, for one, sends two."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and may be left where it is."""


class StopRequest:
    """Whether a run has been asked to stop, and whether it may be left."""

    def __init__(self, seconds: float = STOP_SECONDS) -> None:
        """`seconds` is how long a stop may take, from the request to the checkpoint."""
        self._seconds = seconds
        self._asked: float | None = None
        self._is_insisted = False
        self.is_starting = False
        """Whether there is nothing yet to be lost: a signal then interrupts whatever is going on."""
        self.is_patient = False
        """Whether the learner is being changed."""
        self.is_closing = False
        """Whether the run has been left."""

    @property
    def is_made(self) -> bool:
        """Whether it was asked."""
        return self._asked is not None

    @property
    def seconds_left(self) -> float:
        """Until the run is left in any case."""
        if self._asked is None:
            return self._seconds
        return 0.0 if self._is_insisted else max(self._asked + self._seconds - time.monotonic(), 0.0)

    def ask(self) -> None:
        """The first time asks, any that is not of the same moment insists."""
        now = time.monotonic()
        self._is_insisted |= self._asked is not None and now - self._asked > ONE_REQUEST_SECONDS
        self._asked = now if self._asked is None else self._asked

    @contextmanager
    def starting(self) -> Iterator[None]:
        """There is nothing yet to be lost: a signal interrupts the block wherever it is."""
        self.check()
        self.is_starting = True
        try:
            yield
        finally:
            self.is_starting = False
        self.check()

    def check(self) -> None:
        """Raise Interrupted where the run was asked to stop and may be left."""
        if self.is_made and not self.is_closing and not (self.is_patient and self.seconds_left):
            raise Interrupted


class _Signals:
    """What signals do to the main thread."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def asked(self, number: int, frame: FrameType | None) -> None:
        """By SIGTERM or Ctrl-C. From then on an alarm sees to it that there is an end, whatever is going on."""
        stop = self._stop
        if not stop.is_made:
            signal.signal(signal.SIGALRM, self.overdue)
            signal.setitimer(signal.ITIMER_REAL, stop.seconds_left, CLOSE_SECONDS)
        stop.ask()
        if not stop.is_closing and (stop.is_starting or not stop.seconds_left):
            raise Interrupted

    def overdue(self, number: int, frame: FrameType | None) -> None:
        """The time is over: leave the run; where that has not come to an end either, leave the process."""
        if self._has_alarmed:
            # Not printed: the signal may have come in the middle of that.
            os.write(2, b"ruleshift: what was started does not close in time; it ends with this\n")
            os._exit(STOPPED)
        self._has_alarmed = True
        if not self._stop.is_closing:
            raise Interrupted

    _has_alarmed = False


@contextmanager
def stop_signals(seconds: float = STOP_SECONDS) -> Iterator[StopRequest]:
    """Take SIGTERM and SIGINT as requests while the block runs."""
    stop = StopRequest(seconds)
    signals = _Signals(stop)
    before = {number: signal.signal(number, signals.asked) for number in (signal.SIGTERM, signal.SIGINT)}
    alarm = signal.getsignal(signal.SIGALRM)
    try:
        yield stop
    finally:
        if stop.is_made:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        for number, handler in before.items():
            signal.signal(number, handler)


_PRESENT: ContextVar[StopRequest | None] = ContextVar("stop", default=None)


@contextmanager
def heard_by_waits(stop: StopRequest) -> Iterator[None]:
    """Whoever waits in the block, in this thread, hears this request."""
    token = _PRESENT.set(stop)
    try:
        yield
    finally:
        _PRESENT.reset(token)


def check_stop() -> None:
    """Raise Interrupted where the run of this thread was asked to stop and may be left."""
    if stop := _PRESENT.get():
        stop.check()


def wait(calls: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
    """Which of Ray's calls has an answer, and those left; none where none has one in time."""
    calls = list(calls)
    for part in _parts(seconds):
        done, left = ray.wait(calls, timeout=part)
        if done:
            return done, left
    return [], calls


def hear(queue: "SimpleQueue[T]", seconds: float) -> T:
    """The next of the queue; raises Empty where nothing comes in time."""
    for part in _parts(seconds):
        try:
            return queue.get(timeout=part)
        except Empty:
            continue
    raise Empty


def pause(seconds: float) -> None:
    """Do nothing for so long."""
    for part in _parts(seconds):
        time.sleep(part)


def _parts(seconds: float) -> Iterator[float]:
    """The time in parts, between which the request is looked for."""
    stop, deadline = _PRESENT.get(), time.monotonic() + seconds
    longest = SECONDS_BETWEEN_LOOKS if stop else LONGEST_WAIT_SECONDS
    while True:
        if stop:
            stop.check()
        left = max(deadline - time.monotonic(), 0.0)
        yield min(left, longest)
        if left <= longest:
            return
