"""Learner ranks for tests: functions that run in several processes at once, joined as DeepSpeed wants them.

    run_ranks(2, function, *args)   →  [function(0, 2, *args), function(1, 2, *args)]

A group of ranks is started by the first test that wants one of its size, and kept for others; `end_ranks` ends all.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

import ray

TIMEOUT_SECONDS = 60.0

_groups: dict[tuple[str, int], list[Any]] = {}
"""By Ray cluster and size: ranks that a test left in a cluster end with it."""


class _Rank:
    """A process that has joined others."""

    def __init__(self, rank: int, num_ranks: int, address: str) -> None:
        # Importing DeepSpeed's optimizers would load PyTorch's compiler, which takes three seconds and is not used.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
        import torch

        from learner.deepspeed_engine import join_ranks

        torch.set_num_threads(1)
        self._place = rank, num_ranks
        join_ranks(rank, num_ranks, address, timeout_seconds=TIMEOUT_SECONDS)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*self._place, *args)


def start_ranks(num_ranks: int) -> list[Any]:
    """The group of that size; a new one may still be starting, its first call waits for it."""
    if not ray.is_initialized():
        ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
    key = ray.get_runtime_context().get_node_id(), num_ranks
    if key not in _groups:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        actor = ray.remote(_Rank).options(num_cpus=0)
        _groups[key] = [actor.remote(rank, num_ranks, address) for rank in range(num_ranks)]
    return _groups[key]


def run_ranks(num_ranks: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What function(rank, num_ranks, *args) returns on each rank."""
    return ray.get([rank.run.remote(function, *args) for rank in start_ranks(num_ranks)])


def end_ranks() -> None:
    """End all processes; the next call starts fresh ones."""
    for ranks in _groups.values():
        for rank in ranks:
            ray.kill(rank)
    _groups.clear()
