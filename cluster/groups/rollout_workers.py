"""The rollout workers' lives: they are started, given weights, replaced when they die, and ended.

    RolloutWorkers.begin(number); .wait()
      .ready                         those that may play: started, and with the newest weights
      .give(push)                    new weights for all
      .lost(worker, reason, adopt)   another is started in its place, in the background
      .told()                        a queue that hears who is ready, and what went wrong in the background

What takes a dead worker's place is another worker, which plays nothing before it has the newest weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cluster.errors import RunError
from cluster.groups.learner_group import LearnerDied
from rollout.config import RolloutConfig
from rollout.engine import EngineError, PolicyMismatch
from rollout.worker import WorkerDied, start_worker

ReportT = TypeVar("ReportT")

Adopt = Callable[[list[Any]], Any]
"""Gives workers the newest weights and verifies them."""

CLOSE_SECONDS = 30.0


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
    """The actor."""
    starting: Any
    """The call of its start."""
    has_started: bool = False
    """Whether its engine runs."""
    is_ready: bool = False
    """Whether it may play."""


Event = tuple[Worker | None, Any]
"""What is told: that a worker is ready, which is a worker and None; or that all is over, which is None and an error."""


class RolloutWorkers:
    """All places, and who has them at present."""

    def __init__(
        self,
        model: Path,
        config: RolloutConfig,
        *,
        resources: Callable[[int], Mapping[str, Any]],
        max_restarts: int,
        start_timeout_seconds: float,
        step_timeout_seconds: float,
        say: Callable[[str], None],
        prefix: str = "rollout",
    ) -> None:
        self.config = config
        self._model, self._resources, self._prefix = model, resources, prefix
        self._max_restarts, self._say = max_restarts, say
        self.start_timeout_seconds, self.step_timeout_seconds = start_timeout_seconds, step_timeout_seconds
        self._workers: list[Worker] = []
        self.num_restarts = 0
        self._listeners: list[SimpleQueue[Event]] = []
        self._replacing: list[Thread] = []
        self._trouble: Exception | None = None
        self._is_closed = False
        self._changing = Lock()
        self.weights = Lock()
        """Whoever holds it may send weights, or change those that the learner has."""

    def begin(self, number: int) -> None:
        """Start all; `wait` for them."""
        self._workers = [self._launch(place) for place in range(number)]

    def wait(self) -> None:
        """Until all that were begun can play."""
        for worker in self._workers:
            self._get(f"start of {worker.name}", worker.starting, self.start_timeout_seconds)
            worker.has_started = worker.is_ready = True

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._workers)

    @property
    def ready(self) -> list[Worker]:
        """Those that may play."""
        return [worker for worker in self._workers if worker.is_ready]

    @property
    def _started(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.has_started]

    @contextmanager
    def told(self) -> Iterator["SimpleQueue[Event]"]:
        """A queue of what happens inside the block; raises what went wrong before it."""
        self._raise_trouble()
        heard: SimpleQueue[Event] = SimpleQueue()
        self._listeners.append(heard)
        try:
            yield heard
        finally:
            self._listeners.remove(heard)

    def _tell(self, worker: Worker | None, item: Any) -> None:
        for heard in list(self._listeners):
            heard.put((worker, item))

    def give(self, push: Callable[[list[Any]], ReportT]) -> ReportT:
        """Push weights to all that have started; the successors of those that have died get them by themselves."""
        while True:
            try:
                return self._give(push)
            except WorkerDied:
                dead = [(worker, error) for worker in self._started if (error := self._cause_of_death(worker))]
                if not dead:
                    raise
                for worker, error in dead:
                    self.lost(worker, error, push)

    def _give(self, push: Callable[[list[Any]], ReportT]) -> ReportT:
        if not self._started:
            self.settle()
        with self.weights:
            workers = self._started
            report = push([worker.actor for worker in workers])
            for worker in workers:
                self._admit(worker)
        return report

    def _cause_of_death(self, worker: Worker) -> Exception | None:
        try:
            self._get(f"a sign of life of {worker.name}", worker.actor.process_id.remote(), self.step_timeout_seconds)
        except EngineError as error:
            return error
        return None

    def _admit(self, worker: Worker) -> None:
        if not worker.is_ready:
            worker.is_ready = True
            self._tell(worker, None)

    def lost(self, worker: Worker, reason: Exception, adopt: Adopt) -> None:
        """Begin to replace a worker, unless whoever else needed it has begun before."""
        if successor := self._relaunch(worker, reason):
            thread = Thread(target=self._bring_up, args=(successor, adopt), daemon=True, name=f"start-{successor.name}")
            self._replacing = [each for each in self._replacing if each.is_alive()] + [thread]
            thread.start()

    def _bring_up(self, worker: Worker | None, adopt: Adopt) -> None:
        """Until it, or one of its successors, can play."""
        try:
            while worker is not None and not worker.is_ready:
                try:
                    self._get(f"start of {worker.name}", worker.starting, self.start_timeout_seconds)
                except Exception as error:
                    worker = self._relaunch(worker, error)
                    continue
                worker.has_started = True
                try:
                    with self.weights:
                        if not worker.is_ready:
                            adopt([worker.actor])
                            self._admit(worker)
                except EngineError as error:
                    if not is_death(error):
                        raise
                    worker = self._relaunch(worker, error)
        except Exception as error:
            # That the learner died is not the workers' trouble: the first push of the next one makes them ready.
            if not isinstance(error, LearnerDied):
                self._trouble = error
            self._tell(None, error)

    def _relaunch(self, worker: Worker, reason: Exception) -> Worker | None:
        """The successor of a worker; None where it has one."""
        with self._changing:
            if self._workers[worker.number] is not worker:
                return None
            if self._is_closed or self.num_restarts == self._max_restarts:
                limit = f"cluster.max_worker_restarts={self._max_restarts} is used up"
                why = "the run is over" if self._is_closed else limit
                raise RunError(f"{str(reason).rstrip('. ')}. {worker.name} is not replaced: {why}.") from reason
            self.num_restarts += 1
            first_line = str(reason).partition("\n")[0].rstrip(". ")
            self._say(f"{first_line}. Another takes the place of {worker.name}.")
            ray.kill(worker.actor)
            self._workers[worker.number] = successor = self._launch(worker.number, worker.life + 1)
            return successor

    def _launch(self, number: int, life: int = 0) -> Worker:
        # A replacement bears another name: Ray gives a name free only some time after its actor's death.
        name = f"{self._prefix}-{number}" + (f"-again-{life}" if life else "")
        actor = start_worker(name, self._model, self.config, **self._resources(number))
        return Worker(number, life, name, actor, actor.start.remote())

    def settle(self) -> None:
        """Wait for all that are being started."""
        for thread in self._replacing:
            thread.join(self.start_timeout_seconds + self.step_timeout_seconds)
        self._raise_trouble()

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def everyone(self, method: str) -> None:
        """Call a method of all at once."""
        calls = [(worker, getattr(worker.actor, method).remote()) for worker in self._workers]
        for worker, call in calls:
            self._get(f"{method} of {worker.name}", call, self.step_timeout_seconds)

    def close(self) -> None:
        """Release all engines and end the actors."""
        with self._changing:
            self._is_closed = True
            actors = [worker.actor for worker in self._workers]
        if actors:
            # One that is dead, or hangs, is ended all the same.
            ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=CLOSE_SECONDS)
        for actor in actors:
            ray.kill(actor)

    def _get(self, phase: str, call: Any, timeout_seconds: float) -> Any:
        try:
            return ray.get(call, timeout=timeout_seconds)
        except GetTimeoutError:
            raise RunError(f"{phase} has not ended after {timeout_seconds:.0f} s") from None
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except RayActorError as error:
            raise EngineError(f"{phase} failed: the process died. Ray says: {error}") from error


def is_death(error: BaseException) -> bool:
    """Whether a worker cannot go on, so that another one has to."""
    return isinstance(error, EngineError) and not isinstance(error, PolicyMismatch)
