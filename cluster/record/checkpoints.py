"""Checkpoints that are whole or not there.

    begin(iteration)  ─▶ 000012.partial/  ─ the learner writes ─▶  commit()  ─▶  000012/ with manifest.json

The manifest holds the size and the SHA-256 of every file and of itself; it is the last thing written before the
folder gets its name. So a folder without one, or whose files have other sizes, is no checkpoint, and one whose bytes
have changed since is found out before it is loaded.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.errors import RunError
from cluster.record.disk import disk_full, free_bytes
from cluster.record.files import replace, sync_folder
from learner.checkpoint_files import WrittenFile, digests

Digests = Callable[[Sequence[Path]], Sequence[str]]
"""Who reads files and says their SHA-256."""
MANIFEST = "manifest.json"
_NAME = re.compile(r"\d{6,}")


class DamagedCheckpoint(RunError):
    """A checkpoint does not hold what was saved; the message names the file."""


class Checkpoints:
    """The checkpoints in a folder, by iteration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, iteration: int) -> Path:
        """An empty folder to write a checkpoint into; whatever an earlier attempt left there is gone."""
        if iteration < 0:
            raise ValueError(f"a checkpoint of iteration {iteration}; iterations count from 0")
        partial = self.folder / f"{iteration:06d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def commit(self, partial: Path, iteration: int, written: Mapping[Path, WrittenFile] | None = None) -> Path:
        """Make it a checkpoint, in place of any other of this iteration; where it is now. `written` are the files that
        are on the disk already, by those who wrote them."""
        final = self.folder / f"{iteration:06d}"
        _seal(partial, written or {})
        replaced = self._unname(final) if final.exists() else None
        partial.rename(final)
        sync_folder(self.folder)
        if replaced:
            shutil.rmtree(replaced)
        return final

    def whole(self) -> list[tuple[int, Path]]:
        """Those whose files are all there with the sizes that they were saved with, the oldest first."""
        return [(int(path.name), path) for path in self._named() if _first_fault(path) is None]

    def newest(self, read: Digests = digests) -> Path | None:
        """The newest one whose every byte is as it was saved; None where there is none."""
        intact = (path for _, path in reversed(self.whole()) if _first_fault(path, read) is None)
        return next(intact, None)

    def newest_bytes(self) -> int:
        """What the newest takes on the disk; 0 where there is none."""
        paths = [path for _, path in self.whole()[-1:]]
        return sum(file.stat().st_size for path in paths for file in path.rglob("*") if file.is_file())

    def make_room(self, needed: int, *, standing: int, best: int | None = None) -> list[int]:
        """See to it that so many bytes are free, if it takes all checkpoints older than that of iteration `standing`,
        which the run would go on from, but `best`: which are gone; DiskFull where that is too little. Not while one is
        written."""
        gone = []
        if free_bytes(self.folder) < needed:
            self._sweep()
            gone = self._remove_older(standing, best)
        if free_bytes(self.folder) < needed:
            raise disk_full(self.folder, needed)
        return gone

    def prune(self, keep: int, best: int | None = None) -> list[int]:
        """Remove all but the newest `keep` and that of iteration `best`; which are gone. Not while one is written."""
        if keep < 1:
            raise ValueError(f"prune to {keep} checkpoints; a run that can be resumed needs at least 1")
        self._sweep()
        whole = self.whole()
        # A damaged one goes only when enough whole ones are newer: it may look damaged for a moment on a shared disk.
        return self._remove_older(whole[-keep][0], best) if len(whole) > keep else []

    def _remove_older(self, iteration: int, best: int | None) -> list[int]:
        gone = [path for path in self._named() if int(path.name) < iteration and int(path.name) != best]
        for path in gone:
            shutil.rmtree(self._unname(path))
        return [int(path.name) for path in gone]

    def _sweep(self) -> None:
        """Remove what was begun and never ended."""
        for left_over in (*self.folder.glob("*.partial"), *self.folder.glob("*.removed")):
            shutil.rmtree(left_over)

    def _named(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name))

    def _unname(self, path: Path) -> Path:
        """Take its name from a checkpoint that is to be removed, so that what is left of one halfway is none."""
        removed = path.with_name(f"{path.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        return path.rename(removed)


def verify_checkpoint(path: Path) -> None:
    """Raise DamagedCheckpoint unless every byte of a checkpoint is as it was saved."""
    if fault := _first_fault(path, digests):
        raise DamagedCheckpoint(f"{path}: {fault}; use another checkpoint of the run, or start from an older one")


def _seal(partial: Path, written: Mapping[Path, WrittenFile]) -> None:
    """Write the manifest, and wait until everything is on the disk."""
    files = [path for path in sorted(partial.rglob("*")) if not path.is_dir() or path.is_symlink()]
    if links := [path for path in files if path.is_symlink()]:
        raise RunError(f"{links[0]}: a checkpoint holds its files itself, but this is a link; copy what it points to")
    for path, entry in written.items():
        if not path.is_file() or path.stat().st_size != entry.size:
            raise RunError(
                f"{path}: a learner rank wrote {entry.size} bytes that are not here; set cluster.folder to a folder "
                "that all hosts see"
            )
    others = [path for path in files if path not in written]
    for path in others:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    read = [
        WrittenFile(size=path.stat().st_size, sha256=digest)
        for path, digest in zip(others, digests(others), strict=True)
    ]
    entries = {**written, **dict(zip(others, read, strict=True))}
    for folder in (path for path in partial.rglob("*") if path.is_dir()):
        sync_folder(folder)
    content = {path.relative_to(partial).as_posix(): asdict(entry) for path, entry in entries.items()}
    replace(partial / MANIFEST, _manifest(content))


def _manifest(files: Mapping[str, Any]) -> bytes:
    """The one way to write a manifest of these files, so that any other byte in it is a fault."""
    text = json.dumps(files, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"manifest_sha256": "{digest}",\n"files": {text}}}\n'.encode()


def _first_fault(path: Path, read: Digests | None = None) -> str | None:
    """What is wrong with a checkpoint, with its content too where somebody reads it; None where nothing is."""
    try:
        written = (path / MANIFEST).read_bytes()
    except OSError:
        return f"there is no readable {MANIFEST}"
    try:
        files = json.loads(written)["files"]
    except (ValueError, TypeError, KeyError):
        return f"{MANIFEST} is torn or changed"
    if written != _manifest(files):
        return f"{MANIFEST} is torn or changed"
    for name, entry in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if (size := file.stat().st_size) != entry["size"]:
            return f"{name} has {size} bytes instead of {entry['size']}"
    if read is None:
        return None
    found = zip(files, read([path / name for name in files]), strict=True)
    changed = (name for name, digest in found if digest != files[name]["sha256"])
    return next((f"{name} has other content than was saved" for name in changed), None)
