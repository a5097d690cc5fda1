"""Tasks are dealt to workers that come and go, and each is finished once."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.groups.task_queue import PORTIONS, TaskQueue
from rollout.play import Task


def tasks(count: int) -> list[Task]:
    return [Task(seed=number // 2, sample=number % 2, draw="run/3") for number in range(count)]


class Deaths(RuleBasedStateMachine):
    """Workers join, play, die in the midst, and are heard of after their death, in any order."""

    @initialize(count=st.integers(0, 40), room=st.integers(1, 20))
    def begin(self, count: int, room: int) -> None:
        self.room, self.expected = room, tasks(count)
        self.queue: TaskQueue[int] = TaskQueue(self.expected, room=room)
        self.playing: dict[int, list[Task]] = {}
        self.late: list[tuple[int, Task]] = []
        self.finished: Counter[Task] = Counter()
        self.num_workers = 0

    @rule()
    def a_worker_joins(self) -> None:
        self.queue.join(self.num_workers)
        self.playing[self.num_workers] = []
        self.num_workers += 1

    @rule()
    def tasks_are_dealt(self) -> None:
        for worker, given_now in self.queue.deal().items():
            self.playing[worker] += given_now

    @precondition(lambda self: any(self.playing.values()))
    @rule(data=st.data())
    def an_episode_ends(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker, mine in self.playing.items() if mine]))
        task = self.playing[worker].pop(data.draw(st.integers(0, len(self.playing[worker]) - 1)))
        assert self.queue.finish(worker, replace(task, draw=None))
        self.finished[task] += 1

    @precondition(lambda self: self.playing)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(list(self.playing)))
        self.late += [(worker, task) for task in self.playing.pop(worker)]
        self.queue.leave(worker)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def a_dead_worker_is_heard(self, data: st.DataObject) -> None:
        worker, task = data.draw(st.sampled_from(self.late))
        assert not self.queue.finish(worker, task)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert max(self.finished.values(), default=0) <= 1
        assert self.queue.num_left + self.finished.total() == len(self.expected)
        assert self.queue.held == {worker: len(mine) for worker, mine in self.playing.items()}
        assert all(num_held <= self.room for num_held in self.queue.held.values())

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.a_worker_joins()
        while self.queue.num_left:
            self.tasks_are_dealt()
            for worker, mine in self.playing.items():
                for task in mine:
                    assert self.queue.finish(worker, task)
                    self.finished[task] += 1
                mine.clear()
        assert self.finished == Counter(self.expected)


TestEveryTaskCountsOnceWhoeverDies = Deaths.TestCase
TestEveryTaskCountsOnceWhoeverDies.settings = settings(max_examples=40, stateful_step_count=30)


@given(st.integers(1, 8), st.integers(1, 200), st.integers(1, 64))
def test_the_first_deal_is_even_and_fills_every_worker_that_it_can(num_workers: int, count: int, room: int) -> None:
    queue: TaskQueue[int] = TaskQueue(tasks(count), room=room)
    for worker in range(num_workers):
        queue.join(worker)
    queue.deal()
    held = list(queue.held.values())
    assert sum(held) == min(count, num_workers * room)
    assert max(held) - min(held) <= 1


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_while_tasks_wait_a_worker_lacks_less_than_a_portion(room: int, firsts: list[bool]) -> None:
    queue: TaskQueue[str] = TaskQueue(tasks(1000), room=room)
    queue.join("first")
    queue.join("second")
    playing: dict[str, list[Task]] = {"first": [], "second": []}
    for is_first in firsts:
        for worker, given_now in queue.deal().items():
            playing[worker] += given_now
        assert all(room - len(mine) < max(1, room // PORTIONS) for mine in playing.values())
        worker = "first" if is_first else "second"
        assert queue.finish(worker, playing[worker].pop())


def test_a_faster_worker_plays_more() -> None:
    queue: TaskQueue[str] = TaskQueue(tasks(100), room=8)
    playing: dict[str, list[Task]] = {"fast": [], "slow": []}
    finished = Counter[str]()
    queue.join("fast")
    queue.join("slow")
    while queue.num_left:
        for worker, given_now in queue.deal().items():
            playing[worker] += given_now
        for worker, speed in (("fast", 4), ("slow", 1)):
            for task in playing[worker][:speed]:
                finished[worker] += queue.finish(worker, task)
            del playing[worker][:speed]
    assert finished["fast"] > 3 * finished["slow"]


def test_what_a_dead_worker_held_comes_before_what_has_waited() -> None:
    queue: TaskQueue[str] = TaskQueue(tasks(6), room=2)
    queue.join("dies")
    mine = queue.deal()["dies"]
    queue.leave("dies")
    queue.join("lives")
    assert queue.deal() == {"lives": mine}
