"""What many real Ray actors play is heard by one thread, whoever of them hangs, raises or dies."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from envs.add_up import Config as AddUp
from rollout.config import RolloutConfig
from rollout.play import Task
from rollout.receivers import WorkerDied
from rollout.streams import Streams
from tests.support.players import DIES, DIES_BEFORE_THE_SUMMARY, HANGS, RAISES, Player
from verifier.config import VerifierConfig

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def players() -> Iterator[Any]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    actor = ray.remote(Player).options(num_cpus=0, max_concurrency=1000)
    yield actor.remote
    ray.shutdown()


def streams() -> Streams[str]:
    return Streams(AddUp(name="add_up"), VerifierConfig(), RolloutConfig())


def heard(opened: Streams[str], *, until: int | None = None) -> list[tuple[str, Any]]:
    """All that ends, or so many."""
    found: list[tuple[str, Any]] = []
    while opened and (until is None or len(found) < until):
        found += opened.ended(10)
    return found


def test_episodes_of_many_calls_are_heard_once_by_one_thread_and_not_fetched(players: Any) -> None:
    opened, actors = streams(), {"a": players(), "b": players()}
    before = threading.active_count()
    for first in range(0, 400, 10):
        name = "ab"[first // 10 % 2]
        opened.open(name, name, actors[name], [Task(seed=seed) for seed in range(first, first + 10)])
    found = heard(opened)
    assert threading.active_count() == before
    assert Counter(seed for _, (seed, _) in found) == Counter(range(400))
    assert all(name == "ab"[seed // 10 % 2] for name, (seed, _) in found)
    with pytest.raises(Exception, match="an episode was fetched"):
        ray.get(found[0][1][1])


def test_a_call_that_hangs_holds_up_no_other(players: Any) -> None:
    opened = streams()
    opened.open("hangs", "hangs", players(), [Task(seed=0), Task(seed=HANGS)])
    opened.open("plays", "plays", players(), [Task(seed=seed) for seed in range(1, 50)])
    assert {seed for _, (seed, _) in heard(opened, until=50)} == set(range(50))
    assert opened.ended(0.5) == []  # that the other call is over may be all that there is to hear
    began = time.monotonic()
    assert opened
    assert opened.ended(0.5) == []
    assert 0.4 < time.monotonic() - began < 5


@pytest.mark.parametrize("seed", [DIES, DIES_BEFORE_THE_SUMMARY])
def test_a_worker_that_dies_is_named_last_with_how_far_it_came(players: Any, seed: int) -> None:
    opened = streams()
    opened.open("first", "rollout-7", players(), [Task(seed=number) for number in (0, 1, 2, seed, 3)])
    opened.open("other", "rollout-8", players(), [Task(seed=number) for number in range(10, 20)])
    found = heard(opened)
    of_first = [item for name, item in found if name == "first"]
    assert [number for number, _ in of_first[:-1]] == [0, 1, 2]
    assert isinstance(of_first[-1], WorkerDied)
    assert "rollout worker rollout-7 died after 3 of 5 episodes" in str(of_first[-1])
    assert len(found) == len(of_first) + 10


def test_what_play_raises_is_the_last_of_its_call(players: Any) -> None:
    opened, actor = streams(), players()
    opened.open("raises", "raises", actor, [Task(seed=0), Task(seed=RAISES), Task(seed=1)])
    *before, (_, error) = heard(opened)
    assert [seed for _, (seed, _) in before] == [0]
    assert isinstance(error, RayTaskError)
    assert isinstance(error, ValueError)
    opened.open("plays", "plays", actor, [Task(seed=2)])
    assert len(heard(opened)) == 1


def test_what_nobody_waits_for_any_more_is_not_played_on(players: Any) -> None:
    opened, actor = streams(), players()
    opened.open("hangs", "hangs", actor, [Task(seed=0), Task(seed=HANGS)])
    assert len(heard(opened, until=1)) == 1
    assert ray.get(actor.playing.remote()) == 1
    opened.close()
    assert not opened
    deadline = time.monotonic() + 30
    while ray.get(actor.playing.remote()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
