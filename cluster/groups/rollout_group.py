"""All rollout workers as one: who plays what, and new weights for all of them.

    RolloutGroup(lives, config)
      .give(push)                        new weights for all that have started
      .play(tasks, env, verifier, …)  ⇢  (Played, reference), each task once, in the order in which episodes end
      .asleep()                          while the learner learns

A task is the group's until its episode has come back whole. When a worker dies, its unfinished tasks go to the others
at once (task_queue.py); who comes instead of it, and when, is for the owner of the workers' lives (worker_lives.py).
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from cluster.errors import RunError
from cluster.groups.task_queue import TaskQueue
from cluster.groups.worker_lives import Heard, WorkerLives
from cluster.groups.worker_states import State, Worker, answer, is_death
from cluster.stopping import SECONDS_BETWEEN_LOOKS, check_stop
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.engine import EngineError, PolicyMismatch
from rollout.play import Round, Task
from rollout.receivers import Receivers
from rollout.streams import NO_ROUNDS, Streams
from rollout.worker import Played
from verifier.config import VerifierConfig

ReportT = TypeVar("ReportT")

PUSHES = 3
"""How often weights are sent while all workers answer and it fails all the same."""


class RolloutGroup:
    """The workers that can play."""

    def __init__(self, lives: WorkerLives, say: Callable[[str], None]) -> None:
        self._lives, self._say = lives, say

    def play(
        self,
        tasks: Sequence[Task],
        env: EnvConfig,
        verifier: VerifierConfig,
        config: RolloutConfig,
        rounds: Mapping[str, Round] = NO_ROUNDS,
    ) -> Generator[tuple[Played, Any], None, None]:
        """Each task's summary and the reference of its episode, once; tasks of a round are asked what that says."""
        if self._lives.sleeps:
            self._everyone("wake")
        # A worker that is alone has nobody to leave anything to.
        room = config.episodes_in_flight if len(self._lives.workers) > 1 else len(tasks)
        queue: TaskQueue[Worker] = TaskQueue(tasks, room=room)

        streams: Streams[Worker] = Streams(env, verifier, config, rounds)
        with closing(streams), self._lives.told() as heard:
            for worker in self._lives.ready:
                queue.join(worker)
            last = "nothing"
            while queue.num_left:
                for worker, portion in queue.deal().items():
                    streams.open(worker, worker.name, worker.actor, portion)
                for worker, item in self._next(heard, streams, queue, last):
                    if worker is None:
                        raise item
                    if item is None:
                        queue.join(worker)
                    elif isinstance(item, Exception) and is_death(item):
                        queue.leave(worker)
                        self._lives.lost(worker, item)
                    elif isinstance(item, Exception):
                        raise item
                    elif queue.finish(worker, item[0].task):
                        last = f"the episode of seed {item[0].task.seed} from {worker.name}"
                        yield item

    def _next(
        self, heard: "SimpleQueue[Heard]", streams: Streams[Worker], queue: TaskQueue[Worker], last: str
    ) -> Sequence[Heard]:
        """Of whom something is heard, and what."""
        # Where nobody can play, a successor has to start first.
        seconds = self._lives.limits.step_seconds if queue.has_workers else self._lives.limits.start_seconds
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            check_stop()
            # Of a worker that joins one hears at most so much later, and at once where none plays.
            wait = min(left, SECONDS_BETWEEN_LOOKS)
            with suppress(Empty):
                return [heard.get(timeout=0 if streams else wait)]
            if streams and (ended := streams.ended(wait)):
                return ended
        key = "cluster.step_timeout_seconds" if queue.has_workers else "cluster.start_timeout_seconds"
        held = ", ".join(f"{worker.name} has {count}" for worker, count in queue.held.items())
        raise RunError(
            f"no rollout worker has finished an episode for {seconds:.0f} s ({key}); "
            f"{queue.num_left} are still to come ({held or 'no worker can play'}); the last heard was {last}"
        )

    def give(self, push: Callable[[Receivers], ReportT]) -> ReportT:
        """Push weights to all that have started; the successors of those that have died get them by themselves."""
        failures = 0
        while True:
            self._lives.check()
            self._lives.settle()
            before = self._lives.started
            try:
                return self._give(push)
            except PolicyMismatch:
                raise
            except EngineError as error:
                self._lives.check()
                failures += self._lives.started == before
                if failures == PUSHES:
                    raise RunError(
                        f"new weights were sent {PUSHES} times and did not arrive, although learner and rollout "
                        f"workers answer; it is what lies between them (rollout.engine.weight_transfer): {error}"
                    ) from error
                self._say(f"new weights did not arrive and are sent again: {str(error).partition(chr(10))[0]}")

    def _give(self, push: Callable[[Receivers], ReportT]) -> ReportT:
        with self._lives.weights:
            workers = self._lives.started
            if not workers:
                raise EngineError("no rollout worker is left to take new weights")
            for worker in workers:
                self._lives.becomes(worker, State.STALE)
            report = push(self._lives.receivers(workers))
            for worker in workers:
                self._lives.becomes(worker, State.READY)
        return report

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """While the learner learns: no weights are sent, and workers that share its GPUs leave them to it.

        They wake when the next weights come, or when they are to play.
        """
        with self._lives.weights:
            if self._lives.sleeps and not self._lives.are_over:
                self._everyone("sleep")
            yield

    def _everyone(self, method: str) -> None:
        calls = [(worker, getattr(worker.actor, method).remote()) for worker in self._lives.started]
        for worker, call in calls:
            try:
                answer(f"{method} of {worker.name}", call, self._lives.limits.step_seconds)
            except EngineError as error:
                self._lives.lost(worker, error)
