"""Who plays what: tasks wait here until a worker has room for them, and come back when it dies.

    TaskQueue(tasks, room=256)
      .join(worker)            it can play
      .deal()               →  {worker: the tasks that it is given now}
      .finish(worker, task) →  whether its episode counts
      .leave(worker)           its unfinished tasks wait again, before all others

Tasks are given in portions, so that a worker is never much below its room and whoever is faster plays more. The samples
of a task go to one worker, whose engine reads what they share once, unless another would have less to do for it. What
one event costs does not grow with the number of workers.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heapreplace
from itertools import chain, groupby, islice
from typing import Generic, TypeVar

from rollout.play import Task

WorkerT = TypeVar("WorkerT", bound=Hashable)

PORTIONS = 16
"""Into how many portions a worker's room is divided: each is a call of its own, and a worker lacks at most one."""
PIECES = 4
"""Samples of one task that would take more than this part of a worker's room come in several pieces."""
MANY = 8
"""With so many pieces each, workers may differ by one."""

Level = tuple[int, int]
"""How many tasks a worker has, and its number among those that have room."""
Key = tuple[str, str, int, int]
"""What an episode says of its task."""


class TaskQueue(Generic[WorkerT]):
    """The tasks of one round of play, each of which counts once."""

    def __init__(self, tasks: Sequence[Task], *, room: int) -> None:
        """`room` is how many tasks each worker may hold; the samples of a task stand side by side."""
        self._room = room
        self._waiting = deque(_pieces(tasks, max(1, room // PIECES)))
        self._num_waiting = self._num_left = len(tasks)
        self._longest = max(map(len, self._waiting), default=1)
        self._portion = max(1, room // PORTIONS, self._longest)
        self._held: dict[WorkerT, dict[Key, Task]] = {}
        self._roomy: dict[WorkerT, None] = {}
        """Those that have room for a portion, in the order in which they came to it."""

    @property
    def num_left(self) -> int:
        """How many tasks are unfinished."""
        return self._num_left

    @property
    def has_workers(self) -> bool:
        """Whether anyone can play."""
        return bool(self._held)

    @property
    def held(self) -> Mapping[WorkerT, int]:
        """How many tasks each worker has that can play."""
        return {worker: len(tasks) for worker, tasks in self._held.items()}

    def join(self, worker: WorkerT) -> None:
        """From now on it is given tasks; saying so again changes nothing."""
        if worker not in self._held:
            self._held[worker] = {}
            self._roomy[worker] = None

    def leave(self, worker: WorkerT) -> None:
        """From now on it is given none, and what it has not finished is for the others."""
        left = list(self._held.pop(worker, {}).values())
        self._roomy.pop(worker, None)
        self._waiting.extendleft(reversed(list(_pieces(left, self._longest))))
        self._num_waiting += len(left)

    def deal(self) -> dict[WorkerT, list[Task]]:
        """Give what waits to the workers that have room for a portion, the emptiest first."""
        if not self._waiting or not self._roomy:
            return {}
        workers = list(self._roomy)
        levels = [(len(self._held[worker]), number) for number, worker in enumerate(workers)]
        heapify(levels)
        num_tasks = self._num_waiting + sum(num_held for num_held, _ in levels)
        is_rest = num_tasks <= self._room * len(workers)
        given = self._evenly if is_rest and num_tasks < MANY * self._longest * len(workers) else self._in_pieces
        dealt: dict[WorkerT, list[Task]] = {}
        for number, tasks in given(levels):
            dealt.setdefault(workers[number], []).extend(tasks)
        for worker, tasks in dealt.items():
            held = self._held[worker]
            held.update((_key(task), task) for task in tasks)
            self._num_waiting -= len(tasks)
            if self._room - len(held) < self._portion:
                del self._roomy[worker]
        return dealt

    def _in_pieces(self, levels: list[Level]) -> Iterator[tuple[int, Sequence[Task]]]:
        """One after the other to the emptiest, as long as it has room for the next."""
        while self._waiting and levels[0][0] + len(self._waiting[0]) <= self._room:
            piece, (num_held, number) = self._waiting.popleft(), levels[0]
            heapreplace(levels, (num_held + len(piece), number))
            yield number, piece

    def _evenly(self, levels: list[Level]) -> Iterator[tuple[int, Sequence[Task]]]:
        """All of them, such that none of those that are given any has two more than another; each is given tasks that
        stand side by side, which takes few pieces apart."""
        shares = [0] * len(levels)
        for _ in range(self._num_waiting):
            num_held, number = levels[0]
            shares[number] += 1
            heapreplace(levels, (num_held + 1, number))
        tasks = chain.from_iterable(self._waiting)
        yield from ((number, list(islice(tasks, share))) for number, share in enumerate(shares) if share)
        self._waiting.clear()

    def finish(self, worker: WorkerT, task: Task) -> bool:
        """Whether the task was still this worker's; one that left may be heard late, when another has its task."""
        held = self._held.get(worker, {})
        if held.pop(_key(task), None) is None:
            return False
        self._num_left -= 1
        if self._room - len(held) >= self._portion:
            self._roomy[worker] = None
        return True


def _pieces(tasks: Iterable[Task], most: int) -> Iterator[list[Task]]:
    """The samples of each task, so many at most."""
    for _, samples in groupby(tasks, lambda task: (task.round, task.split, task.seed)):
        while piece := list(islice(samples, most)):
            yield piece


def _key(task: Task) -> Key:
    return task.round, task.split, task.seed, task.sample
