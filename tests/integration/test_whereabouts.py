"""Where an actor is, or was when it died, as Ray's books have it."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray

from cluster.groups.health import Health, Watched
from cluster.groups.learner_group import LearnerDied, LearnerGroup
from cluster.groups.whereabouts import Whereabouts, last_lines, where
from learner.config import LearnerConfig
from rollout.sign import Phase, Sign


class Speaker:
    """Prints, and says which process it is."""

    def say(self, words: str) -> int:
        print(words, flush=True)
        return os.getpid()

    def wait(self) -> None:
        time.sleep(600)

    def alive(self) -> Sign:
        return Phase().sign()


@pytest.fixture(scope="module")
def own_ray_here() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def speaker(own_ray_here: None) -> Any:
    return ray.remote(Speaker).options(num_cpus=0).remote()


def until_gone(process_id: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(process_id):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)


@pytest.mark.parametrize("is_dead", [False, True])
def test_host_process_and_log_are_known_of_one_that_hangs_and_of_one_that_was_killed(
    speaker: Any, is_dead: bool
) -> None:
    process_id: Any = ray.get(speaker.say.remote("the last words"))
    speaker.wait.remote()
    if is_dead:
        os.kill(process_id, signal.SIGKILL)
        until_gone(process_id)
    found = where(speaker)
    assert (found.process_id, found.host) == (process_id, ray.util.get_node_ip_address())
    assert str(found) == f"host {found.host}, process {process_id}, log {found.logs[0]}"
    assert found.logs[0].is_file()
    assert last_lines(found) == "the last words"


@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize("is_dead", [False, True])
def test_the_first_line_of_an_error_names_a_ranks_host_and_process_and_its_log_stands_behind(
    speaker: Any, is_dead: bool, is_watched: bool
) -> None:
    process_id: Any = ray.get(speaker.say.remote("the last words"))
    health = Health(60.0, print)
    if is_watched:
        health.watch(Watched("rank-0", speaker, died=print, group=None))
        health.ask([speaker])
    ranks = LearnerGroup([speaker], LearnerConfig(), 2.0, health)
    waiting = speaker.wait.remote()
    if is_dead:
        os.kill(process_id, signal.SIGKILL)
    with pytest.raises(LearnerDied) as raised:
        ranks._wait("update", [waiting])
    health.close()
    first, *rest = str(raised.value).splitlines()
    what = (
        "learner rank 0 died in update. Ray says: " if is_dead else "learner ranks [0] have not ended update after 2 s"
    )
    assert first.startswith(what)
    assert f"host {ray.util.get_node_ip_address()}, process {process_id}" in first
    assert ("last heard" in first and "at 'waiting' for" in first) == is_watched
    assert rest[-2:] == [str(where(speaker)), "the last words"]


def test_only_the_end_of_a_long_log_is_told(speaker: Any) -> None:
    ray.get([speaker.say.remote(f"line {number}") for number in range(3000)])
    assert last_lines(where(speaker), 2) == "line 2998\nline 2999"


def test_without_ray_nothing_is_known_and_nothing_is_raised() -> None:
    assert str(Whereabouts()) == "a process that Ray knows nothing of"
    assert last_lines(Whereabouts()) == ""
