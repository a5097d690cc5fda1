"""`ruleshift` commands in processes of their own, and what they must not leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from rollout.weight_files import FILE_PREFIX
from tests.support.small_disk import SmallDisk

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 420
PROGRAM = ("-m", "study.cli")
TELLING = ("-m", "tests.support.telling")
"""The same, which says when a phase begins (tests/support/telling.py)."""


class Run:
    """A `ruleshift rl`, or another command, in a process of its own, and the folder of its run; on a disk of its own,
    where there is one."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        kind: str = "rl",
        program: Sequence[str] = PROGRAM,
        stop_in: str = "",
        disk: SmallDisk | None = None,
    ) -> None:
        """`program` is what is run; `stop_in` is where it stops itself and its group, see `TELLING`."""
        self._processes: set[psutil.Process] = set()
        self._killed: set[int] = set()
        self._log = folder / f"log_{time.monotonic_ns()}.txt"
        runs = disk.path if disk else folder
        command = [sys.executable, *program, kind, *words, f"cluster.folder={runs}"]
        command = disk.inside(command, ROOT) if disk else command
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment |= {"STOP_IN": stop_in} if stop_in else {}
        with self._log.open("w") as log:
            options: dict[str, Any] = {"cwd": ROOT, "env": environment, "start_new_session": bool(stop_in)}
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options)

    def said(self) -> str:
        return self._log.read_text()

    def until(self, words: str, times: int = 1, log: Path | None = None) -> None:
        """Wait until it says so, and so often; or says so in a log of its own."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        log = log or self._log
        while not log.is_file() or log.read_text().count(words) < times:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            self._note_processes()
            time.sleep(0.05)

    def _note_processes(self) -> None:
        try:
            self._processes |= set(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return

    def kill(self, kind: str) -> None:
        """End one of its actors' processes, which gets no word in."""
        [found] = actors(self.process.pid, kind)
        self._killed.add(found.pid)
        found.send_signal(signal.SIGKILL)

    def stopped(self, send: Callable[[], None]) -> float:
        """Ask it to stop; the seconds until nothing of it is left."""
        asked = time.monotonic()
        send()
        self.ended(0.05)
        return time.monotonic() - asked

    def ended(self, seconds_between_looks: float = 0.5) -> str:
        """Wait for its end; everything it said."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said()
            self._note_processes()
            time.sleep(seconds_between_looks)
        _, alive = psutil.wait_procs(self._processes, timeout=20)
        assert not alive, f"outlived the run: {alive}"
        assert not shared_files({process.pid for process in self._processes} - self._killed)
        return self.said()

    def result(self) -> Path:
        """The folder of a run that ended well."""
        said = self.ended()
        assert self.process.returncode == 0, said
        return Path(said.strip().splitlines()[-1])


def actors(process_id: int, kind: str) -> list[psutil.Process]:
    """The processes of Ray's actors of a class that were started somewhere below a process."""
    children = psutil.Process(process_id).children(recursive=True)
    return [child for child in children if _command(child).startswith(f"ray::{kind}")]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def shared_files(process_ids: set[int]) -> list[str]:
    """Weights of these processes that were left in shared memory."""
    found = [path.name for path in Path("/dev/shm").glob(f"{FILE_PREFIX}*")]
    return [name for name in found if int(name.removeprefix(FILE_PREFIX).partition("-")[0]) in process_ids]


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{table}.jsonl").read_text().splitlines()]
