"""Checkpoints of a run: ranks write while the run goes on, what is whole gets its name, and room is made in time.

    saver.stand_on(iteration)   from which checkpoint the run goes on, which is never removed for room
    saver.begin(state)          all ranks copy what they are; the files are written while the next iteration goes on
    saver.settle(wait=…)        where all are written they become a checkpoint, and older ones go
    saver.forget()              the ranks that were writing are gone, and so is what they wrote
    saver.watch()               says when room runs short, before there is none

One checkpoint is written at a time; a run that dies meanwhile goes on from the one before.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.groups.actors import Actors
from cluster.record.disk import ADVICE, disk_full, free_bytes, in_bytes, is_full
from cluster.record.run_directory import RunDirectory

STATE_FILE = "run.json"
LEARNER_FOLDER = "learner"
SPARE = 2
"""Room for so many further checkpoints is what a run should have."""


class Saver:
    """Writes the checkpoints of one run."""

    def __init__(
        self, actors: Actors, directory: RunDirectory, *, keep: int, expected_bytes: int, say: Callable[[str], None]
    ) -> None:
        """`expected_bytes` is what the first one will take; the others take what the last one took."""
        self._actors, self._directory, self._keep, self._say = actors, directory, keep, say
        self._bytes = directory.checkpoint_bytes() or expected_bytes
        self._writing: Path | None = None
        self._state: Mapping[str, Any] = {}
        self._standing = 0
        self._told_at: int | None = None

    def has(self, iteration: int) -> bool:
        """Whether there is a checkpoint of it, or will be."""
        is_written = self._writing is not None and self._state["iteration"] == iteration
        return is_written or any(kept == iteration for kept, _ in self._directory.checkpoints())

    def stand_on(self, iteration: int, best: int | None) -> None:
        """The run has begun, or goes on, from this checkpoint; DiskFull where another cannot be written."""
        self._standing = iteration
        self._make_room(best)

    def begin(self, state: Mapping[str, Any]) -> None:
        """Have the ranks write what they are, beside the state of the run."""
        self.settle(wait=True)
        self._make_room(state["best"].get("iteration"))
        self._state = state
        self._writing = self._directory.checkpoint_partial(state["iteration"])
        with self._gone_when_it_fails():
            (self._writing / LEARNER_FOLDER).mkdir()
            (self._writing / STATE_FILE).write_text(json.dumps(state))
            self._actors.learner.save(self._writing / LEARNER_FOLDER)

    def settle(self, *, wait: bool) -> None:
        """Make a checkpoint of what was begun, if all of it is written; otherwise `wait` for it, or leave it."""
        if self._writing is None:
            return
        with self._gone_when_it_fails():
            written = self._actors.learner.written(wait=wait)
            if written is None:
                return
            if fault := next((each.fault for each in written if each.fault), None):
                raise fault
            files = {path: file for each in written for path, file in each.files.items()}
            self._directory.commit_checkpoint(self._writing, self._state["iteration"], files)
        self._writing = None
        self._standing, self._bytes = self._state["iteration"], self._directory.checkpoint_bytes()
        self._directory.prune(self._keep, self._state["best"].get("iteration"))

    def forget(self) -> None:
        """Nothing comes of what was begun."""
        if self._writing is not None:
            shutil.rmtree(self._writing, ignore_errors=True)
            self._writing = None

    def watch(self) -> None:
        """Say how much room there is where that is little, and again where it is half of that."""
        folder = self._directory.checkpoints_folder
        free = free_bytes(folder)
        if free >= SPARE * self._bytes:
            self._told_at = None
        elif self._told_at is None or free < self._told_at / 2:
            self._told_at = free
            taken = in_bytes(self._bytes)
            self._say(f"{folder}: only {in_bytes(free)} are free, and a checkpoint takes {taken}. {ADVICE}")

    def _make_room(self, best: int | None) -> None:
        if gone := self._directory.make_room(self._bytes, standing=self._standing, best=best):
            numbers = ", ".join(map(str, gone))
            self._say(f"{self._directory.checkpoints_folder}: the checkpoints {numbers} have made room for another")

    @contextmanager
    def _gone_when_it_fails(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.forget()
            if is_full(error):
                raise disk_full(self._directory.checkpoints_folder, self._bytes) from error
            raise
