"""Our sender for vLLM's `ipc` receivers: every rank of the learner serves the engines on its own GPU.

It moves weights between processes of one GPU, which no test here has; what it announces is tested without.
"""

import base64
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
)
from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk, packed_ipc_producer

from rollout.weight_files import DEFAULT_BUCKET_BYTES


@dataclass
class SameGpuInitInfo(TrainerInitInfo):
    """How a learner rank serves the engines on its own GPU."""

    backend = "same_gpu"
    buffer_bytes: int = DEFAULT_BUCKET_BYTES
    """How much of the GPU's memory weights pass through, unless one tensor is larger."""


class SameGpuSender(TrainerWeightTransferEngine[SameGpuInitInfo]):
    """Lets engines on this rank's GPU read a buffer of it, for vLLM's `ipc` receiver.

    In vLLM's own sender rank 0 announces the buffers of all ranks to all engines. A buffer that no engine opens is
    never freed then, and when one engine of eight is replaced, the other seven buffers are not opened.
    """

    init_info_cls = SameGpuInitInfo
    buffer_bytes = DEFAULT_BUCKET_BYTES

    @classmethod
    def trainer_init(
        cls, init_info: SameGpuInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> Self:
        """Tell the engines how weights will be packed."""
        sender = cls(client=client, source=source, is_sender=init_info.is_sender)
        sender.buffer_bytes = init_info.buffer_bytes
        if sender.is_sender:
            client.init_weight_transfer_engine({"packed": True})
        return sender

    def send_weights(self) -> None:
        """One whole update."""
        assert self.source is not None, "SameGpuSender was made without a source of weights"
        if not self.is_sender:
            for _ in self.source:
                pass
            return
        gpu = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        num_bytes = buffer_size(self.source.metadata(), self.buffer_bytes)
        self.client.start_weight_update()
        # The buffer is overwritten as soon as a call has returned: the engine has copied it by then.
        for chunk in packed_ipc_producer(iter(self.source), gpu, lambda named: named[1], num_bytes):
            self.client.update_weights(announced(chunk))
        # The engine takes the rest of its memory as the update finishes; PyTorch keeps what was needed here otherwise.
        torch.cuda.ipc_collect()
        torch.cuda.empty_cache()
        self.client.finish_weight_update()


def buffer_size(metadata: Sequence[ParamMeta], wanted: int) -> int:
    """The wanted size, or that of the largest tensor, which has to fit."""
    return max([wanted, *map(num_bytes_of, metadata)])


def announced(chunk: PackedIpcChunk) -> dict[str, Any]:
    """A filled buffer as vLLM's `ipc` receiver wants to hear of it."""
    # A handle has parts that only pickle can take into vLLM's processes.
    handle = base64.b64encode(pickle.dumps(chunk.ipc_handle)).decode()
    return {
        "names": chunk.names,
        "dtype_names": chunk.dtype_names,
        "shapes": chunk.shapes,
        "tensor_sizes": chunk.tensor_sizes,
        "ipc_handles_pickled": handle,
    }


def num_bytes_of(meta: ParamMeta) -> int:
    """Of one tensor."""
    return torch.Size(meta.shape).numel() * meta.dtype.itemsize
