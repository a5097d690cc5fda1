"""Tensors in a file in memory, by which processes of one host pass them on without copying them through a socket.

buckets       a source's tensors in groups of bounded size
write_file    one group → a file in /dev/shm, and where each tensor lies in it
read_file     the same file → views of it, in another process
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

NamedTensor = tuple[str, torch.Tensor]

ALIGNMENT = 64
FILE_PREFIX = "ruleshift-weights-"
"""Followed by the writer's process id: what a killed one left in memory can be found."""


def buckets(source: Iterable[NamedTensor], bucket_bytes: int) -> Iterator[list[NamedTensor]]:
    """The source's tensors in groups of at most so many bytes; a larger tensor is a group of its own."""
    bucket: list[NamedTensor] = []
    num_bytes = 0
    for name, tensor in source:
        if bucket and num_bytes + tensor.nbytes > bucket_bytes:
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append((name, tensor))
        num_bytes += tensor.nbytes
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
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    descriptor, path = tempfile.mkstemp(prefix=f"{FILE_PREFIX}{os.getpid()}-", dir=folder)
    try:
        # Where memory is short this raises; writing through the mapping would end the process.
        os.posix_fallocate(descriptor, 0, end)
        flat = torch.frombuffer(mmap.mmap(descriptor, end), dtype=torch.uint8)
        for (_, tensor), (_, _, _, start) in zip(bucket, places, strict=True):
            flat[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return Path(path), places


def read_file(path: str, places: Iterable[Sequence[Any]]) -> Iterator[NamedTensor]:
    """Views of the file. They keep it mapped, and may outlive the file itself."""
    with open(path, "rb") as file:
        # A private mapping: torch wants memory that it may write to, and nobody else sees it if it does.
        flat = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    for name, dtype_name, shape, start in places:
        dtype = getattr(torch, dtype_name)
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        yield name, flat[start : start + num_bytes].view(dtype).view(shape)
