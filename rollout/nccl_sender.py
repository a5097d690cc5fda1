"""Our sender for vLLM's `nccl` receivers: vLLM's own, with an end to it when a receiver fails.

It moves weights between GPUs, which no test here has; what ends a transfer is tested without (watchdog.py).
"""

from dataclasses import dataclass
from typing import Any, Self

from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient, WeightSource
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

from rollout.watchdog import Watchdog


@dataclass
class WatchedNcclInitInfo(NCCLTrainerInitInfo):
    """As vLLM's, and how long a transfer may take."""

    backend = "watched_nccl"
    deadline_seconds: float = 1800.0


class WatchedNcclSender(NCCLTrainerWeightTransferEngine):
    """Broadcasts to all receivers until one of them fails."""

    init_info_cls = WatchedNcclInitInfo
    deadline_seconds = 1800.0

    @classmethod
    def trainer_init(cls, init_info: Any, *, client: VLLMWeightSyncClient, source: WeightSource | None = None) -> Self:
        """Meet the receivers."""
        sender = super().trainer_init(init_info, client=client, source=source)
        sender.deadline_seconds = init_info.deadline_seconds
        return sender

    def send_weights(self) -> None:
        """One whole update, or what went wrong with it; the sender is of no use after that."""
        if not self.is_sender:
            super().send_weights()
            return
        client = self.client
        with Watchdog(self._abort, self.deadline_seconds) as watchdog:
            self.client = _Heeding(client, watchdog)
            try:
                super().send_weights()
            finally:
                self.client = client

    def _abort(self) -> None:
        """Make the broadcast return."""
        if self.model_update_group is not None:
            self.model_update_group.destroy()


class _Heeding:
    """Receivers whose failures end the transfer."""

    def __init__(self, client: VLLMWeightSyncClient, watchdog: Watchdog) -> None:
        self._client = client
        self.init_weight_transfer_engine = client.init_weight_transfer_engine
        self.start_weight_update = watchdog.heed(client.start_weight_update)
        self.update_weights = watchdog.heed(client.update_weights)
        self.finish_weight_update = watchdog.heed(client.finish_weight_update)
