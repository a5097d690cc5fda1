"""Processes that a run leaves to the next. To start an engine, and to load the libraries of a rank, takes longer than
many a short run.

    with Crew() as crew:
        train_sft(first, crew=crew)     leaves its engines and ranks behind, if it ends well
        train_rl(second, crew=crew)     goes on with those that fit, and ends the others

An engine fits where nothing but the weights differs, and plays nothing until it has those of its new learner; ranks fit
where there are as many for a model of one shape, and keep nothing but their process. Where engines and ranks take turns
on GPUs, both are started anew: what one leaves there the other has no room for.
"""

import hashlib
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import ray

from cluster.planning.placement import Placement, reserved

CLOSE_SECONDS = 1.0
"""How long an engine has to release what it holds, before its process is ended."""
WEIGHTS = (".safetensors", ".index.json", ".bin", ".pt")
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
        self._asked: Placement | None = None
        self._reserved: Placement | None = None
        self._room = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def room(self, placement: Placement, timeout_seconds: float) -> Placement:
        """The placement with Ray's group behind it; what was left in another is ended first."""
        if self._reserved is None or self._asked != placement:
            self.close()
            self._reserved = self._room.enter_context(reserved(placement, timeout_seconds))
            self._asked = placement
        return self._reserved

    def leave(self, role: Role, fits: Hashable, left: Sequence[Left]) -> None:
        """Have the next run go on with all of these, if it asks for what they fit."""
        self._left[role] = fits, left

    def take(self, role: Role, fits: Hashable) -> Sequence[Left]:
        """All that were left, if they fit; else none, and they are ended."""
        fitted, left = self._left.pop(role, (None, ()))
        if fitted == fits:
            return left
        end([each.actor for each in left], closes=role == "rollout")
        return ()

    def close(self) -> None:
        """End whatever was left, and give the room back."""
        for role in list(self._left):
            self.take(role, None)
        self._reserved = None
        self._room.close()


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
        if file.is_file() and not file.name.endswith(WEIGHTS):
            found.update(f"{file.relative_to(model)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
