"""A transfer that ends, whatever becomes of those who take part.

    with Watchdog(abort, seconds) as watchdog:
        future = pool.submit(watchdog.heed(client.update_weights), info)      receivers
        broadcast(…)                                                          blocks until all receivers take part

A receiver that fails or dies takes part in no broadcast, and the sender's kernel would wait for it for good. The
watchdog aborts the communicator as soon as a receiver's call raises, or when the time is over.
"""

from collections.abc import Callable
from threading import Lock, Timer
from types import TracebackType
from typing import Any, Self

from rollout.engine import EngineError


class Watchdog:
    """Watches one transfer."""

    def __init__(self, abort: Callable[[], None], seconds: float) -> None:
        """`abort` ends whatever the transfer waits in; it is called once, from another thread."""
        self._abort, self._seconds = abort, seconds
        self._failure: BaseException | None = None
        self._is_over = False
        self._changing = Lock()
        self._timer = Timer(seconds, self._late)
        self._timer.daemon = True

    def heed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call; what it raises ends the transfer."""

        def heeded(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except BaseException as error:
                self._fail(error)
                raise

        return heeded

    def _late(self) -> None:
        self._fail(EngineError(f"new weights were not taken within {self._seconds:.0f} s"))

    def _fail(self, error: BaseException) -> None:
        with self._changing:
            if self._is_over or self._failure is not None:
                return
            self._failure = error
        self._abort()

    def __enter__(self) -> Self:
        """The time begins."""
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What went wrong first is what is raised: that the transfer was aborted says nothing of why."""
        self._timer.cancel()
        with self._changing:
            self._is_over = True
        if self._failure is not None:
            raise self._failure from error
