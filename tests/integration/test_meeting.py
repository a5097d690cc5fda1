"""Ranks meet at a port that nobody can take between the moment it is named and the moment they listen on it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from learner.meeting import Meeting

RANK = """
import sys
from learner.deepspeed_engine import join_ranks
from learner.meeting import Meeting, gather
import torch

rank, address = int(sys.argv[1]), sys.argv[2]
meeting = None
if rank == 0:
    meeting = Meeting("127.0.0.1")
    print(meeting.address, flush=True)
    sys.stdin.readline()
    address = meeting.address
gather(address, rank, 2, timeout_seconds=60, meeting=meeting)
join_ranks(rank, 2, address, timeout_seconds=60)
one = torch.ones(1) * (rank + 1)
torch.distributed.all_reduce(one)
print(one.item(), flush=True)
"""


def test_nobody_else_can_listen_where_ranks_will_meet() -> None:
    meeting = Meeting("127.0.0.1")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", int(meeting.address.rpartition(":")[2])))
    socket.close(meeting.hand_over())


@pytest.mark.timeout(180)
def test_two_ranks_meet_where_the_first_has_listened_from_the_start() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", RANK]
    with subprocess.Popen(
        [*command, "0", "-"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None and first.stdin is not None
        address = first.stdout.readline().strip()
        with subprocess.Popen([*command, "1", address], cwd=root, stdout=subprocess.PIPE, text=True) as second:
            first.stdin.write("go\n")
            first.stdin.flush()
            assert second.stdout is not None
            assert (first.stdout.read().strip(), second.stdout.read().strip()) == ("3.0", "3.0")
