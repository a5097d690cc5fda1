"""The files of a checkpoint: copied at once, then hashed and written while learning goes on.

    files = CheckpointFiles(room)
    files.save(state, path)      as `torch.save` does; the state may change as soon as this returns
    files.write(text, path)
    files.written(wait=…)        →  Written: size and digest of each file, or what went wrong; None while it is written
    digests(paths)               of files that are there, by SHA-256

A copy is the bytes of the file. At most `room` bytes are held: whoever saves more waits until some are on the disk, so
that a host without memory to spare writes as it saves, and none runs out of it.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Condition
from typing import Any

PIECE_BYTES = 2**24
"""Of a copy; so much more may be held for a moment."""
SHARE = 0.5
"""Of the memory that is free, for the copies of all ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """What was written into one file, as it was handed to the disk: `WrittenFile(size=3, sha256="ba78…")`."""

    size: int
    """In bytes."""
    sha256: str
    """As `sha256sum` prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What has become of all files of one rank."""

    files: Mapping[Path, WrittenFile]
    """Those that are on the disk."""
    fault: OSError | None
    """Why another one is not."""


class CheckpointFiles:
    """The files that one rank writes into one checkpoint."""

    def __init__(self, room: int) -> None:
        """Hold at most so many bytes that are not yet written."""
        self._room, self._held, self._changed = room, 0, Condition()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: dict[Path, Future[WrittenFile]] = {}

    def save(self, state_dict: Any, path: str | Path) -> None:
        """Have a file written that `torch.load` reads."""
        import torch

        with self._opened(Path(path)) as file:
            torch.save(state_dict, file)  # pyright: ignore[reportArgumentType]

    def write(self, text: str, path: Path) -> None:
        """Have a file written that holds the text."""
        with self._opened(path) as file:
            file.write(text.encode())

    def written(self, *, wait: bool) -> Written | None:
        """What has become of the files; ask when all have been handed over."""
        if not wait and not all(writing.done() for writing in self._writing.values()):
            return None
        files, fault = {}, None
        for path, writing in self._writing.items():
            try:
                files[path] = writing.result()
            except OSError as error:
                # What a write raises names no file.
                fault = OSError(error.errno, error.strerror, str(path))
        self._thread.shutdown()
        return Written(files=files, fault=fault)

    @contextmanager
    def _opened(self, path: Path) -> "Iterator[_Copied]":
        pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._writing[path] = self._thread.submit(self._write, path, pieces)
        try:
            yield _Copied(self, pieces)
        finally:
            pieces.put(None)

    def hold(self, piece: bytes, pieces: "SimpleQueue[bytes | None]") -> None:
        """Take a piece in as soon as there is room."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + len(piece) <= self._room)
            self._held += len(piece)
        pieces.put(piece)

    def _write(self, path: Path, queued: "SimpleQueue[bytes | None]") -> WrittenFile:
        pieces, size, digest = self._let_go(queued), 0, hashlib.sha256()
        try:
            with path.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        finally:
            # Whatever could not be written has to go, or whoever saves would wait for room in vain.
            for _ in pieces:
                continue
        return WrittenFile(size=size, sha256=digest.hexdigest())

    def _let_go(self, queued: "SimpleQueue[bytes | None]") -> Iterator[bytes]:
        while (piece := queued.get()) is not None:
            yield piece
            with self._changed:
                self._held -= len(piece)
                self._changed.notify()


class _Copied:
    """A file as PyTorch writes to it, front to back."""

    def __init__(self, files: CheckpointFiles, pieces: "SimpleQueue[bytes | None]") -> None:
        self._files, self._pieces = files, pieces

    def write(self, content: bytes | memoryview) -> int:
        whole = memoryview(content)
        for start in range(0, len(whole), PIECE_BYTES):
            self._files.hold(bytes(whole[start : start + PIECE_BYTES]), self._pieces)
        return len(whole)

    def flush(self) -> None:
        """There is nothing that waits for it."""


def room_for_copies(sharers: int) -> int:
    """How many bytes one of so many ranks may hold, were all of them on this host."""
    available = 1024 * _number("/proc/meminfo", "MemAvailable:")
    group = "/sys/fs/cgroup/memory"  # a container may have less
    if limit := _number(f"{group}.max"):
        used = _number(f"{group}.current") - _number(f"{group}.stat", "inactive_file")
        available = min(available, limit - used)
    return int(SHARE * max(available, 0) / sharers)


def _number(path: str, name: str = "") -> int:
    """What the kernel says under a name; 0 where it says nothing, or that there is no limit."""
    file = Path(path)
    found = re.search(rf"^{name}\s*(\d+)", file.read_text(encoding="ascii"), re.MULTILINE) if file.exists() else None
    return int(found[1]) if found else 0


def digests(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file, several at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
