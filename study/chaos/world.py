"""A run on two hosts of Ray's that are processes of this machine, so that either can be lost.

with World(words, folder) as world:
    world.start()            the run, or what is left of it, from its newest checkpoint
    world.phase              what it is at
    world.workers, .engines, .ranks, .driver     processes that can be struck
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from ray.cluster_utils import Cluster

from rollout.weight_files import FILE_PREFIX
from study.chaos.hooks import ADDRESS, FOLDER

NAME = "chaos"
LAYOUT = (
    "cluster.num_nodes=2",
    "cluster.num_rollout_workers=2",
    "learner.num_ranks=2",
    "cluster.max_worker_restarts=1000",
    "cluster.max_learner_restarts=1000",
    "cluster.start_timeout_seconds=300",
    "cluster.dashboard=false",
)
"""Two engines and two ranks; how often they may be replaced is not what is tried."""
ENDED_BY_ERROR = 2
CORES = 2
"""Of each host, whatever the machine has: they share them."""


class World:
    """Two hosts, and one run."""

    def __init__(
        self, words: Sequence[str], folder: Path, layout: Sequence[str] = LAYOUT, disk: Path | None = None
    ) -> None:
        """`words` are files and `key=value` as of `ruleshift rl`; `disk` is where the run is kept, if elsewhere than
        what is said of it."""
        folder.mkdir(parents=True)
        self.folder, self.disk = folder, disk or folder
        self.run = self.disk / NAME
        self.had_full_disk = False
        """Whether there was no room at some time since the run was started last."""
        self._started_at = 0
        self._words = [*words, *layout, f"cluster.folder={self.disk}", f"cluster.name={NAME}"]
        self.log = folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the hosts."""
        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": CORES, "include_dashboard": False, "dashboard_port": 0}
        )
        self._second: Any = self._cluster.add_node(num_cpus=CORES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        if self.is_running:
            self.driver.kill()
        self._cluster.shutdown()
        for process in self._all():
            with suppress(psutil.Error):
                process.kill()

    def start(self) -> None:
        """Begin the run, or go on with it."""
        command = [sys.executable, "-m", "study.chaos.hooks", "rl", *self._words, "--resume", "auto"]
        environment = {**os.environ, FOLDER: str(self.folder), ADDRESS: self._cluster.address}
        self.had_full_disk, self._started_at = False, self.log.stat().st_size if self.log.is_file() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    @property
    def is_running(self) -> bool:
        """Whether the driver has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """With what the driver has ended."""
        return self._process.poll() if self._process else None

    @property
    def ended_by_a_full_disk(self) -> bool:
        """Whether it has told that it could not write, and there really was no room."""
        said = self.log.read_bytes()[self._started_at :] if self.had_full_disk else b""
        return self.status == ENDED_BY_ERROR and b"the disk is full" in said

    def wait(self, seconds: float) -> int | None:
        """For the driver's end, so long at most."""
        ends = time.monotonic() + seconds
        while self.is_running and time.monotonic() < ends:
            time.sleep(0.05)
        return self.status

    @property
    def phase(self) -> str:
        """What the run is at."""
        try:
            return (self.folder / "phase").read_text()
        except FileNotFoundError:
            return ""

    @property
    def driver(self) -> psutil.Process:
        """The process of the command."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def workers(self) -> list[psutil.Process]:
        """The actors that play."""
        return [process for process in self._all() if _title(process).startswith("ray::RolloutWorker")]

    def ranks(self) -> list[psutil.Process]:
        """The actors that learn."""
        return [process for process in self._all() if _title(process).startswith("ray::LearnerWorker")]

    def engines(self) -> list[psutil.Process]:
        """The processes that have the models of those that play."""
        return [process for process in self._all() if "EngineCore" in _title(process)]

    def lose_host(self) -> None:
        """The second host is gone, with all that was on it."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def regain_host(self) -> None:
        """It is there again."""
        self._second = self._cluster.add_node(num_cpus=CORES)

    def left_over(self) -> list[str]:
        """Processes of a run, and its files in memory, that are there although it has ended."""
        found = [*self.workers(), *self.ranks(), *self.engines()]
        files = [path.name for path in Path("/dev/shm").glob(f"{FILE_PREFIX}*")]
        return [f"{process.pid} {_title(process)}" for process in found] + files

    def _all(self) -> list[psutil.Process]:
        """Whatever Ray's workers and their children are of this world, also those that have lost their parents."""
        return [process for process in psutil.process_iter() if _environment(process).get(FOLDER) == str(self.folder)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
