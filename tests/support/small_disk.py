"""A small disk: a file system in memory, mounted where this process's children alone can see it.

with small_disk(2**20) as disk:
    disk.path                         how a process inside names its folder
    disk.seen                         how the test, outside, does
    disk.inside(command)              the command, to be run inside
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cluster.record.disk import of_its_own

IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class SmallDisk:
    """One that is mounted, as long as `keeper` lives."""

    path: Path
    keeper: int

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.keeper}/root{self.path}")

    def inside(self, command: Sequence[str], folder: Path) -> list[str]:
        """The command, to be started in that folder; it becomes the process that is started."""
        enter = [
            "nsenter",
            f"--target={self.keeper}",
            "--mount",
            *([] if IS_ROOT else ["--user", "--preserve-credentials"]),
        ]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]


@contextmanager
def small_disk(size: int) -> Iterator[SmallDisk]:
    """A disk of so many bytes; the test is skipped where this user may mount none, even in a namespace of its own."""
    with TemporaryDirectory() as folder:
        command = [*of_its_own(Path(folder), size), "sh", "-c", "echo mounted && exec sleep infinity"]
        keeper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert keeper.stdout is not None and keeper.stderr is not None
        try:
            if keeper.stdout.readline() != "mounted\n":
                pytest.skip(f"a small disk cannot be mounted here: {keeper.stderr.read().strip()}")
            yield SmallDisk(Path(folder), keeper.pid)
        finally:
            keeper.kill()
            keeper.communicate()
