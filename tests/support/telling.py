"""`ruleshift`, which says besides when each phase of a run begins: for whoever wants to hit one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from cluster.groups.actors import Actors
from cluster.training import Training
from study.cli import main

_init, _begin, _phase = ray.init, Actors.begin, Training.phase


def _tell(name: str) -> None:
    print(f"[{name}]", flush=True)


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
