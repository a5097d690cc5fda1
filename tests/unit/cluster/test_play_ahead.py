"""What is played ahead for a policy that is gone is left, and workers are free for what comes."""

import threading
import time
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import psutil

from cluster.config import load_words
from cluster.iteration.play_ahead import PlayAhead
from rollout.play import Task


class Players:
    """Plays a task whenever it is told to, and knows who still waits for it."""

    def __init__(self) -> None:
        self.told: SimpleQueue[None] = SimpleQueue()
        self.asked: list[int] = []
        self.ended: list[int] = []

    def play(self, tasks: Sequence[Task], *_: Any) -> Iterator[tuple[Any, None]]:
        first = tasks[0].seed
        self.asked.append(first)
        try:
            for task in tasks:
                self.told.get()
                yield SimpleNamespace(task=task, reward=1.0), None
        finally:
            self.ended.append(first)


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_of(players: Players, lag: int) -> Any:
    options = [f"rollout.max_policy_lag={lag}", "cluster.episodes_per_iteration=4"]
    return SimpleNamespace(
        config=load_words(["env.name=add_up", *options]),
        actors=players,
        row={},
        progress=SimpleNamespace(expects=lambda count: None, came=lambda: None),
        stream=SimpleNamespace(send=lambda reference: None, flush=lambda: None),
    )


def test_what_earlier_episodes_have_left_free_is_given_back_before_the_next() -> None:
    players = Players()
    blocks = [bytes(3000) for _ in range(40_000)]
    held = psutil.Process().memory_info().rss
    kept = blocks[::50]
    del blocks
    for _ in range(4):
        players.told.put(None)
    assert len(PlayAhead(run_of(players, lag=0)).next(0)) == 4
    assert psutil.Process().memory_info().rss < held - 80_000_000 and kept


def test_a_run_that_goes_back_leaves_what_it_plays_ahead() -> None:
    players = Players()
    ahead = PlayAhead(run_of(players, lag=1))
    found: list[Any] = []
    threading.Thread(target=lambda: found.append(ahead.next(0)), daemon=True).start()
    until(lambda: len(players.asked) == 2)
    while not found:
        players.told.put(None)
        time.sleep(0.01)
    # The learner died: iteration 0 is made again, and what was begun of iteration 1 is nobody's.
    threading.Thread(target=lambda: found.append(ahead.next(0)), daemon=True).start()
    until(lambda: len(players.asked) == 4)
    while len(found) < 2:
        players.told.put(None)
        time.sleep(0.01)
    assert sorted(players.asked) == [0, 0, 4, 4]
    assert [one.task.seed for one, _ in found[1]] == [0, 1, 2, 3]
    until(lambda: players.ended.count(4) >= 1)
    begun = [thread for thread in threading.enumerate() if thread.name == "play-1"]
    assert len(begun) <= 1, "the one that was left has ended"
