"""All rollout workers as one: plays tasks on whichever is free, and replaces those that die.

    RolloutGroup.start(config, …)
      .play(tasks, env, verifier)  ⇢  (Played, reference), each task once, in the order in which episodes end
      .workers                     the actors, for weight updates

A task is the group's until its episode has come back whole. When a worker dies, another one takes its place
and its unfinished tasks, and plays nothing before it has the newest weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cluster.errors import RunError
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.engine import EngineError
from rollout.play import Task
from rollout.worker import Played, WorkerDied, start_worker, stream
from verifier.rewards import VerifierConfig

Adopt = Callable[[Sequence[Any]], None]
"""Gives workers the newest weights and verifies them."""


@dataclass(slots=True)
class _Worker:
    name: str
    actor: Any
    generation: int = 0


class RolloutGroup:
    """The workers, by number."""

    def __init__(
        self,
        model: Path,
        config: RolloutConfig,
        *,
        resources: Callable[[int], Mapping[str, Any]],
        max_restarts: int,
        start_timeout_seconds: float,
        step_timeout_seconds: float,
        prefix: str = "rollout",
    ) -> None:
        self._model, self._config, self._resources, self._prefix = model, config, resources, prefix
        self._max_restarts = max_restarts
        self._start_timeout_seconds, self._step_timeout_seconds = start_timeout_seconds, step_timeout_seconds
        self._workers: list[_Worker] = []
        self.num_restarts = 0
        self._replacing = Lock()

    def begin(self, num_workers: int) -> None:
        """Start all workers; `wait` for them."""
        self._workers = [_Worker(f"{self._prefix}-{number}", None) for number in range(num_workers)]
        self._starting = {number: self._launch(number) for number in range(num_workers)}

    def wait(self) -> None:
        """Until all that were begun can play."""
        for number, started in self._starting.items():
            self._get(f"start of {self._workers[number].name}", started, self._start_timeout_seconds)
        self._starting = {}

    @property
    def workers(self) -> list[Any]:
        """The actors."""
        return [worker.actor for worker in self._workers]

    def play(
        self,
        tasks: Sequence[Task],
        env: EnvConfig,
        verifier: VerifierConfig,
        config: RolloutConfig,
        adopt: Adopt,
    ) -> Iterator[tuple[Played, Any]]:
        """Each task's summary and the reference of its episode, once."""
        shares = [{_identity(task): task for task in tasks[n :: len(self._workers)]} for n in range(len(self._workers))]
        heard: SimpleQueue[tuple[int, int, Any]] = SimpleQueue()

        def follow(number: int) -> None:
            worker = self._workers[number]
            generation = worker.generation
            try:
                tasks_left = list(shares[number].values())
                for item in stream(worker.name, worker.actor, env, verifier, tasks_left, config):
                    heard.put((number, generation, item))
                heard.put((number, generation, None))
            except BaseException as error:
                heard.put((number, generation, error))

        def begin(number: int) -> None:
            Thread(target=follow, args=(number,), daemon=True, name=f"follow-{number}").start()

        running = [number for number, share in enumerate(shares) if share]
        for number in running:
            begin(number)
        while running:
            number, generation, item = self._heard(heard, sum(map(len, shares)))
            if isinstance(item, tuple):
                # Removed before it is handed on: whatever comes next, this task is not played again.
                del shares[number][item[0].task]
                yield item
            elif item is None:
                running.remove(number)
            elif isinstance(item, WorkerDied):
                self._replace(number, generation, item, adopt)
                begin(number)
            else:
                raise item

    def _replace(self, number: int, generation: int, reason: Exception, adopt: Adopt) -> None:
        """Start another worker in a dead one's place, and give it the newest weights."""
        with self._replacing:
            worker = self._workers[number]
            if worker.generation != generation:
                return  # the episodes of another iteration, which was in play too, came first
            self._relaunch(number, reason)
            adopt([worker.actor])

    def revive(self) -> None:
        """Start others in the place of workers that died while they were not playing; they have old weights."""
        for number, worker in enumerate(self._workers):
            try:
                self._get("a sign of life", worker.actor.process_id.remote(), self._step_timeout_seconds)
            except EngineError as error:
                with self._replacing:
                    self._relaunch(number, error)

    def _relaunch(self, number: int, reason: Exception) -> None:
        worker = self._workers[number]
        if self.num_restarts == self._max_restarts:
            raise RunError(
                f"{reason} It is not replaced: cluster.max_worker_restarts={self._max_restarts} is used up."
            ) from reason
        self.num_restarts += 1
        ray.kill(worker.actor)
        worker.generation += 1
        started = self._launch(number)
        self._get(f"start of {worker.name}", started, self._start_timeout_seconds)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """The workers leave their GPUs to the learner inside the block, where they share them."""
        if self._config.engine.sleeps:
            self._everyone("sleep")
        yield
        if self._config.engine.sleeps:
            self._everyone("wake")

    def _everyone(self, method: str) -> None:
        for worker in self._workers:
            self._get(f"{method} of {worker.name}", getattr(worker.actor, method).remote(), self._step_timeout_seconds)

    def close(self) -> None:
        """Release all engines and end the actors."""
        closing = [worker.actor.close.remote() for worker in self._workers if worker.actor is not None]
        # One that is dead, or hangs, is ended all the same.
        with suppress(RayActorError, RayTaskError, GetTimeoutError):
            ray.get(closing, timeout=30)
        for worker in self._workers:
            if worker.actor is not None:
                ray.kill(worker.actor)

    def _launch(self, number: int) -> Any:
        worker = self._workers[number]
        # A replacement bears another name: Ray gives a name free only some time after its actor's death.
        name = worker.name if not worker.generation else f"{worker.name}-again-{worker.generation}"
        worker.actor = start_worker(name, self._model, self._config, **self._resources(number))
        return worker.actor.start.remote()

    def _get(self, phase: str, call: Any, timeout_seconds: float) -> Any:
        try:
            return ray.get(call, timeout=timeout_seconds)
        except GetTimeoutError:
            raise RunError(f"{phase} has not ended after {timeout_seconds:.0f} s") from None
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except RayActorError as error:
            raise EngineError(f"{phase} failed: the process died. Ray says: {error}") from error

    def _heard(self, heard: "SimpleQueue[tuple[int, int, Any]]", num_waiting: int) -> tuple[int, int, Any]:
        try:
            return heard.get(timeout=self._step_timeout_seconds)
        except Empty:
            raise RunError(
                f"no rollout worker has finished an episode for {self._step_timeout_seconds:.0f} s "
                f"(cluster.step_timeout_seconds); {num_waiting} are still to come"
            ) from None


def _identity(task: Task) -> Task:
    """As `Played` names it."""
    return replace(task, draw=None)
