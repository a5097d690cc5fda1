"""Which learner rank serves which workers, what vLLM is told of it, and that all ranks go through all weights."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferUpdateInfo
from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk

from rollout.same_gpu_sender import announced, buffer_size
from rollout.weight_files import FILE_PREFIX, contents_of, file_with, read_file, sweep, write_file
from rollout.weight_transfer import Place, make_sender, meeting, rank_offsets, shares

RANKS = [Place(host="first", gpus=(str(gpu),)) for gpu in range(4)]
NOWHERE = {"master_address": "127.0.0.1", "master_port": 1, "world_size": 1}


@pytest.mark.parametrize("backend", ["shared_memory", "nccl"])
def test_one_rank_sends_to_all_workers_where_they_have_other_devices(backend: str) -> None:
    workers = [Place(host="first", gpus=("4", "5"), num_ranks=2), Place(host="second", gpus=("0", "1"), num_ranks=2)]
    assert shares(backend, RANKS, workers) == [[0, 1], [], [], []]


def test_files_of_killed_processes_are_swept_and_those_of_living_ones_stay() -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    left_behind = Path("/dev/shm", f"{FILE_PREFIX}{killed.pid}-left")
    left_behind.touch()
    with file_with(np.zeros(8, dtype=np.uint8)) as ours:
        sweep()
        assert ours.exists()
        assert not left_behind.exists()


def test_ranks_and_workers_in_pairs_on_the_same_gpus_serve_each_other() -> None:
    workers = [Place(host="first", gpus=(str(gpu),)) for gpu in (2, 0, 3, 1)]
    assert shares("ipc", RANKS, workers) == [[1], [3], [0], [2]]
    assert shares("ipc", RANKS[:1], workers[1:2]) == [[0]]


def test_a_replaced_worker_is_served_by_the_rank_on_its_gpu_alone() -> None:
    assert shares("ipc", RANKS, [Place(host="first", gpus=("2",))]) == [[], [], [0], []]


def test_a_gpu_of_the_same_number_on_another_host_is_another_gpu() -> None:
    ranks = [Place(host="first", gpus=("0",)), Place(host="second", gpus=("0",))]
    assert shares("ipc", ranks, [Place(host="second", gpus=("0",))]) == [[], [0]]
    with pytest.raises(ValueError, match=r"no learner rank is on the GPU of rollout workers \[1\]"):
        shares("ipc", ranks, [ranks[0], Place(host="third", gpus=("0",))])


def test_every_process_of_every_engine_has_a_rank_of_its_own_behind_the_senders() -> None:
    workers = [Place(host="first", num_ranks=2), Place(host="second", num_ranks=2), Place(host="second", num_ranks=4)]
    offsets = rank_offsets(workers)
    taken = [offset + n for offset, worker in zip(offsets, workers, strict=True) for n in range(worker.num_ranks)]
    assert taken == list(range(1, 9))
    met = meeting("nccl", workers, "10.0.0.7:4321", 60.0)
    assert met == {"master_address": "10.0.0.7", "master_port": 4321, "world_size": 9, "deadline_seconds": 60.0}


@pytest.mark.parametrize("backend", ["shared_memory", "ipc"])
def test_only_a_group_has_to_meet(backend: str) -> None:
    assert meeting(backend, RANKS, "10.0.0.7:4321", 60.0) == {}


def test_a_filled_buffer_is_announced_in_the_words_of_vllms_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = {"GPU-77a0": (torch.Tensor, (4096,), (1,), 0, torch.UntypedStorage, torch.uint8, 0, b"handle", 4096, 0)}
    chunk = PackedIpcChunk(
        names=["lm_head.weight"], shapes=[[4, 2]], dtype_names=["bfloat16"], tensor_sizes=[16], ipc_handle=handle
    )
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    received = IPCWeightTransferUpdateInfo(**announced(chunk))
    assert received.ipc_handles == handle
    assert (received.names, received.dtype_names) == (["lm_head.weight"], ["bfloat16"])
    assert (received.shapes, received.tensor_sizes) == ([[4, 2]], [16])


def test_the_largest_tensor_fits_into_the_buffer() -> None:
    metadata = [ParamMeta("small", torch.bfloat16, (8, 8)), ParamMeta("large", torch.float32, (100, 10))]
    assert buffer_size(metadata, 1000) == 4000
    assert buffer_size(metadata, 5000) == 5000


def test_a_file_is_the_same_on_another_host_and_is_gone_when_it_was_read() -> None:
    tensors = [("first", torch.randn(3, 5)), ("second", torch.arange(7, dtype=torch.bfloat16))]
    path, places = write_file(tensors)
    contents = np.array(contents_of(str(path)))
    path.unlink()
    with file_with(contents) as copy:
        received = list(read_file(str(copy), places))
    assert not copy.exists()
    for (name, sent), (received_name, tensor) in zip(tensors, received, strict=True):
        assert received_name == name
        assert torch.equal(tensor, sent)


class Weights(WeightSource):
    """Remembers what was asked of it."""

    def __init__(self, *, breaks_at: int = -1) -> None:
        self.asked: list[str] = []
        self._breaks_at = breaks_at

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(f"layer.{number}", torch.float32, (4,)) for number in range(5)]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for number, meta in enumerate(self.metadata()):
            if number == self._breaks_at:
                raise OSError("the source is gone")
            self.asked.append(meta.name)
            yield meta.name, torch.full(meta.shape, float(number))


class Engine:
    """The engines' side, of which one call may fail."""

    def __init__(self, failing: str = "") -> None:
        self._failing = failing
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._failing:
            raise ConnectionError(f"the worker died in {name}")

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("init")

    def start_weight_update(self) -> None:
        self._call("start")

    def update_weights(self, update_info: Any) -> None:
        assert Path(update_info["path"]).exists()
        self._call("update")

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call(f"finish {weight_version}")


@pytest.mark.parametrize("backend", ["shared_memory", "nccl", "ipc"])
def test_a_rank_without_workers_goes_through_all_weights_and_calls_nobody(backend: str) -> None:
    weights, engine = Weights(), Engine()
    options = NOWHERE if backend == "nccl" else {}
    sender = make_sender(backend, client=engine, source=weights, sends=False, **options)
    for version in (1, 2):
        assert sender.send(version).num_calls == 0
    assert weights.asked == [meta.name for meta in weights.metadata()] * 2
    assert engine.calls == []


@pytest.mark.parametrize(("failing", "calls"), [("start", 0), ("update", 1), ("finish 3", 3)])
def test_a_rank_whose_worker_dies_still_goes_through_all_weights_for_the_others(failing: str, calls: int) -> None:
    weights, engine = Weights(), Engine(failing)
    sender = make_sender("shared_memory", client=engine, source=weights, bucket_bytes=32)
    with pytest.raises(ConnectionError, match=f"died in {failing}"):
        sender.send(3)
    assert engine.calls.count("update") == calls
    assert weights.asked == [meta.name for meta in weights.metadata()]


def test_what_a_source_raises_is_what_is_seen() -> None:
    weights = Weights(breaks_at=3)
    sender = make_sender("shared_memory", client=Engine(), source=weights, bucket_bytes=32)
    with pytest.raises(OSError, match="the source is gone"):
        sender.send(1)
    assert len(weights.asked) == 3


def test_an_unknown_way_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="use one of shared_memory, nccl, ipc"):
        make_sender("pigeon", client=Engine(), source=Weights())
