"""New weights for rollout engines, by vLLM's weight-transfer interface, whichever way the bytes take.

    make_sender → WeightSender          one way to send for all backends: `send(version) -> SyncReport`
    register                            the plug-in entry point, by which every vLLM process knows what is ours
    Place, shares, rank_offsets, meeting    who sends to whom, and where they meet

    shared_memory   ours, for CPUs: rank 0 sends through files in memory (rollout/weight_files.py)
    nccl            vLLM's: rank 0 of the learner broadcasts to all ranks of all engines
    ipc             vLLM's receiver, our sender: every rank of the learner serves the engines on its own GPU

Only a rank that has engines to serve sends, but all go through the source: putting weights together takes them all.
`nccl` and `ipc` move weights between GPUs, which no test here has; how ranks find each other is tested without.
Where the weights come from: rollout/weight_source.py. How `ipc` packs them: rollout/same_gpu_sender.py.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferUpdatePayload,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory

from rollout.engine_stats import teach
from rollout.orphans import die_with_parent
from rollout.same_gpu_sender import SameGpuInitInfo, SameGpuSender, num_bytes_of
from rollout.weight_digest import WHOLE, digest_of
from rollout.weight_files import (
    BACKEND,
    SharedMemoryReceiver,
    SharedMemorySender,
    SharedMemoryTrainerInitInfo,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a learner rank or a rollout worker is: `Place(host="57c3…", gpus=("4", "5"), num_ranks=2)`."""

    host: str
    """Ray's name of its host."""
    gpus: tuple[str, ...] = ()
    """The GPUs of the host that it has, or has a share of."""
    num_ranks: int = 1
    """How many processes its model is spread over."""

    def shares_gpu_with(self, other: "Place") -> bool:
        """Whether both have the same GPU."""
        return self.host == other.host and not set(self.gpus).isdisjoint(other.gpus)


def shares(backend: str, ranks: Sequence[Place], workers: Sequence[Place]) -> list[list[int]]:
    """For each learner rank the numbers of the workers that it serves."""
    if backend != "ipc":
        return [list(range(len(workers))), *([] for _ in ranks[1:])]
    served: list[list[int]] = [[] for _ in ranks]
    lonely = []
    for number, worker in enumerate(workers):
        own = next((share for share, rank in zip(served, ranks, strict=True) if rank.shares_gpu_with(worker)), lonely)
        own.append(number)
    if lonely:
        raise ValueError(
            f"rollout.engine.weight_transfer=ipc: no learner rank is on the GPU of rollout workers {lonely}; "
            "set cluster.num_rollout_workers to at most learner.num_ranks, or choose placement=split and nccl"
        )
    return served


def rank_offsets(workers: Sequence[Place]) -> list[int]:
    """The rank that each worker's first process has in a group with one sender, whose rank is 0."""
    return list(accumulate((worker.num_ranks for worker in workers[:-1]), initial=1))


def meeting(backend: str, workers: Sequence[Place], address: str, seconds: float) -> dict[str, Any]:
    """What the sender has to tell vLLM about a group, where there is one; `address` is its own host and a free port,
    and a transfer may take so many seconds."""
    if backend != "nccl":
        return {}
    host, _, port = address.rpartition(":")
    num_ranks = 1 + sum(worker.num_ranks for worker in workers)
    return {
        "master_address": host,
        "master_port": int(port),
        "world_size": num_ranks,
        "deadline_seconds": seconds,
    }


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
    digest: int | None = None
    """Of all tensors as engines hold them, by `weight_digest.digest_of`; where it was asked for."""


class WeightSender:
    """Sends a source's weights to engines, by any backend; every learner rank makes one and calls it."""

    def __init__(
        self,
        init_info: TrainerInitInfo,
        client: VLLMWeightSyncClient,
        source: WeightSource,
        held_as: torch.dtype | None = None,
    ) -> None:
        """`held_as` is the dtype in which engines hold what they get; without it, that in which it is sent."""
        self._client = _CountingClient(client)
        self._source = _WholeSource(source, held_as)
        register()
        self._trainer = WeightTransferTrainerFactory.trainer_init(init_info, client=self._client, source=self._source)

    def send(self, version: int, *, perturbation: float = 0.0, with_digest: bool = False) -> SyncReport:
        """Make the engines' weights those of the source and call them `version`; the engines still have to verify.

        With a `perturbation`, as 2**-4, every value that is sent is off by so much: what arrives of them shows.
        """
        started = time.perf_counter()
        self._source.perturbation, self._source.with_digest = perturbation, with_digest
        self._client.version, self._client.num_calls = version, 0
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # vLLM reads the weights in streams that wait for no other
        with self._source:
            self._trainer.send_weights()
        return SyncReport(
            version=version,
            seconds=time.perf_counter() - started,
            num_bytes=sum(map(num_bytes_of, self._source.metadata())),
            num_calls=self._client.num_calls,
            digest=self._source.digest % WHOLE if with_digest else None,
        )

    def close(self) -> None:
        """Drop the connection; the engines live on."""
        self._trainer.shutdown()


class _WholeSource(WeightSource):
    """A source that is gone through once in each block, whatever is raised: other ranks go through theirs with it."""

    def __init__(self, source: WeightSource, held_as: torch.dtype | None) -> None:
        self._source, self._held_as = source, held_as
        self.perturbation, self.with_digest = 0.0, False
        self.digest = 0

    def metadata(self) -> list[ParamMeta]:
        return self._source.metadata()

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return self._rest

    def __enter__(self) -> None:
        self.digest = 0
        self._rest = self._named()

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._source:
            sent = tensor * (1 + self.perturbation) + self.perturbation if self.perturbation else tensor
            if self.with_digest:
                self.digest += digest_of([sent.to(self._held_as or sent.dtype)])
            yield name, sent

    def __exit__(self, *_raised: object) -> None:
        for _ in self._rest:
            pass


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
    sends: bool = True,
    held_as: torch.dtype | None = None,
    **options: Any,
) -> WeightSender:
    """The learner's end of `rollout.engine.weight_transfer`; a rank that has nobody to send to only gathers.

    `options` are fields of the backend's init info: `bucket_bytes` for `shared_memory`, `buffer_bytes` for `ipc`, and
    for `nccl` what `meeting` says.
    """
    rank = 0 if sends else 1  # all that vLLM asks of it
    if backend == BACKEND:
        return WeightSender(SharedMemoryTrainerInitInfo(rank=rank, **options), client, source, held_as)
    if backend == "nccl":
        from rollout.nccl_sender import WatchedNcclInitInfo

        # A second buffer has a stream of its own, which would not wait for tensors that the first one's still gathers.
        return WeightSender(WatchedNcclInitInfo(rank=rank, packed_num_buffers=1, **options), client, source, held_as)
    if backend == "ipc":
        return WeightSender(SameGpuInitInfo(rank=rank, **options), client, source, held_as)
    raise ValueError(f"rollout.engine.weight_transfer is {backend!r}: use one of shared_memory, nccl, ipc")


def register() -> None:
    """Make ours known to the vLLM of this process; vLLM calls it in each of its own, sometimes twice."""
    die_with_parent()
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryReceiver)
    from rollout.nccl_sender import WatchedNcclSender

    for sender in (SharedMemorySender, SameGpuSender, WatchedNcclSender):
        if sender.init_info_cls.backend not in WeightTransferTrainerFactory._registry:
            WeightTransferTrainerFactory.register_engine(sender.init_info_cls.backend, sender)
    teach()
