"""The folder of a run: everything that it leaves behind.

    runs/<date>_<name>/
      config.yaml         the resolved configuration         metrics.jsonl       a row for each iteration
      log.txt             what was said on the way           evaluations.jsonl   a row for each suite and evaluation
      episodes/           transcripts and records            checkpoints/        see `cluster/record/checkpoints.py`
      images/             pictures, by digest                policy/             the last policy, for Transformers
      failures/           batches that broke                 exports/            earlier ones, where asked for
      ended.json          after which iteration it ended     lock                held by the process that has it open

JSONL is the truth, compute by both ledgers in every row; whatever else shows metrics is told the same rows.
`ruleshift report` adds report.html, figures/ and numbers.csv, `ruleshift plot` adds plots/.
"""

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

from cluster.errors import RunError
from cluster.record.checkpoints import Checkpoints, Digests
from cluster.record.files import append_rows, drop_rows, read_rows, replace
from learner.checkpoint_files import WrittenFile, digests

Table = Literal["metrics", "evaluations"]
"""The files of rows."""

POLICY_FOLDER = "policy"
ENDED = "ended.json"
_FOLDERS = ("episodes", "images", "checkpoints", "failures")


class RunDirectory:
    """One run's folder: `RunDirectory.create(Path("runs"), "nano")` is `runs/2026-03-01-143055_nano`."""

    def __init__(self, path: Path) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.log = path / "log.txt"
        self.episodes, self.images, self.checkpoints_folder, self.failures = map(path.joinpath, _FOLDERS)
        self._checkpoints = Checkpoints(self.checkpoints_folder)

    def export_of(self, iteration: int) -> Path:
        """Where the policy behind an iteration is, if it was exported."""
        return self.path / "exports" / f"iteration_{iteration:06d}"

    @classmethod
    def create(cls, folder: str | Path, name: str) -> Self:
        """A new folder, which no other run has, even one of this name that starts in the same second."""
        if not re.fullmatch(r"[\w.-]+", name):
            raise RunError(f"cluster.name={name!r}: a run's name is made of letters, digits, '.', '-' and '_'")
        stem = f"{datetime.now():%Y-%m-%d-%H%M%S}_{name}"
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = folder / (stem if number == 1 else f"{stem}_{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            return cls.at(path)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The folder of this path, made where it is missing."""
        for inner in _FOLDERS:
            (path / inner).mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that was created before."""
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{path}: there is no such run; name a folder that `ruleshift rl` or `sft` has made")
        run = cls(path)
        if not run.config.is_file():
            raise RunError(f"{path}: this is not the folder of a run, since it has no {run.config.name}")
        return cls.at(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else has it open while the block lasts. A lock of a process that is no more holds nothing."""
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise RunError(
                    f"{self.path}: another process has this run open ({file.read().strip()}); wait for its end, "
                    "stop it, or give this run another cluster.name"
                ) from None
            except OSError as error:
                # Some shared file systems are mounted without locks.
                print(
                    f"note: {file.name}: cannot be locked ({error.strerror}); see to it that nobody else opens the run",
                    file=sys.stderr,
                )
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
            file.flush()
            yield

    def end(self, iteration: int) -> None:
        """Note that the run has ended, behind this iteration."""
        replace(self.path / ENDED, json.dumps({"iteration": iteration}).encode())

    @property
    def ended_after(self) -> int | None:
        """Behind which iteration it ended; None where it has not, or has gone on since."""
        file = self.path / ENDED
        iteration = json.loads(file.read_text())["iteration"] if file.is_file() else None
        return iteration if all(newer <= (iteration or 0) for newer, _ in self.checkpoints()) else None

    @property
    def name(self) -> str:
        """What the run is called, its date included."""
        return self.path.name

    def write_config(self, text: str) -> None:
        """Keep the resolved configuration."""
        replace(self.config, text.encode())

    def append(self, table: Table, row: Mapping[str, Any]) -> None:
        """Write a row behind the others; it is there when this returns, and what is no number in it is null."""
        append_rows(self._file(table), [row])

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """The rows in the order of writing; a torn last one is left out, and other damage raises DamagedRecord."""
        return read_rows(self._file(table))

    def truncate_after(self, table: Table, key: str, value: float) -> int:
        """Forget the rows whose `key` is greater, before their iterations are made again; how many these were."""
        return drop_rows(self._file(table), lambda row: row.get(key) is None or row[key] <= value)

    def checkpoint_partial(self, iteration: int) -> Path:
        """An empty folder to write a checkpoint into."""
        return self._checkpoints.begin(iteration)

    def commit_checkpoint(
        self, partial: Path, iteration: int, written: Mapping[Path, WrittenFile] | None = None
    ) -> Path:
        """Make what was written a checkpoint, at once; where it is. Of `written` no file is read again."""
        return self._checkpoints.commit(partial, iteration, written)

    def checkpoint_bytes(self) -> int:
        """What the newest checkpoint takes on the disk; 0 where there is none."""
        return self._checkpoints.newest_bytes()

    def make_room(self, needed: int, *, standing: int, best: int | None = None) -> list[int]:
        """Remove checkpoints older than that of iteration `standing`, but not `best`, where fewer bytes are free than
        needed; which are gone. DiskFull where that is not enough."""
        return self._checkpoints.make_room(needed, standing=standing, best=best)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Iteration and folder of every checkpoint whose files are there in full size, the oldest first."""
        return self._checkpoints.whole()

    def newest_checkpoint(self, read: Digests = digests) -> Path | None:
        """The newest checkpoint whose every byte is as it was saved; None where there is none."""
        return self._checkpoints.newest(read)

    def prune(self, keep: int, best: int | None = None) -> list[int]:
        """Remove all checkpoints but the newest `keep` and that of iteration `best`; which are gone."""
        return self._checkpoints.prune(keep, best)

    def _file(self, table: Table) -> Path:
        if table not in get_args(Table):
            raise ValueError(f"a run has no table {table!r}; there are {', '.join(get_args(Table))}")
        return self.path / f"{table}.jsonl"
