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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.errors import RunError
from cluster.record.files import replace, sync_folder

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

    def commit(self, partial: Path, iteration: int) -> Path:
        """Make it a checkpoint, in place of any other of this iteration; where it is now."""
        final = self.folder / f"{iteration:06d}"
        _seal(partial)
        replaced = self._unname(final) if final.exists() else None
        partial.rename(final)
        sync_folder(self.folder)
        if replaced:
            shutil.rmtree(replaced)
        return final

    def whole(self) -> list[tuple[int, Path]]:
        """Those whose files are all there with the sizes that they were saved with, the oldest first."""
        return [(int(path.name), path) for path in self._named() if _first_fault(path, with_content=False) is None]

    def newest(self) -> Path | None:
        """The newest one whose every byte is as it was saved; None where there is none."""
        intact = (path for _, path in reversed(self.whole()) if _first_fault(path, with_content=True) is None)
        return next(intact, None)

    def prune(self, keep: int, best: int | None = None) -> list[int]:
        """Remove all but the newest `keep` and that of iteration `best`; which are gone. Not while one is written."""
        if keep < 1:
            raise ValueError(f"prune to {keep} checkpoints; a run that can be resumed needs at least 1")
        for left_over in (*self.folder.glob("*.partial"), *self.folder.glob("*.removed")):
            shutil.rmtree(left_over)
        whole = self.whole()
        if len(whole) <= keep:
            return []
        # A damaged one goes only when enough whole ones are newer: it may look damaged for a moment on a shared disk.
        oldest_kept = whole[-keep][0]
        gone = [path for path in self._named() if int(path.name) < oldest_kept and int(path.name) != best]
        for path in gone:
            shutil.rmtree(self._unname(path))
        return [int(path.name) for path in gone]

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
    if fault := _first_fault(path, with_content=True):
        raise DamagedCheckpoint(f"{path}: {fault}; use another checkpoint of the run, or start from an older one")


def _seal(partial: Path) -> None:
    """Write the manifest, and wait until everything is on the disk."""
    files = [path for path in sorted(partial.rglob("*")) if not path.is_dir() or path.is_symlink()]
    if links := [path for path in files if path.is_symlink()]:
        raise RunError(f"{links[0]}: a checkpoint holds its files itself, but this is a link; copy what it points to")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        entries = pool.map(_entry, files)
        content = {path.relative_to(partial).as_posix(): entry for path, entry in zip(files, entries, strict=True)}
    for folder in (path for path in partial.rglob("*") if path.is_dir()):
        sync_folder(folder)
    replace(partial / MANIFEST, _manifest(content))


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(files: Mapping[str, Any]) -> bytes:
    """The one way to write a manifest of these files, so that any other byte in it is a fault."""
    text = json.dumps(files, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"manifest_sha256": "{digest}",\n"files": {text}}}\n'.encode()


def _first_fault(path: Path, *, with_content: bool) -> str | None:
    """What is wrong with a checkpoint; None where nothing is."""
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
    if not with_content:
        return None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(_digest, [path / name for name in files])
        changed = [name for name, digest in zip(files, digests, strict=True) if digest != files[name]["sha256"]]
    return f"{changed[0]} has other content than was saved" if changed else None
