"""The weight-transfer backend that vLLM lacks, for CPUs: tensors go through files in memory.

SharedMemorySender      in the learner: writes each bucket of tensors to memory once and announces it
SharedMemoryReceiver    in the engine's worker: maps a file of tensors and loads them
buckets_of              what is sent, in groups of bounded size
write_file, read_file   one group → a file in /dev/shm, and where each tensor lies in it → views of it elsewhere
contents_of, file_with  a whole file as bytes, and the same file on another host
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

NamedTensor = tuple[str, torch.Tensor]
Item = TypeVar("Item")

BACKEND = "shared_memory"
DEFAULT_BUCKET_BYTES = 512 * 2**20
ALIGNMENT = 64
FILE_PREFIX = "ruleshift-weights-"
"""Followed by the writer's process id: what a killed one left in memory can be found."""


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """What the receiver is told once."""

    refresh_output_layer: bool = True
    """Whether a tied output layer is packed anew. Only tests turn it off, to show what happens then."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """One bucket: `SharedMemoryUpdateInfo(path="/dev/shm/…", tensors=[["lm_head.weight", "float32", [9, 4], 0]])`."""

    path: str
    """A file that every process of this host can read; it is the receiver's until the call returns."""
    tensors: list[list[Any]]
    """Of each tensor its name, its dtype, its shape and the byte where it begins."""


class SharedMemoryReceiver(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Loads tensors out of a mapped file, the way vLLM's own engines load what arrives by NCCL."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo
    _refresh_output_layer = True
    _unfinished = False

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Nothing to connect: the file's name comes with each bucket."""
        self._refresh_output_layer = init_info.refresh_output_layer

    def start_weight_update(self) -> None:
        """Make every layer ready to be loaded again."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        if self._unfinished:
            self._forget_half_loaded_layers()
        self._unfinished = True
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As the base class, which synchronises an accelerator even where there is none."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Load one bucket. A layer keeps its views until all of its tensors are in."""
        last = ""

        def views() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal last
            for named in read_file(update_info.path, update_info.tensors):
                last = named[0]
                yield named

        try:
            self.model.load_weights(views())  # pyright: ignore[reportCallIssue]
        except Exception as error:
            raise ValueError(f"{type(self.model).__name__} did not take {last}: {error!r}") from error

    def finish_weight_update(self) -> None:
        """Process what was loaded."""
        self._finalize()
        self._unfinished = False
        if self._refresh_output_layer:
            self._process_tied_output_layers()

    def _forget_half_loaded_layers(self) -> None:
        """Undo an update that broke off: what its layers hold would count as part of the next one.

        They would then be processed before their last tensors are in, and nothing would say so.
        """
        from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

        for layer in self.model.modules():
            loading = get_layerwise_info(layer)
            loading.loaded_weights.clear()
            loading.load_numel = 0
        self._finalize()

    def _finalize(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)

    def _process_tied_output_layers(self) -> None:
        """Pack tied output layers anew.

        On CPUs an output layer multiplies with its own packed copy of its weight. Where that weight is the
        embedding's, the reload fills the embedding and takes the output layer for one that got nothing: the copy
        stays old.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

        embeddings = {
            id(layer.weight)
            for layer in self.model.modules()
            if isinstance(layer, VocabParallelEmbedding) and not isinstance(layer, ParallelLMHead)
        }
        for layer in self.model.modules():
            if isinstance(layer, ParallelLMHead) and id(layer.weight) in embeddings:
                layer.quant_method.process_weights_after_loading(layer)

    def shutdown(self) -> None:
        """Nothing is held between updates."""


@dataclass
class SharedMemoryTrainerInitInfo(TrainerInitInfo):
    """How the learner's side sends."""

    backend = BACKEND
    bucket_bytes: int = DEFAULT_BUCKET_BYTES
    """Roughly how much is written before it is loaded: the host memory that an update needs on top of the model."""


class SharedMemorySender(TrainerWeightTransferEngine[SharedMemoryTrainerInitInfo]):
    """Writes buckets of tensors to shared memory; rank 0 announces them, the others only take part in gathering."""

    init_info_cls = SharedMemoryTrainerInitInfo
    bucket_bytes = DEFAULT_BUCKET_BYTES

    @classmethod
    def trainer_init(
        cls,
        init_info: SharedMemoryTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Connect to the engine."""
        sender = cls(client=client, source=source, is_sender=init_info.is_sender)
        sender.bucket_bytes = init_info.bucket_bytes
        if sender.is_sender:
            sweep()
            client.init_weight_transfer_engine({})
        return sender

    def send_weights(self) -> None:
        """One whole update."""
        assert self.source is not None, "SharedMemorySender was made without a source of weights"
        if not self.is_sender:
            for _ in self.source:
                pass  # each step gathers one parameter from all ranks
            return
        for number, bucket in enumerate(buckets_of(self.source, lambda named: named[1].nbytes, self.bucket_bytes)):
            path, tensors = write_file(bucket)
            try:
                if number == 0:  # the engines have drawn until the first bucket was there
                    self.client.start_weight_update()
                self.client.update_weights({"path": str(path), "tensors": tensors})
            finally:
                path.unlink()
        self.client.finish_weight_update()


def buckets_of(items: Iterable[Item], num_bytes_of: Callable[[Item], int], bucket_bytes: int) -> Iterator[list[Item]]:
    """Items in groups of at most so many bytes; a larger one is a group of its own."""
    bucket: list[Item] = []
    num_bytes = 0
    for item in items:
        added = num_bytes_of(item)
        if bucket and num_bytes + added > bucket_bytes:
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(item)
        num_bytes += added
    if bucket:
        yield bucket


def write_file(bucket: Sequence[NamedTensor]) -> tuple[Path, list[list[Any]]]:
    """The file, and of each tensor its name, its dtype, its shape and the byte where it begins."""
    places: list[list[Any]] = []
    end = 0
    for name, tensor in bucket:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        places.append([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start])
        end = start + tensor.nbytes
    path, mapped = _new_file(end)
    try:
        flat = torch.frombuffer(mapped, dtype=torch.uint8)
        for (_, tensor), (_, _, _, start) in zip(bucket, places, strict=True):
            flat[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    except BaseException:
        path.unlink()
        raise
    return path, places


def _new_file(num_bytes: int) -> tuple[Path, mmap.mmap]:
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    descriptor, path = tempfile.mkstemp(prefix=f"{FILE_PREFIX}{os.getpid()}-", dir=folder)
    try:
        # Where memory is short this raises; writing through the mapping would end the process.
        os.posix_fallocate(descriptor, 0, num_bytes)
        return Path(path), mmap.mmap(descriptor, num_bytes)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def sweep() -> None:
    """Remove the files of processes that were killed before they could."""
    for file in Path("/dev/shm").glob(f"{FILE_PREFIX}*"):
        owner = file.name.removeprefix(FILE_PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            file.unlink(missing_ok=True)


def read_file(path: str, places: Iterable[Sequence[Any]]) -> Iterator[NamedTensor]:
    """Views of the file. They keep it mapped, and may outlive the file itself."""
    with open(path, "rb") as file:
        # A private mapping: torch wants memory that it may write to, and nobody else sees it if it does.
        flat = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    for name, dtype_name, shape, start in places:
        dtype = getattr(torch, dtype_name)
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        yield name, flat[start : start + num_bytes].view(dtype).view(shape)


def contents_of(path: str) -> np.ndarray:
    """All bytes of the file, not copied yet."""
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


@contextmanager
def file_with(contents: np.ndarray) -> Iterator[Path]:
    """A file with these bytes in this host's memory, while the block lasts."""
    path, mapped = _new_file(len(contents))
    try:
        np.frombuffer(mapped, dtype=np.uint8)[:] = contents
        yield path
    finally:
        path.unlink()
