"""`ruleshift`, which says besides when each phase of a run begins, and can stop itself in one.

STOP_IN="push 2 0.05 SIGINT group" python -m tests.support.telling rl …    0.05 s after the second push has begun
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import ray

from cluster.groups.actors import Actors
from cluster.training import Training
from study.cli import main

_init, _begin, _phase = ray.init, Actors.begin, Training.phase


_begun = Counter[str]()


def _tell(name: str) -> None:
    print(f"[{name}]", flush=True)
    _begun[name] += 1
    phase, number, seconds, kind, whom = os.environ.get("STOP_IN", "none 0 0 SIGTERM process").split()
    if (name, _begun[name]) == (phase, int(number)):
        Timer(float(seconds), _ask, (signal.Signals[kind], whom)).start()


def _ask(kind: signal.Signals, whom: str) -> None:
    print(f"[asked] {time.time()}", flush=True)
    if whom == "group":
        os.killpg(0, kind)
    else:
        os.kill(os.getpid(), kind)


def _telling_init(*arguments: Any, **options: Any) -> Any:
    _tell("ray")
    return _init(*arguments, **options)


def _telling_begin(actors: Actors, *arguments: Any) -> None:
    _tell("actors")
    _begin(actors, *arguments)


@contextmanager
def _telling_phase(run: Training, name: str) -> Iterator[None]:
    with _phase(run, name):
        _tell(name)
        yield


if __name__ == "__main__":
    ray.init, Actors.begin, Training.phase = _telling_init, _telling_begin, _telling_phase  # pyright: ignore
    sys.exit(main())
