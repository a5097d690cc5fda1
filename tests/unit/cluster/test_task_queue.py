"""Tasks are dealt to workers that come and go, and each is finished once."""

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.groups.task_queue import PIECES, PORTIONS, TaskQueue
from rollout.play import Task


def tasks(count: int, samples: int = 2) -> list[Task]:
    """Of three rounds, which ask the same seeds."""
    places = [(number // samples, number % samples) for number in range(count)]
    return [
        Task(seed=place // 3, sample=sample, draw="run/3", round=("", "shifted", "cold")[place % 3])
        for place, sample in places
    ]


def largest_piece(count: int, room: int, samples: int) -> int:
    """How many samples of one task go to a worker at once."""
    return min(count, samples, max(1, room // PIECES))


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


@given(st.integers(1, 8), st.integers(1, 200), st.integers(1, 64), st.integers(1, 12))
def test_the_first_deal_is_even_and_fills_every_worker_that_it_can(
    num_workers: int, count: int, room: int, samples: int
) -> None:
    queue: TaskQueue[int] = TaskQueue(tasks(count, samples), room=room)
    for worker in range(num_workers):
        queue.join(worker)
    queue.deal()
    held, piece = list(queue.held.values()), largest_piece(count, room, samples)
    if count <= num_workers * room - num_workers * piece:
        assert sum(held) == count
    else:
        assert all(room - num_held < piece for num_held in held) or sum(held) == count
    # Who has many may have a task's samples more than another, and nobody is idle beside one who has two.
    assert max(held) - min(held) <= max(1, min(piece, max(held) // 4))


@given(st.integers(1, 64), st.integers(1, 12), st.lists(st.booleans(), max_size=200))
def test_while_tasks_wait_a_worker_lacks_less_than_a_portion(room: int, samples: int, firsts: list[bool]) -> None:
    queue: TaskQueue[str] = TaskQueue(tasks(1000, samples), room=room)
    queue.join("first")
    queue.join("second")
    playing: dict[str, list[Task]] = {"first": [], "second": []}
    portion = max(1, room // PORTIONS, largest_piece(1000, room, samples))
    for is_first in firsts:
        for worker, given_now in queue.deal().items():
            playing[worker] += given_now
        assert all(room - len(mine) < portion for mine in playing.values())
        worker = "first" if is_first else "second"
        assert queue.finish(worker, playing[worker].pop())


@given(st.integers(1, 6), st.integers(1, 60), st.integers(1, 64), st.integers(1, 16), st.randoms(use_true_random=False))
def test_the_samples_of_a_task_go_to_one_worker_but_for_the_last_tasks_of_a_round(
    num_workers: int, num_groups: int, room: int, samples: int, random: Random
) -> None:
    expected = tasks(num_groups * samples, samples)
    queue: TaskQueue[int] = TaskQueue(expected, room=room)
    playing: dict[int, list[Task]] = {worker: [] for worker in range(num_workers)}
    places: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for worker in playing:
        queue.join(worker)
    while queue.num_left:
        for worker, given_now in queue.deal().items():
            playing[worker] += given_now
            for task in given_now:
                places[task.round, task.seed].add(worker)
        worker = random.choice([worker for worker, mine in playing.items() if mine])
        assert queue.finish(worker, playing[worker].pop(random.randrange(len(playing[worker]))))
    if samples <= max(1, room // PIECES):
        # The last deal alone takes tasks apart: at most one between two neighbours.
        assert sum(len(workers) > 1 for workers in places.values()) < num_workers
    pieces = -(-samples // max(1, room // PIECES))
    assert sum(len(workers) - 1 for workers in places.values()) < num_workers + num_groups * (pieces - 1)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(1, 16))
def test_nobody_is_idle_while_another_has_two_of_the_last_tasks(num_workers: int, count: int, samples: int) -> None:
    queue: TaskQueue[int] = TaskQueue(tasks(count, samples), room=64)
    for worker in range(num_workers):
        queue.join(worker)
    queue.deal()
    held = list(queue.held.values())
    assert min(held) > 0 or max(held) == 1


def test_dealing_does_not_take_longer_with_more_workers() -> None:
    def looked_at(num_workers: int) -> int:
        """How often a worker was looked up for one episode, when all play and many tasks wait."""
        queue: TaskQueue[Counted] = TaskQueue(tasks(100 * num_workers), room=32)
        for number in range(num_workers):
            queue.join(Counted(number))
        first = next(iter(queue.deal().items()))
        Counted.num_looks = 0
        for task in first[1][:16]:
            assert queue.finish(first[0], task)
            queue.deal()
        return Counted.num_looks

    class Counted(int):
        num_looks = 0

        def __hash__(self) -> int:
            Counted.num_looks += 1
            return super().__hash__()

    assert looked_at(1000) == looked_at(2)


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
