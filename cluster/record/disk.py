"""Room on a disk: how much is left, what is said when there is none, and how to take it away.

free_bytes(path)             what can still be written there
with told_when_full(): …     a disk that is full inside is told as DiskFull
fill(folder, leave_bytes)    takes the rest, to try what happens then
of_its_own(folder, size)     what to write before a command, for which the folder is a small disk of its own
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import RunError

ADVICE = (
    "Less is written with a lower cluster.keep_checkpoints or a higher cluster.transcripts_every; cluster.folder puts "
    "new runs on another disk"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BALLAST = "ballast"


class DiskFull(RunError):
    """Something could not be written; the message says where, how much room there is, and what to do."""


def free_bytes(path: Path) -> int:
    """What this user may still write on the disk that holds the path, or will hold it once it is made."""
    disk = os.statvfs(next(each for each in (path, *path.absolute().parents) if each.exists()))
    return disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)


def disk_full(path: Path, needed: int | None = None) -> DiskFull:
    """What to say of a path that there is no room for; `needed` bytes are wanted, where that is known."""
    wanted = f"{in_bytes(needed)} are needed and " if needed else ""
    return DiskFull(
        f"{path}: the disk is full: {wanted}{in_bytes(free_bytes(path))} are free; make room there and start again, a "
        f"run with --resume. {ADVICE}"
    )


def is_full(error: BaseException) -> bool:
    """Whether an error is one of a full disk or a used-up quota; libraries have their own, with the system's words."""
    error = _cause(error)
    if isinstance(error, RunError):
        return isinstance(error, DiskFull)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(os.strerror(number) in str(error) for number in _FULL)


@contextmanager
def told_when_full(path: Path | None = None) -> Iterator[None]:
    """Raise DiskFull where the disk is full inside, in a Ray task too; `path` is told where the error names none."""
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if not is_full(cause):
            raise
        if isinstance(cause, DiskFull):
            raise cause from None
        named = getattr(cause, "filename", None)
        raise disk_full(Path(named) if named else path or Path.cwd()) from error


def _cause(error: BaseException) -> BaseException:
    """What was raised, where a Ray task has put its traceback around it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def fill(folder: Path, leave_bytes: int) -> Path:
    """Take all room of the folder's disk but so much; the file that takes it, to be removed again."""
    ballast = folder / _BALLAST
    with ballast.open("wb") as file:
        # The blocks that are left are whole ones.
        left = leave_bytes - leave_bytes % os.fstatvfs(file.fileno()).f_frsize
        while (taken := free_bytes(folder) - left) > 0:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, taken)
            except OSError as error:
                # Somebody else, who still writes, has taken a part of it: then there is less to take.
                if not is_full(error):
                    raise
    return ballast


def of_its_own(folder: Path, size: int) -> list[str]:
    """A file system in memory, mounted where that command and its children alone see it; where this user may not do
    that, the command is not run and the status is another than 0."""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    return [*unshare, "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"', str(folder)]


def in_bytes(count: int) -> str:
    """As people say it.

    >>> in_bytes(300), in_bytes(2_500_000), in_bytes(120_000_000_000)
    ('0.3 kB', '2.5 MB', '120.0 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
