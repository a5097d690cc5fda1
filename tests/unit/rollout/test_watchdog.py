"""A transfer in which a receiver fails ends, with what the receiver said; so does one that takes too long."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from rollout.engine import EngineError
from rollout.nccl_sender import WatchedNcclSender
from rollout.receivers import WorkerDied
from rollout.watchdog import Watchdog


class Broadcast:
    """What blocks until all receivers take part, or it is aborted."""

    def __init__(self) -> None:
        self._ends = Event()
        self.num_aborted = 0

    def abort(self) -> None:
        self.num_aborted += 1
        self._ends.set()

    def complete(self) -> None:
        self._ends.set()

    def wait(self) -> None:
        assert self._ends.wait(20), "nobody ended it"
        if self.num_aborted:
            raise RuntimeError("the communicator was aborted")


def dies(seconds: float) -> None:
    time.sleep(seconds)
    raise WorkerDied("rollout-3 died in update_weights")


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_what_a_receiver_raises_ends_the_broadcast_and_is_what_is_told(seconds: float) -> None:
    broadcast = Broadcast()

    def transfer() -> None:
        with ThreadPoolExecutor(1) as pool, Watchdog(broadcast.abort, 60) as watchdog:
            pool.submit(watchdog.heed(dies), seconds)
            broadcast.wait()

    with pytest.raises(WorkerDied, match="rollout-3") as raised:
        transfer()
    assert broadcast.num_aborted == 1
    assert "aborted" in str(raised.value.__cause__)


def test_a_receiver_that_never_answers_ends_it_too() -> None:
    broadcast = Broadcast()
    with pytest.raises(EngineError, match=r"not taken within 0 s"), Watchdog(broadcast.abort, 0.1):
        broadcast.wait()
    assert broadcast.num_aborted == 1


def test_nothing_is_aborted_where_all_goes_well_nor_afterwards() -> None:
    broadcast = Broadcast()
    with Watchdog(broadcast.abort, 0.2) as watchdog:
        answer = watchdog.heed(lambda: broadcast.complete() or "taken")()
        broadcast.wait()
    late = watchdog.heed(dies)
    with pytest.raises(WorkerDied):
        late(0.3)
    assert (answer, broadcast.num_aborted) == ("taken", 0)


def test_the_sender_for_nccl_is_ended_by_a_receiver_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """With vLLM's own way to send: only the communicator is another."""
    broadcast = Broadcast()

    class Receivers:
        def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
        def start_weight_update(self) -> None: ...
        def finish_weight_update(self, weight_version: str | None = None) -> None: ...
        def update_weights(self, update_info: Any) -> None:
            dies(0.05)

    class Communicator:
        destroy = staticmethod(broadcast.abort)

    class Source:
        def metadata(self) -> list[Any]:
            return []

    sender = WatchedNcclSender(client=Receivers(), source=Source())  # pyright: ignore
    sender.model_update_group = Communicator()  # pyright: ignore
    monkeypatch.setattr(sender, "_broadcast", lambda source, meta: broadcast.wait())
    with pytest.raises(WorkerDied, match="rollout-3"):
        sender.send_weights()
    assert broadcast.num_aborted == 1
