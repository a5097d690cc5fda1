"""When ranks lose each other, the one that is gone is to blame, and not the one that says so."""

import os
import time
from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest
import ray

from cluster.groups.learner_group import LearnerDied, LearnerGroup
from learner.config import LearnerConfig
from learner.worker import HEALTH

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


class Rank:
    """In what is done together it fails at once, or ends a while after the others have failed."""

    def __init__(self, ends_after: float | None) -> None:
        self._ends_after = ends_after

    def version(self) -> int:
        if self._ends_after is None:
            raise RuntimeError("Read error [127.0.0.1]:7856: Connection reset by peer")
        Timer(self._ends_after, os._exit, [1]).start()
        time.sleep(100)
        return 0

    def alive(self) -> str:
        if self._ends_after is not None:
            time.sleep(100)
        return "here"


def group_of(*ends: float | None) -> LearnerGroup:
    remote: Any = ray.remote
    actor = remote(concurrency_groups={HEALTH: 1})(Rank)
    ranks = [actor.options(num_cpus=0).remote(each) for each in ends]
    ray.get([rank.__ray_ready__.remote() for rank in ranks])
    return LearnerGroup(ranks, LearnerConfig(), 100.0)


@pytest.mark.parametrize("ends", [(None, 2.0), (2.0, None), (None, None, 2.0)], ids=str)
def test_the_rank_that_is_gone_is_named_though_another_fails_first(ends: tuple[float | None, ...]) -> None:
    gone = ends.index(2.0)
    with pytest.raises(LearnerDied, match=f"learner rank {gone} is gone, as another found in version"):
        group_of(*ends).version()


def test_what_a_rank_raises_while_all_are_there_is_its_own() -> None:
    group, started = group_of(None, None), time.monotonic()
    with pytest.raises(RuntimeError, match="Connection reset by peer"):
        group.version()
    assert time.monotonic() - started < 30, "nobody is waited for who answers"
