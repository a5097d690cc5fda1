"""One life of a rollout worker, and the states that it goes through.

    starting ──▶ stale ◀──▶ ready        stale, ready ◀──▶ suspect        any ──▶ dead

`WorkerLives` alone moves a worker from one to the next, by `WorkerLives.becomes`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.errors import RunError
from cluster.groups.crew import Crew, Left, shape_of
from cluster.stopping import wait
from rollout.config import RolloutConfig
from rollout.engine import EngineError, PolicyMismatch
from rollout.receivers import DEATHS
from rollout.weight_transfer import Place
from rollout.worker import start_worker


class State(Enum):
    """What a worker can do."""

    STARTING = "starting"
    """Its engine is being loaded."""
    STALE = "stale"
    """It runs, but may lack the newest weights: it is given no tasks before it has proven that it has them."""
    READY = "ready"
    """It may play."""
    SUSPECT = "suspect"
    """It was asked for a sign of life and has not answered yet; no play begins with it."""
    DEAD = "dead"
    """It is no more, or counts for nothing more; its place has a successor."""


NEXT = {
    State.STARTING: {State.STALE, State.DEAD},
    State.STALE: {State.READY, State.SUSPECT, State.DEAD},
    State.READY: {State.STALE, State.SUSPECT, State.DEAD},
    State.SUSPECT: {State.STALE, State.READY, State.DEAD},
    State.DEAD: set[State](),
}
"""What can become of a worker."""


@dataclass(eq=False, slots=True)
class Worker:
    """One life of a worker."""

    number: int
    """Its place among the workers."""
    life: int
    """How many it follows in that place."""
    name: str
    """What Ray calls its actor."""
    actor: Any
    state: State = State.STARTING
    place: Place = field(default_factory=lambda: Place(host=""))
    """Where it is, once there was room for it."""
    before: State = State.STALE
    """What it was before it became suspect."""
    has_room: bool = False
    """Whether there is a host for it; one that waits for that may wait for good."""

    @property
    def has_started(self) -> bool:
        """Whether its engine runs."""
        return self.state not in (State.STARTING, State.DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many there have to be, and how long what they do may take."""

    base: int
    """How many a run begins with."""
    least: int
    """With fewer it ends."""
    most: int
    """How many join where there is room."""
    restarts: int
    """How often within an hour each place may have a successor."""
    start_seconds: float
    step_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How a worker is started, whichever it is."""

    model: Path
    config: RolloutConfig
    resources: Callable[[int], Mapping[str, Any]]
    """Ray's options for the worker in each place."""
    prefix: str
    crew: Crew = field(default_factory=Crew)
    """What a run before has left."""

    def first(self, count: int) -> list[Worker]:
        """The first lives of all places: those that were left, and others beside them."""
        # A start that has been made does no harm a second time, when all are started.
        left = self.crew.take("rollout", self._fits, lambda actor: actor.start.remote())[:count]
        kept = [Worker(number, 0, each.name, each.actor) for number, each in enumerate(left)]
        return kept + [self.launch(number) for number in range(len(kept), count)]

    def leave(self, workers: Sequence[Worker]) -> bool:
        """Leave all of these to the next run; whether they can go on."""
        if not all(each.state in (State.STALE, State.READY) for each in workers):
            return False
        with suppress(OSError):  # the model's folder is gone
            self.crew.leave("rollout", self._fits(), [Left(each.name, each.actor) for each in workers])
            return True
        return False

    def _fits(self) -> Hashable:
        return self.config.engine.model_dump_json(), self.config.keep_cache, shape_of(self.model)

    @property
    def num_bytes(self) -> int:
        """What a push moves to each worker, as far as the model's files tell."""
        return sum(file.stat().st_size for file in self.model.glob("*.safetensors"))

    def launch(self, number: int, life: int = 0) -> Worker:
        """Ask for its place; a successor bears another name, since Ray frees a name only some time after a death."""
        name = f"{self.prefix}-{number}" + (f"-again-{life}" if life else "")
        return Worker(number, life, name, start_worker(name, self.model, self.config, **self.resources(number)))


def answer(phase: str, call: Any, timeout_seconds: float) -> Any:
    """What a call to a worker says; EngineError where the worker is no more, RunError where it does not answer."""
    if not wait([call], timeout_seconds)[0]:
        raise RunError(f"{phase} has not ended after {timeout_seconds:.0f} s")
    try:
        return ray.get(call)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except DEATHS as error:
        raise EngineError(f"{phase} failed: the process died. Ray says: {error}") from error


def is_death(error: BaseException) -> bool:
    """Whether a worker cannot go on, so that another one has to."""
    return isinstance(error, EngineError) and not isinstance(error, PolicyMismatch)
