"""Processes that a run leaves to the next. To start an engine, and to load the libraries of a rank, takes longer than
many a short run.

    with Crew() as crew:
        train_sft(first, crew=crew)     leaves its engines and ranks behind, if it ends well
        train_rl(second, crew=crew)     goes on with those that fit, and ends the others

An engine fits where nothing but the weights differs, and plays nothing until it has those of its new learner; ranks fit
where there are as many for a model of one shape, and keep nothing but their process. What does not get ready for the
next run is ended, and others are started. Where engines and ranks take turns on GPUs, both are started anew: what one
leaves there the other has no room for. So are ranks at ZeRO 3, where DeepSpeed never lets go of a model.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import ray

from cluster.planning.placement import Placement, reserved
from cluster.stopping import wait

CLOSE_SECONDS = 1.0
"""How long an engine has to release what it holds, before its process is ended."""
READY_SECONDS = 60.0
"""How long what was left may take to get ready; it is a matter of less than one."""
WEIGHTS = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx")
Role = Literal["rollout", "learner"]


@dataclass(frozen=True, slots=True)
class Left:
    """One process of those that were left."""

    name: str
    """Its actor's, in Ray's dashboard."""
    actor: Any


class Crew:
    """What the last run has left, and the room that it takes."""

    def __init__(self, *, goes_on: bool = True) -> None:
        """`goes_on`: whether there may be another run."""
        self.goes_on = goes_on
        self._left: dict[Role, tuple[Hashable, Sequence[Left]]] = {}
        self._reserved: Placement | None = None
        self._room = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def room(self, placement: Placement, timeout_seconds: float) -> Placement:
        """The placement with Ray's group behind it; what was left in another is ended first."""
        if self._reserved is None or replace(self._reserved, group=None) != placement:
            self.close()
            self._reserved = self._room.enter_context(reserved(placement, timeout_seconds))
        return self._reserved

    def leave(self, role: Role, fits: Hashable, left: Sequence[Left]) -> None:
        """Have the next run go on with all of these, if it asks for what they fit."""
        self._left[role] = fits, left

    def take(self, role: Role, fits: Callable[[], Hashable], ready: Callable[[Any], Any]) -> Sequence[Left]:
        """All that were left, if they fit and each answers the call by which it gets ready; else none, and they are
        ended."""
        if role not in self._left:
            return ()
        fitted, left = self._left.pop(role)
        if fitted == fits() and _answer([ready(each.actor) for each in left]):
            return left
        end([each.actor for each in left], closes=role == "rollout")
        return ()

    def close(self) -> None:
        """End whatever was left, and give the room back."""
        for role, (_, left) in self._left.items():
            end([each.actor for each in left], closes=role == "rollout")
        self._left.clear()
        self._reserved = None
        self._room.close()


def _answer(calls: Sequence[Any]) -> bool:
    """Whether all do, in time and without an error."""
    ends, late = time.monotonic() + READY_SECONDS, list(calls)
    while late and (left := ends - time.monotonic()) > 0:
        done, late = wait(late, left)
        try:
            ray.get(done)
        except Exception as error:
            logging.getLogger(__name__).warning("what a run has left is started anew: %s", error)
            return False
    return not late


def end(actors: Sequence[Any], *, closes: bool) -> None:
    """End actors, which may have an engine to release."""
    if actors and closes:
        # One that is dead, or hangs, is ended all the same.
        ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=CLOSE_SECONDS)
    for actor in actors:
        ray.kill(actor)


def shape_of(model: Path) -> str:
    """A digest of all files of a model but its weights: policies that one grew from another have the same."""
    found = hashlib.sha256()
    for file in sorted(model.rglob("*")):
        name = file.relative_to(model)
        if file.is_file() and not file.name.endswith(WEIGHTS) and not any(part.startswith(".") for part in name.parts):
            with file.open("rb") as content:
                found.update(f"{name}\0".encode() + hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()
