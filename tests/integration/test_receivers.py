"""Receivers that fail in a push: by a broadcast nobody is waited for who can take part no more."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from rollout.receivers import Receivers, WorkerDied
from rollout.watchdog import Watchdog
from rollout.weight_transfer import Place

pytestmark = pytest.mark.timeout(120)

BROADCAST: dict[str, Any] = {"names": [], "dtype_names": [], "shapes": []}
BUFFER = {**BROADCAST, "ipc_handles_pickled": ""}
SECONDS = 6.0


class Engine:
    """Takes weights, raises, or waits for a broadcast that does not come."""

    def __init__(self, how: str) -> None:
        self._how = how

    async def update_weights(self, _update_info: Any) -> None:
        if self._how == "raises":
            raise ValueError("a tensor has another shape here")
        await asyncio.sleep(3600 if self._how == "waits" else 0.5)


@pytest.fixture(scope="module")
def engines() -> Iterator[Any]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    actor = ray.remote(Engine).options(num_cpus=0)
    yield lambda *hows: Receivers(tuple(map(actor.remote, hows)), (Place(host="here"),) * len(hows), SECONDS)
    ray.shutdown()


def seconds_of(call: Any) -> float:
    began = time.monotonic()
    with pytest.raises(ValueError, match="another shape"):
        call()
    return time.monotonic() - began


def test_what_one_raises_ends_a_broadcast_for_which_the_others_wait(engines: Any) -> None:
    workers = engines("waits", "raises")
    aborted: list[float] = []

    def transfer() -> None:
        with Watchdog(lambda: aborted.append(time.monotonic()), SECONDS) as watchdog:
            watchdog.heed(workers.update_weights)(BROADCAST)

    ray.wait([actor.update_weights.remote({}) for actor in workers.actors[1:]], timeout=60)  # it is there
    assert seconds_of(transfer) < SECONDS / 2
    assert len(aborted) == 1


def test_whoever_has_a_buffer_of_its_own_is_waited_for(engines: Any) -> None:
    workers = engines("takes", "raises")
    ray.wait([actor.update_weights.remote({}) for actor in workers.actors], num_returns=2, timeout=60)
    assert seconds_of(lambda: workers.update_weights(BUFFER)) >= 0.5


def test_one_that_is_no_more_is_told_as_dead(engines: Any) -> None:
    workers = engines("waits", "takes")
    ray.kill(workers.actors[1])
    with pytest.raises(WorkerDied):
        workers.update_weights(BROADCAST)
