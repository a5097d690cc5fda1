"""All rollout workers as one, and the owner of their lives: who is there, who is behind, who plays, who is updated.

    RolloutGroup(launcher, …).begin(number); .wait()
      .give(push)                        new weights for all
      .play(tasks, env, verifier, …)  ⇢  (Played, reference), each task once, in the order in which episodes end
      .asleep()                          while the learner learns

A task is the group's until its episode has come back whole. When a worker dies, its unfinished tasks go to the others
at once (task_queue.py). Its successor starts meanwhile, in the background, and takes a share of what is left as soon as
it has the newest weights; before that it plays nothing. The states that a worker goes through are in worker_states.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import ray

from cluster.errors import RunError
from cluster.groups.learner_group import LearnerDied
from cluster.groups.task_queue import TaskQueue
from cluster.groups.worker_states import NEXT, Launcher, State, Worker, answer, is_death
from cluster.stopping import hear
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.engine import EngineError
from rollout.play import Task
from rollout.receivers import Receivers, WorkerDied
from rollout.worker import Played, stream
from verifier.config import VerifierConfig

ReportT = TypeVar("ReportT")

Adopt = Callable[[Receivers], Any]
"""Gives workers the newest weights and verifies them."""

Event = tuple[Worker | None, Any]
"""What is heard: a worker and what it says, None for that it is ready; or None and an error, by which all is over."""

CLOSE_SECONDS = 1.0
"""How long engines may take to release what they hold; they end with their actors in any case."""


class RolloutGroup:
    """All places for workers, and who has them at present."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        max_restarts: int,
        start_timeout_seconds: float,
        step_timeout_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._launcher, self._max_restarts, self._say = launcher, max_restarts, say
        self._start_seconds, self._step_seconds = start_timeout_seconds, step_timeout_seconds
        self._sleeps = launcher.config.engine.sleeps
        self._workers: list[Worker] = []
        self.num_restarts = 0
        self._listeners: list[SimpleQueue[Event]] = []
        self._replacing: list[Thread] = []
        self._trouble: Exception | None = None
        self._is_closed = False
        self._changing = Lock()
        self._weights = Lock()
        """Whoever holds it may send weights, or change those that the learner has."""

    def begin(self, number: int) -> None:
        """Start all; `wait` for them."""
        self._workers = [self._launcher.launch(place) for place in range(number)]

    def wait(self) -> None:
        """Until all that were begun can play, with the weights that they were started with."""
        for worker in self._workers:
            self._started(worker)
            self._becomes(worker, State.READY)

    def _started(self, worker: Worker) -> None:
        answer(f"start of {worker.name}", worker.starting, self._start_seconds)
        worker.place = answer(f"the place of {worker.name}", worker.actor.place.remote(), self._step_seconds)
        self._becomes(worker, State.STALE)

    def _becomes(self, worker: Worker, state: State) -> None:
        """The only place in which a worker's state changes; who plays hears of one that may. What is dead stays so."""
        with self._changing:
            if worker.state in (state, State.DEAD):
                return
            if state not in NEXT[worker.state]:
                raise RuntimeError(f"{worker.name} is {worker.state.value} and cannot become {state.value}")
            worker.state = state
        if state is State.READY:
            self._tell(worker, None)

    @property
    def ready(self) -> list[Worker]:
        """Those that may play."""
        return [worker for worker in self._workers if worker.state is State.READY]

    @property
    def started(self) -> list[Worker]:
        """Those whose engines run: all of these take part in an update."""
        return [worker for worker in self._workers if worker.has_started]

    def play(
        self, tasks: Sequence[Task], env: EnvConfig, verifier: VerifierConfig, config: RolloutConfig, adopt: Adopt
    ) -> Iterator[tuple[Played, Any]]:
        """Each task's summary and the reference of its episode, once."""
        if self._sleeps:
            self._everyone("wake")
        # A worker that is alone has nobody to leave anything to.
        room = config.episodes_in_flight if len(self._workers) > 1 else len(tasks)
        queue: TaskQueue[Worker] = TaskQueue(tasks, room=room)

        def follow(worker: Worker, portion: Sequence[Task]) -> None:
            try:
                for pair in stream(worker.name, worker.actor, env, verifier, portion, config):
                    heard.put((worker, pair))
            except BaseException as error:
                heard.put((worker, error))

        with self._told() as heard:
            for worker in self.ready:
                queue.join(worker)
            last = "nothing"
            while queue.num_left:
                for worker, portion in queue.deal().items():
                    Thread(target=follow, args=(worker, portion), daemon=True, name=f"follow-{worker.name}").start()
                worker, item = self._next(heard, queue, last)
                if worker is None:
                    raise item
                if item is None:
                    queue.join(worker)
                elif isinstance(item, Exception) and is_death(item):
                    queue.leave(worker)
                    self._lost(worker, item, adopt)
                elif isinstance(item, BaseException):
                    raise item
                elif queue.finish(worker, item[0].task):
                    last = f"the episode of seed {item[0].task.seed} from {worker.name}"
                    yield item

    def _next(self, heard: "SimpleQueue[Event]", queue: TaskQueue[Worker], last: str) -> Event:
        """Of whom something is heard, and what."""
        # Where nobody can play, a successor has to start first.
        seconds = self._step_seconds + (0.0 if queue.held else self._start_seconds)
        try:
            return hear(heard, seconds)
        except Empty:
            held = ", ".join(f"{worker.name} has {count}" for worker, count in queue.held.items())
            raise RunError(
                f"no rollout worker has finished an episode for {seconds:.0f} s (cluster.step_timeout_seconds); "
                f"{queue.num_left} are still to come ({held or 'no worker can play'}); the last heard was {last}"
            ) from None

    @contextmanager
    def _told(self) -> Iterator["SimpleQueue[Event]"]:
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

    def give(self, push: Callable[[Receivers], ReportT]) -> ReportT:
        """Push weights to all that have started; the successors of those that have died get them by themselves."""
        while True:
            try:
                return self._give(push)
            except WorkerDied:
                if not self._bury(push):
                    raise

    def _give(self, push: Callable[[Receivers], ReportT]) -> ReportT:
        if not self.started:
            self.settle()
        with self._weights:
            workers = self.started
            for worker in workers:
                self._becomes(worker, State.STALE)
            report = push(_receivers(workers))
            for worker in workers:
                self._becomes(worker, State.READY)
        return report

    def _bury(self, push: Adopt) -> bool:
        """Ask all for a sign of life, and replace those that give none; whether there were any."""
        found = False
        for worker in self.started:
            self._becomes(worker, State.SUSPECT)
            try:
                answer(f"a sign of life of {worker.name}", worker.actor.process_id.remote(), self._step_seconds)
                self._becomes(worker, State.STALE)
            except EngineError as error:
                found = True
                self._lost(worker, error, push)
        return found

    def _lost(self, worker: Worker, reason: Exception, adopt: Adopt) -> None:
        """Begin to replace a worker, unless whoever else needed it has begun before."""
        if successor := self._replaced(worker, reason):
            thread = Thread(target=self._bring_up, args=(successor, adopt), daemon=True, name=f"start-{successor.name}")
            self._replacing = [each for each in self._replacing if each.is_alive()] + [thread]
            thread.start()

    def _replaced(self, worker: Worker, reason: Exception) -> Worker | None:
        """The successor of a worker that is dead; None where it has one."""
        self._becomes(worker, State.DEAD)
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
            self._workers[worker.number] = successor = self._launcher.launch(worker.number, worker.life + 1)
            return successor

    def _bring_up(self, worker: Worker | None, adopt: Adopt) -> None:
        """Until it, or one of its successors, can play."""
        try:
            while worker is not None and worker.state is not State.READY:
                try:
                    self._started(worker)
                except Exception as error:
                    worker = self._replaced(worker, error)
                    continue
                try:
                    with self._weights:
                        if worker.state is State.STALE:
                            adopt(_receivers([worker]))
                            self._becomes(worker, State.READY)
                except EngineError as error:
                    if not is_death(error):
                        raise
                    worker = self._replaced(worker, error)
        except Exception as error:
            # That the learner died is not the workers' trouble: the first push of the next one makes them ready.
            if not isinstance(error, LearnerDied):
                self._trouble = error
            self._tell(None, error)

    def settle(self) -> None:
        """Wait for all that are being started."""
        for thread in self._replacing:
            thread.join(self._start_seconds + self._step_seconds)
        self._raise_trouble()

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """While the learner learns: no weights are sent, and workers that share its GPUs leave them to it.

        They wake when the next weights come, or when they are to play.
        """
        sleeps = self._sleeps and not self._is_closed
        if sleeps:
            self.settle()
        with self._weights:
            if sleeps:
                self._everyone("sleep")
            yield

    def _everyone(self, method: str) -> None:
        calls = [(worker, getattr(worker.actor, method).remote()) for worker in self._workers]
        for worker, call in calls:
            answer(f"{method} of {worker.name}", call, self._step_seconds)

    def close(self) -> None:
        """Release all engines and end the actors."""
        with self._changing:
            if self._is_closed:
                return
            self._is_closed = True
            workers = list(self._workers)
        # An engine that is still being loaded would answer later; one that is dead, or hangs, is ended all the same.
        calls = [worker.actor.close.remote() for worker in workers if worker.has_started]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=CLOSE_SECONDS)
        for worker in workers:
            ray.kill(worker.actor)


def _receivers(workers: Sequence[Worker]) -> Receivers:
    return Receivers(tuple(worker.actor for worker in workers), tuple(worker.place for worker in workers))
