"""Writing so that a death at any moment leaves either the old file or the new one, or one torn last line.

append(path, content)        bytes behind those that are there: all of them, or none where the disk is full
append_rows(path, rows)      JSON lines, one write for all of them
read_rows(path)              what was written whole; a torn last line is left out, any other damage is an error
drop_rows(path, is_kept)     the file without some of its rows, replaced at once
replace(path, content)       the file with another content, replaced at once
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.errors import RunError
from cluster.record.disk import disk_full, is_full

Row = Mapping[str, Any]


class DamagedRecord(RunError):
    """A file of a run does not hold what was written; the message names the file and the place."""


def append(path: Path, content: bytes, *, mends: bool = False) -> None:
    """Write it behind what is there. A disk that has no room for all of it is told, and gets none; `mends` ends a last
    row that was torn."""
    with path.open("a+b", buffering=0) as file:
        if mends:
            _mend(file.fileno(), path)
        before, left = os.fstat(file.fileno()).st_size, memoryview(content)
        try:
            # One write, as long as there is room: a process that dies in it tears the last line at most.
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            os.ftruncate(file.fileno(), before)
            if is_full(error):
                raise disk_full(path, len(content)) from error
            raise


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows behind those that are there. What is no number (NaN, infinity) becomes null."""
    if lines := b"".join(encode(row) for row in rows):
        append(path, lines, mends=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row that was written whole; none where there is no file."""
    return [row for row, _ in _rows_and_lines(path)]


def drop_rows(path: Path, is_kept: Callable[[dict[str, Any]], bool]) -> int:
    """Take rows out of a file, and a torn last line with them; how many rows went."""
    if not path.exists():
        return 0
    found = list(_rows_and_lines(path))
    kept = [line for row, line in found if is_kept(row)]
    replace(path, b"".join(kept))
    return len(found) - len(kept)


def replace(path: Path, content: bytes) -> None:
    """Give the file this content at once."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if is_full(error):
            raise disk_full(path, len(content)) from error
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode(row: Row) -> bytes:
    """One line of JSON."""
    return json.dumps(_plain(row), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    """The value as JSON has it: numpy's numbers and arrays as Python's, tuples as lists, what is no number as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _rows_and_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    # What stands behind the last newline was torn, or it is nothing.
    for number, line in enumerate(lines, start=1):
        row = _parsed(line)
        if row is not None:
            yield row, line + b"\n"
        elif number < len(lines):
            raise DamagedRecord(
                f"{path}, line {number}: not a row of JSON: {line[:60].decode(errors='replace')!r}. Only a last line "
                "may be torn, so something else has changed the file; take the line out or restore the file"
            )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _mend(descriptor: int, path: Path) -> None:
    """See to it that the next row begins on a line of its own."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if _parsed(torn) is not None:
        # Nothing but the newline is missing, since no part of a JSON object is one.
        os.write(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, len(whole) + 1 if whole else 0)
