"""Where the ranks of a learner meet: a port that is held from the moment in which it is named.

    meeting = Meeting(host)                    on rank 0, before the others know of it
    gather(meeting.address, rank, …, meeting)  on all ranks; theirs without a meeting of their own

A port that is found free and given back may belong to someone else a moment later, when ranks begin to listen on it.
"""

import socket
from datetime import timedelta

import torch
import torch.distributed


class Meeting:
    """A port of this host on which someone listens already."""

    def __init__(self, host: str) -> None:
        self._listening = socket.socket()
        self._listening.bind(("", 0))
        self._listening.listen()
        self.address = f"{host}:{self._listening.getsockname()[1]}"

    def hand_over(self) -> int:
        """The socket's number; whoever gets it closes it."""
        return self._listening.detach()


def gather(address: str, rank: int, num_ranks: int, *, timeout_seconds: float, meeting: Meeting | None = None) -> None:
    """Make PyTorch's group of all ranks; rank 0 brings the meeting."""
    host, _, port = address.rpartition(":")
    timeout = timedelta(seconds=timeout_seconds)
    store = torch.distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        host,
        int(port),
        num_ranks,
        is_master=meeting is not None,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=None if meeting is None else meeting.hand_over(),
    )
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=num_ranks, timeout=timeout)
