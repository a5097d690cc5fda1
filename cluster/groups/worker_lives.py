"""The owner of the rollout workers' lives: who is there, who can play, who is given up, and who comes instead.

    WorkerLives(launcher, adopt, …).begin(); .wait()
      .ready | .started                who may play | who takes part in an update
      .lost(worker, error)             begin to replace it
      .told()                          a queue of who can play from now on, and of what ends everything

A worker that dies, or gives no sign of life (health.py), has a successor at once, in the background. It waits for room
where its host is gone, adopts the newest weights, is proven, and plays; the others go on meanwhile, as long as there
are `cluster.min_rollout_workers`. A place in which workers die too often within an hour stays empty until the hour is
over. Beyond those that a run begins with, an elastic one asks for more, which join in the same way when there is room.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

import ray

from cluster.errors import RunError
from cluster.groups.crew import end
from cluster.groups.health import Health, Watched
from cluster.groups.learner_group import LearnerDied
from cluster.groups.restarts import RestartBudget
from cluster.groups.whereabouts import end_of_log, log_end, named, where
from cluster.groups.worker_states import NEXT, Launcher, Limits, State, Worker, answer, is_death
from cluster.stopping import SECONDS_BETWEEN_LOOKS, check_stop
from rollout.engine import EngineError
from rollout.receivers import Receivers, transfer_seconds

Heard = tuple[Worker | None, Any]
"""A worker and what it says, None for that it can play; or None and an error, by which all is over."""


class WorkerLives:
    """All places for workers, and who has them at present."""

    def __init__(
        self,
        launcher: Launcher,
        limits: Limits,
        *,
        adopt: Callable[[Receivers], Any],
        health: Health,
        say: Callable[[str], None],
    ) -> None:
        """`adopt` gives workers the newest weights and proves it."""
        self._launcher, self.limits, self._adopt, self._health, self._say = launcher, limits, adopt, health, say
        self.sleeps, self._num_bytes = launcher.config.engine.sleeps, launcher.num_bytes
        self.workers: list[Worker] = []
        self._starting: list[tuple[Worker, Any]] = []
        self.weights = Lock()
        """Whoever holds it may send weights, or change those that the learner has."""
        self._budgets = [RestartBudget(limits.restarts) for _ in range(limits.most)]
        self._listeners: list[SimpleQueue[Heard]] = []
        self._trouble: Exception | None = None
        self._closed = Event()
        self._changing = Lock()

    def begin(self) -> None:
        """Start all; `wait` for those without which a run does not begin."""
        self.workers = self._launcher.first(self.limits.most)
        for worker in self.workers[: self.limits.base]:
            worker.has_room = True
        self._starting = [(worker, worker.actor.start.remote()) for worker in self.workers[: self.limits.base]]

    def wait(self) -> None:
        """Until those that a run begins with can play, with the weights that they were started with."""
        while self._starting:
            worker, call = self._starting[0]
            try:
                self._started(worker, call)
            except (EngineError, RunError, RuntimeError) as error:
                self._starting[0] = self._once_more(worker, error)
                continue
            self.becomes(worker, State.READY)
            del self._starting[0]

    def _once_more(self, worker: Worker, error: Exception) -> tuple[Worker, Any]:
        """Another in the place of one that did not start; what fails twice is no accident, and raised."""
        if worker.life or not self.bury(worker, error) or (successor := self._successor(worker)) is None:
            raise error
        return successor, successor.actor.start.remote()

    def welcome(self) -> None:
        """Let more join where there is room for them, now that there is a learner whose weights they can have."""
        for worker in self.workers[self.limits.base :]:
            self._bring_up(worker)

    @property
    def ready(self) -> list[Worker]:
        """Those that may play."""
        return [worker for worker in self.workers if worker.state is State.READY]

    @property
    def started(self) -> list[Worker]:
        """Those whose engines run: all of these take part in an update."""
        return [worker for worker in self.workers if worker.has_started]

    def _started(self, worker: Worker, call: Any) -> None:
        answer(f"start of {worker.name}", call, self.limits.start_seconds)
        worker.place = answer(f"the place of {worker.name}", worker.actor.place.remote(), self.limits.step_seconds)
        self.becomes(worker, State.STALE)
        self._health.watch(
            Watched(
                worker.name,
                worker.actor,
                died=lambda why: self.lost(worker, EngineError(why)),
                doubted=partial(self._doubted, worker),
                group=None,
                num_bytes=self._num_bytes,
            )
        )

    def becomes(self, worker: Worker, state: State, *, only_from: Collection[State] = State) -> bool:
        """The only place in which a worker's state changes, and whether it does; who plays hears of one that may. What
        is dead stays so."""
        with self._changing:
            if worker.state in (state, State.DEAD) or worker.state not in only_from:
                return False
            if state not in NEXT[worker.state]:
                raise RuntimeError(f"{worker.name} is {worker.state.value} and cannot become {state.value}")
            before, worker.state = worker.state, state
            worker.before = before if state is State.SUSPECT else worker.before
        if state is State.READY:
            self._tell(worker, None)
        return True

    def _doubted(self, worker: Worker, is_late: bool) -> None:
        if is_late:
            self.becomes(worker, State.SUSPECT, only_from=(State.STALE, State.READY))
        else:
            self.becomes(worker, worker.before, only_from=(State.SUSPECT,))

    @contextmanager
    def told(self) -> Iterator["SimpleQueue[Heard]"]:
        """A queue of what happens inside the block; raises what went wrong before it."""
        self.raise_trouble()
        heard: SimpleQueue[Heard] = SimpleQueue()
        self._listeners.append(heard)
        try:
            yield heard
        finally:
            self._listeners.remove(heard)

    def _tell(self, worker: Worker | None, item: Any) -> None:
        for heard in list(self._listeners):
            heard.put((worker, item))

    def raise_trouble(self) -> None:
        """What has ended everything, where something has."""
        if self._trouble is not None:
            raise self._trouble

    def receivers(self, workers: Sequence[Worker]) -> Receivers:
        """As those that an update goes to."""
        seconds = transfer_seconds(self._num_bytes)
        return Receivers(tuple(each.actor for each in workers), tuple(each.place for each in workers), seconds)

    def check(self) -> None:
        """Ask all for a sign of life, and give up those that give none."""
        self._health.ask([worker.actor for worker in self.started])
        self.raise_trouble()

    def lost(self, worker: Worker, reason: Exception) -> None:
        """Begin to replace a worker, unless that has begun; never raises, since anybody may find out."""
        try:
            if self.bury(worker, reason):
                self._bring_up(worker)
        except Exception as error:  # as where nothing can be said, since the disk of the log is full
            self._fail(error)

    def bury(self, worker: Worker, reason: Exception) -> bool:
        """End a worker; whether it was still there, and another one may come."""
        if not self.becomes(worker, State.DEAD) or self.are_over:
            return False
        found = where(worker.actor)
        why, *rest = str(reason).splitlines() or [type(reason).__name__]
        why = named("; ".join(filter(None, (why.rstrip(". "), self._health.last_heard(worker.actor)))), found)
        self._health.forget(worker.actor)
        ray.kill(worker.actor)
        empty = self._budgets[worker.number].seconds_left()
        left = sum(other.has_room and other.state is not State.DEAD for other in self.workers)
        limit = f"cluster.max_worker_restarts={self.limits.restarts} is used up within the hour"
        if empty and left < self.limits.least:
            least = f"cluster.min_rollout_workers={self.limits.least}"
            told = f"{why}. {worker.name} is not replaced: {limit}, and {left} of at least {least} are left."
            self._fail(RunError("\n".join([told, *rest, end_of_log(found)])))
            return False
        log_end(worker.name, found)
        self._say(
            f"{why}. " + (f"The place stays empty: {limit}." if empty else f"Another takes the place of {worker.name}.")
        )
        return True

    def _fail(self, error: Exception) -> None:
        self._trouble = self._trouble or error
        self._tell(None, error)

    def _bring_up(self, worker: Worker) -> None:
        """In the background, until it, or one of its successors, can play."""
        Thread(target=self._until_ready, args=(worker,), daemon=True, name=f"start-{worker.name}").start()

    def _until_ready(self, worker: Worker) -> None:
        try:
            while worker.state is not State.READY and not self._closed.is_set():
                if worker.state is State.DEAD and (successor := self._successor(worker)) is None:
                    return
                if worker.state is State.DEAD:
                    worker = successor
                try:
                    self._begin_life(worker)
                    if worker.state is State.DEAD:
                        return  # whoever found out brings up the next
                except EngineError as error:
                    if not is_death(error):
                        raise
                    if not self.bury(worker, error):
                        return
            if worker.state is State.READY:
                self._say(f"{worker.name} has joined: {len(self.ready)} of {self.limits.most} rollout workers can play")
        except LearnerDied as error:
            # Not the workers' trouble: the first push of the next learner makes them ready. Whoever plays meanwhile
            # waits for nothing, and has to hear of it.
            self._tell(None, error)
        except Exception as error:
            self._fail(error)

    def _successor(self, worker: Worker) -> Worker | None:
        """Once the hour allows one; None where the run ends before."""
        budget = self._budgets[worker.number]
        while not budget.take():
            if self._closed.wait(min(budget.seconds_left(), 60.0)):
                return None
        with self._changing:
            if self._closed.is_set():
                return None
            self.workers[worker.number] = successor = self._launcher.launch(worker.number, worker.life + 1)
            return successor

    def _begin_life(self, worker: Worker) -> None:
        """Wait for room, start the engine, and make it one that can play."""
        placed = worker.actor.place.remote()
        while not ray.wait([placed], timeout=1.0)[0]:
            if self._closed.is_set():
                return
        worker.has_room = True
        # Where both share a GPU, an engine starts only while the learner leaves it the room.
        with self.weights if self.sleeps else nullcontext():
            try:
                self._started(worker, worker.actor.start.remote())
            except Exception as error:
                raise EngineError(f"{worker.name} did not start: {error}") from error
        with self.weights:
            if worker.state in (State.STALE, State.SUSPECT):
                self._adopt(self.receivers([worker]))
                self.becomes(worker, State.READY)

    def settle(self) -> None:
        """Wait until one can take part in an update; others may wait for room for as long as they like."""
        ends = time.monotonic() + self.limits.start_seconds
        while not self.started:
            self.raise_trouble()
            check_stop()
            if time.monotonic() > ends:
                seconds = f"{self.limits.start_seconds:.0f} s (cluster.start_timeout_seconds)"
                raise RunError(f"no rollout worker has started after {seconds}")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    @property
    def are_over(self) -> bool:
        """Whether all were ended for good."""
        return self._closed.is_set()

    def close(self, *, stay: bool = False) -> None:
        """Release all engines and end the actors, unless those that a run begins with are to `stay` for the next."""
        with self._changing:
            if self._closed.is_set():
                return
            self._closed.set()
            workers = list(self.workers)
        if stay:
            # So that nobody is only suspected; a request to stop that comes now is the next run's to hear.
            with suppress(KeyboardInterrupt):
                self._health.ask(worker.actor for worker in workers)
        for worker in workers:
            self._health.forget(worker.actor)
        if stay and self._launcher.leave(workers[: self.limits.base]):
            del workers[: self.limits.base]
        end([worker.actor for worker in workers if worker.has_started], closes=True)
        end([worker.actor for worker in workers if not worker.has_started], closes=False)
