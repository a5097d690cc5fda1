"""What libraries say while a run starts and goes on: into its log, so that a terminal shows the run alone.

    with held(): import …     warnings wait until there is a log
    with written_to(log): …   warnings into the log, with those that have waited

Errors reach the terminal at once, whatever else is done with them.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

OWN_LOGGING = "VLLM_CONFIGURE_LOGGING"
"""At 0 vLLM leaves it to us where its notices go; in this process alone, since engines have logs of their own."""
MOST_HELD = 1000


class _Terminal(logging.Handler):
    """To whatever stands for the terminal now: a live line takes its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_held = MemoryHandler(MOST_HELD, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
_held.setLevel(logging.WARNING)
_terminal = _Terminal(logging.ERROR)


@contextmanager
def held() -> Iterator[None]:
    """Import what is heavy inside the block; what is said in it and behind it is kept until `written_to`."""
    for handler in (_held, _terminal):
        logging.getLogger().addHandler(handler)
    is_ours = OWN_LOGGING not in os.environ
    os.environ.setdefault(OWN_LOGGING, "0")
    try:
        yield
    finally:
        if is_ours:
            del os.environ[OWN_LOGGING]


@contextmanager
def written_to(log: Path) -> Iterator[None]:
    """Write it into a log while the block runs."""
    root = logging.getLogger()
    file = logging.FileHandler(log, encoding="utf-8", delay=True)
    file.setLevel(logging.WARNING)
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s | %(message)s", datefmt="%H:%M:%S"))
    _held.setTarget(file)
    _held.flush()
    root.removeHandler(_held)
    added = [handler for handler in (file, _terminal) if handler not in root.handlers]
    for handler in added:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in added:
            root.removeHandler(handler)
        file.close()
