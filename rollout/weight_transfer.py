"""New weights for a rollout engine: vLLM's weight-transfer interface, and the backend it lacks, for CPUs.

    register                    the plug-in entry point, by which every vLLM process knows the backend `shared_memory`
    SharedMemoryReceiver        in the engine's worker: maps a file of tensors and loads them
    SharedMemorySender          in the learner: writes each bucket of tensors to memory once and announces it
    make_sender → WeightSender  one way to send, whichever backend: `send(version) -> SyncReport`

Where the weights come from: rollout/weight_source.py. The files: rollout/weight_files.py.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from vllm.distributed.weight_transfer.base import (
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

from rollout.weight_files import buckets, read_file, write_file

BACKEND = "shared_memory"
DEFAULT_BUCKET_BYTES = 512 * 2**20


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
        for bucket in buckets(self.source, self.bucket_bytes):
            path, tensors = write_file(bucket)
            try:
                self.client.update_weights({"path": str(path), "tensors": tensors})
            finally:
                path.unlink()
        self.client.finish_weight_update()


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
