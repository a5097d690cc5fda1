"""Who plays what: tasks wait here until a worker has room for them, and come back when it dies.

    TaskQueue(tasks, room=256)
      .join(worker)            it can play
      .deal()               →  {worker: the tasks that it is given now}
      .finish(worker, task) →  whether its episode counts
      .leave(worker)           its unfinished tasks wait again, before all others

Tasks are given in portions, so that a worker is never much below its room and whoever is faster plays more.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

from rollout.play import Task

WorkerT = TypeVar("WorkerT", bound=Hashable)

PORTIONS = 16
"""Into how many portions a worker's room is divided: each is a call of its own, and a worker lacks at most one."""


class TaskQueue(Generic[WorkerT]):
    """The tasks of one round of play, each of which counts once."""

    def __init__(self, tasks: Sequence[Task], *, room: int) -> None:
        """`room` is how many tasks each worker may hold."""
        self._waiting = deque(tasks)
        self._room, self._portion = room, max(1, room // PORTIONS)
        self._held: dict[WorkerT, dict[Task, Task]] = {}

    @property
    def num_left(self) -> int:
        """How many tasks are unfinished."""
        return len(self._waiting) + sum(map(len, self._held.values()))

    @property
    def held(self) -> Mapping[WorkerT, int]:
        """How many tasks each worker has that can play."""
        return {worker: len(tasks) for worker, tasks in self._held.items()}

    def join(self, worker: WorkerT) -> None:
        """From now on it is given tasks; saying so again changes nothing."""
        self._held.setdefault(worker, {})

    def leave(self, worker: WorkerT) -> None:
        """From now on it is given none, and what it has not finished is for the others."""
        self._waiting.extendleft(reversed(self._held.pop(worker, {}).values()))

    def deal(self) -> dict[WorkerT, list[Task]]:
        """Give what waits to the workers that have room for a portion, the emptiest first."""
        workers = list(self._held)
        free = [(len(self._held[worker]), number) for number, worker in enumerate(workers)]
        free = [(num_held, number) for num_held, number in free if num_held <= self._room - self._portion]
        heapify(free)
        dealt: dict[WorkerT, list[Task]] = {}
        while self._waiting and free and free[0][0] < self._room:
            num_held, number = free[0]
            task = self._waiting.popleft()
            self._held[workers[number]][_identity(task)] = task
            dealt.setdefault(workers[number], []).append(task)
            heapreplace(free, (num_held + 1, number))
        return dealt

    def finish(self, worker: WorkerT, task: Task) -> bool:
        """Whether the task was still this worker's; one that left may be heard late, when another has its task."""
        return self._held.get(worker, {}).pop(_identity(task), None) is not None


def _identity(task: Task) -> Task:
    """As an episode names it."""
    return replace(task, draw=None)
