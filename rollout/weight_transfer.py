"""New weights for a rollout engine: vLLM's weight-transfer interface, and the backend it lacks, for CPUs.

    register                    the plug-in entry point, by which every vLLM process knows the backend `shared_memory`
    SharedMemoryReceiver        in the engine's worker: maps a file of tensors and loads them
    SharedMemorySender          in the learner: writes each bucket of tensors to memory once and announces it
    HuggingFaceSource           a module's weights under the names of its checkpoint
    make_sender → WeightSender  one way to send, whichever backend: `send(version) -> SyncReport`
"""

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedModel
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
    WeightTransferUpdatePayload,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory

BACKEND = "shared_memory"
DEFAULT_BUCKET_BYTES = 512 * 2**20
ALIGNMENT = 64


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """What the receiver is told once."""

    refresh_output_layer: bool = True
    """Whether a tied output layer is packed anew. Only tests turn it off, to show what happens then."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """One bucket: `SharedMemoryUpdateInfo(path="/dev/shm/…", tensors=[["lm_head.weight", "float32", [9, 4], 0]])`."""

    path: str
    """A file that every worker of this host can read; it is theirs until the call returns."""
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
            # An update broke off. What its half-loaded layers hold would be counted as part of this one, which
            # would then be processed before its last tensors are in.
            self._finalize()
        self._unfinished = True
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As the base class, which synchronises an accelerator even where there is none."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Load one bucket. A layer keeps views of it until all of its tensors are in, and they keep the mapping."""
        with open(update_info.path, "rb") as file:
            # A private mapping: torch wants memory that it may write to, and nobody else sees it if it does.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        flat = torch.frombuffer(memory, dtype=torch.uint8)
        views = []
        for name, dtype_name, shape, start in update_info.tensors:
            dtype = getattr(torch, dtype_name)
            num_bytes = torch.Size(shape).numel() * dtype.itemsize
            views.append((name, flat[start : start + num_bytes].view(dtype).view(shape)))
        self.model.load_weights(views)  # pyright: ignore[reportCallIssue]

    def finish_weight_update(self) -> None:
        """Process what was loaded."""
        self._finalize()
        self._unfinished = False
        if self._refresh_output_layer:
            self._process_tied_output_layers()

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
            client.init_weight_transfer_engine({})
        return sender

    def send_weights(self) -> None:
        """One whole update."""
        assert self.source is not None, "SharedMemorySender was made without a source of weights"
        if not self.is_sender:
            for _ in self.source:
                pass  # each step gathers one parameter from all ranks
            return
        self.client.start_weight_update()
        for bucket in _buckets(self.source, self.bucket_bytes):
            path, tensors = _write(bucket)
            try:
                self.client.update_weights({"path": str(path), "tensors": tensors})
            finally:
                path.unlink()
        self.client.finish_weight_update()


def _buckets(source: WeightSource, bucket_bytes: int) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """The source's tensors in groups of at most so many bytes; a larger tensor is a group of its own."""
    bucket: list[tuple[str, torch.Tensor]] = []
    num_bytes = 0
    for name, tensor in source:
        if bucket and num_bytes + tensor.nbytes > bucket_bytes:
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append((name, tensor))
        num_bytes += tensor.nbytes
    if bucket:
        yield bucket


def _write(bucket: list[tuple[str, torch.Tensor]]) -> tuple[Path, list[list[Any]]]:
    """Put the tensors into a file in memory: its path, and each one's name, dtype, shape and first byte."""
    tensors: list[list[Any]] = []
    end = 0
    for name, tensor in bucket:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        tensors.append([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start])
        end = start + tensor.nbytes
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    descriptor, path = tempfile.mkstemp(prefix="ruleshift-weights-", dir=folder)
    try:
        os.posix_fallocate(descriptor, 0, end)  # a full /dev/shm raises here; written through a mapping it would kill
        with mmap.mmap(descriptor, end) as memory:
            flat = torch.frombuffer(memory, dtype=torch.uint8)
            for (_, tensor), (_, _, _, start) in zip(bucket, tensors, strict=True):
                flat[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
            del flat
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return Path(path), tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What one update took."""

    version: int
    """Which policy version was sent."""
    seconds: float
    """From the first call to the last, loading included."""
    num_bytes: int
    """The size of all tensors."""
    num_calls: int
    """In how many calls they went."""


class WeightSender:
    """Sends a source's weights to one engine, by any of vLLM's backends; every learner rank makes one and calls it."""

    def __init__(self, init_info: TrainerInitInfo, client: VLLMWeightSyncClient, source: WeightSource) -> None:
        self._client = _CountingClient(client)
        self._source = source
        register()
        self._trainer = WeightTransferTrainerFactory.trainer_init(init_info, client=self._client, source=source)

    def send(self, version: int) -> SyncReport:
        """Make the engine's weights those of the source and call them `version`; the engine still has to verify."""
        started = time.perf_counter()
        self._client.version, self._client.num_calls = version, 0
        self._trainer.send_weights()
        return SyncReport(
            version=version,
            seconds=time.perf_counter() - started,
            num_bytes=sum(torch.Size(meta.shape).numel() * meta.dtype.itemsize for meta in self._source.metadata()),
            num_calls=self._client.num_calls,
        )

    def close(self) -> None:
        """Drop the connection; the engine lives on."""
        self._trainer.shutdown()


class _CountingClient:
    """Passes vLLM's calls on, and names the version, which vLLM's own senders leave open."""

    def __init__(self, client: VLLMWeightSyncClient) -> None:
        self._client = client
        self.version = 0
        self.num_calls = 0

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._client.init_weight_transfer_engine(init_info)

    def start_weight_update(self) -> None:
        self._client.start_weight_update()

    def update_weights(self, update_info: WeightTransferUpdatePayload) -> None:
        self.num_calls += 1
        self._client.update_weights(update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._client.finish_weight_update(weight_version or str(self.version))


def make_sender(
    backend: str,
    *,
    client: VLLMWeightSyncClient,
    source: WeightSource,
    rank: int = 0,
    **options: Any,
) -> WeightSender:
    """The learner's end of `rollout.engine.weight_transfer`.

    `options` are the fields of the backend's own init info: `bucket_bytes` for `shared_memory`; `master_address`,
    `master_port` and `world_size` for `nccl`; `packed` for `ipc`. The last two are vLLM's own, used as it documents
    them and not tested here: they need GPUs.
    """
    if backend == BACKEND:
        return WeightSender(SharedMemoryTrainerInitInfo(rank=rank, **options), client, source)
    if backend == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        return WeightSender(NCCLTrainerInitInfo(rank=rank, **options), client, source)
    if backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return WeightSender(IPCTrainerInitInfo(rank=rank, **options), client, source)
    raise ValueError(f"rollout.engine.weight_transfer is {backend!r}: use one of shared_memory, nccl, ipc")


def register() -> None:
    """Make the backend known to the vLLM of this process; vLLM calls it in each of its own, sometimes twice."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryReceiver)
    if BACKEND not in WeightTransferTrainerFactory._registry:
        WeightTransferTrainerFactory.register_engine(BACKEND, SharedMemorySender)
