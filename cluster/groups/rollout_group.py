"""All rollout workers as one: plays tasks on whichever is free.

    RolloutGroup(RolloutWorkers(…)).begin(number); .wait()
      .give(push)                        new weights for all
      .play(tasks, env, verifier, …)  ⇢  (Played, reference), each task once, in the order in which episodes end

A task is the group's until its episode has come back whole. When a worker dies, its unfinished tasks go to the others
at once (task_queue.py). Its successor starts meanwhile (rollout_workers.py), and takes a share of what is left as soon
as it has the newest weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from cluster.errors import RunError
from cluster.groups.rollout_workers import Adopt, Event, ReportT, RolloutWorkers, Worker, is_death
from cluster.groups.task_queue import TaskQueue
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.play import Task
from rollout.worker import Played, stream
from verifier.rewards import VerifierConfig


class RolloutGroup:
    """The workers, as those see them who want episodes."""

    def __init__(self, workers: RolloutWorkers) -> None:
        self._workers, self._sleeps = workers, workers.config.engine.sleeps

    def begin(self, num_workers: int) -> None:
        """Start all workers; `wait` for them."""
        self._workers.begin(num_workers)

    def wait(self) -> None:
        """Until all that were begun can play."""
        self._workers.wait()

    def give(self, push: Callable[[list[Any]], ReportT]) -> ReportT:
        """Push weights to all workers; what the push says."""
        return self._workers.give(push)

    def close(self) -> None:
        """Release all engines and end the actors."""
        self._workers.close()

    def play(
        self,
        tasks: Sequence[Task],
        env: EnvConfig,
        verifier: VerifierConfig,
        config: RolloutConfig,
        adopt: Adopt,
    ) -> Iterator[tuple[Played, Any]]:
        """Each task's summary and the reference of its episode, once."""
        if self._sleeps:
            self._workers.everyone("wake")
        # A worker that is alone has nobody to leave anything to.
        room = config.episodes_in_flight if len(self._workers) > 1 else len(tasks)
        queue: TaskQueue[Worker] = TaskQueue(tasks, room=room)

        def follow(worker: Worker, portion: Sequence[Task]) -> None:
            try:
                for pair in stream(worker.name, worker.actor, env, verifier, portion, config):
                    heard.put((worker, pair))
            except BaseException as error:
                heard.put((worker, error))

        with self._workers.told() as heard:
            for worker in self._workers.ready:
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
                    self._workers.lost(worker, item, adopt)
                elif isinstance(item, BaseException):
                    raise item
                elif queue.finish(worker, item[0].task):
                    last = f"the episode of seed {item[0].task.seed} from {worker.name}"
                    yield item

    def _next(self, heard: "SimpleQueue[Event]", queue: TaskQueue[Worker], last: str) -> Event:
        """Of whom something is heard, and what."""
        # Where nobody can play, a successor has to start first.
        seconds = self._workers.step_timeout_seconds + (0.0 if queue.held else self._workers.start_timeout_seconds)
        try:
            return heard.get(timeout=seconds)
        except Empty:
            held = ", ".join(f"{worker.name} has {count}" for worker, count in queue.held.items())
            raise RunError(
                f"no rollout worker has finished an episode for {seconds:.0f} s (cluster.step_timeout_seconds); "
                f"{queue.num_left} are still to come ({held or 'no worker can play'}); the last heard was {last}"
            ) from None

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """While the learner learns: no weights are sent, and workers that share its GPUs leave them to it.

        They wake when the next weights come, or when they are to play.
        """
        if self._sleeps:
            self._workers.settle()
        with self._workers.weights:
            if self._sleeps:
                self._workers.everyone("sleep")
            yield
