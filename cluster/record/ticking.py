"""Something that is done now and then, whatever the main thread waits for.

    ticking = Ticking(say_that_it_lives, seconds=1.0)
    ticking.stop()

The thread holds its owner weakly: it ends with it, with `stop` and with the process. What cannot be written now is left
out, and nobody's trouble: the disk may have room again at the next tick. What else goes wrong is logged; ticks go on.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread, current_thread, main_thread
from typing import TextIO
from weakref import WeakMethod

from cluster.record.disk import DiskFull

SECONDS_BETWEEN_LINES = 30.0
"""How long whoever looks on is left without a word."""
SECONDS_BETWEEN_TICKS = 1.0


class Ticking:
    """A thread that calls a method again and again."""

    def __init__(self, tick: Callable[[], None], seconds: float = SECONDS_BETWEEN_TICKS) -> None:
        """`tick` is a bound method."""
        self._tick, self._seconds, self._stopped = WeakMethod(tick), seconds, Event()
        self._thread = Thread(target=self._run, daemon=True, name=f"tick-{tick.__name__}")
        self._thread.start()

    def stop(self) -> None:
        """No tick begins after this; one that is under way is waited for, though not for long."""
        self._stopped.set()
        if self._thread is not current_thread():
            self._thread.join(SECONDS_BETWEEN_TICKS)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds) and main_thread().is_alive():
            tick = self._tick()
            if tick is None:
                return
            try:
                with suppress(OSError, DiskFull):
                    tick()
            except ValueError:  # the stream is closed
                return
            except Exception:
                logging.getLogger(__name__).exception("a tick of %s went wrong", self._thread.name)
            del tick  # or its owner would live from one tick to the next


class _Waiting:
    def __init__(self, what: str, stream: TextIO) -> None:
        self._what, self._stream, self._since = what, stream, time.monotonic()

    def say(self) -> None:
        """For how long it has been waited."""
        print(f"{self._what} | for {time.monotonic() - self._since:.0f} s", file=self._stream, flush=True)


@contextmanager
def waiting(what: str, stream: TextIO, seconds: float = SECONDS_BETWEEN_LINES) -> Iterator[None]:
    """Say at once what is waited for inside the block, and again every half minute."""
    print(what, file=stream, flush=True)
    said = _Waiting(what, stream)
    ticking = Ticking(said.say, seconds)
    try:
        yield
    finally:
        ticking.stop()
