"""Files of demonstrations: JSON lines, with the pictures as PNG files beside them.

    demos.jsonl               {"format": "ruleshift demonstrations 1", "number": 1000, "sha256": …, "config": …}
                              {"env": "general_points", "split": "train", "seed": 0, "turns": […], …}
                              …
    demos.jsonl.pictures/     <digest>.png

The first line says where the others are from and what their SHA-256 is, so that an edit does not go unnoticed. A file
appears when it is whole: it is written beside its place and then renamed.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from learner.demonstrations.demonstration import Demonstration, DemonstrationError

CONTENT = "content"
"""The name of a file while it is written."""

_LINE = TypeAdapter(Demonstration)
_VERSIONED = ("ruleshift", "pydantic", "pillow")
_AGAIN = "write the file again with `ruleshift data`"


class DemonstrationFileError(DemonstrationError):
    """A file of demonstrations cannot be used; the message names the line, what is wrong with it and the fix."""


class Header(BaseModel):
    """The first line: where the demonstrations are from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal["ruleshift demonstrations 1"] = "ruleshift demonstrations 1"
    """What this file is."""
    number: int
    """How many lines follow."""
    kind: str
    """The kinds of the demonstrations, the most frequent first."""
    sha256: str
    """Of all that follows the first line."""
    config: dict[str, Any]
    """The options under which they were made."""
    versions: dict[str, str]
    """What made them."""


def pictures_folder(file: Path) -> Path:
    """Where a file's pictures are."""
    return file.with_name(f"{file.name}.pictures")


@contextmanager
def staged(file: Path) -> Iterator[Path]:
    """A folder in which CONTENT and `pictures/` are written; at the end they take their places, or, after an error,
    nothing has happened."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as name:
        folder, kept = Path(name), pictures_folder(file)
        new = folder / "pictures"
        new.mkdir()
        yield folder
        digests = {picture.name for picture in new.iterdir()}
        if digests:
            kept.mkdir(exist_ok=True)
        for digest in digests:
            os.replace(new / digest, kept / digest)
        os.replace(folder / CONTENT, file)
        for picture in kept.glob("*.png"):
            # Of the file that stood here before.
            if picture.name not in digests:
                picture.unlink()


def stage_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write those that are not there yet."""
    for digest, content in pictures.items():
        path = folder / "pictures" / f"{digest}.png"
        if not path.exists():
            path.write_bytes(content)


def write_demonstrations(path: Path, demonstrations: Iterable[Demonstration], config: Mapping[str, Any]) -> Header:
    """Write them all, in order; `config` is what they were made under."""
    digest, kinds = hashlib.sha256(), dict[str, int]()
    with staged(path) as folder:
        lines = folder / "lines"
        with lines.open("wb") as stream:
            for demonstration in demonstrations:
                line = _LINE.dump_json(demonstration, exclude={"pictures"}) + b"\n"
                digest.update(line)
                stream.write(line)
                stage_pictures(folder, demonstration.pictures)
                kind = demonstration.provenance.kind
                kinds[kind] = kinds.get(kind, 0) + 1
        header = Header(
            number=sum(kinds.values()),
            kind=", ".join(sorted(kinds, key=lambda kind: -kinds[kind])),
            sha256=digest.hexdigest(),
            config=dict(config),
            versions=_versions(),
        )
        with (folder / CONTENT).open("wb") as whole, lines.open("rb") as stream:
            whole.write(header.model_dump_json().encode() + b"\n")
            shutil.copyfileobj(stream, whole)
    return header


def read_header(path: Path) -> Header:
    """Where a file's demonstrations are from."""
    if not path.is_file():
        raise DemonstrationFileError(f"{path}: no such file; write it with `ruleshift data CONFIG {path}`")
    with path.open("rb") as stream:
        line = stream.readline()
    try:
        return Header.model_validate_json(line)
    except ValidationError as error:
        raise DemonstrationFileError(
            f"{path}, line 1: is no header of demonstrations ({_first(error)}); {_AGAIN}, or import a file of another "
            "format with --from-llava"
        ) from None


def read_demonstrations(path: Path) -> Iterator[Demonstration]:
    """One after another; that the file is whole and unchanged shows behind the last."""
    header = read_header(path)
    digest, num_read = hashlib.sha256(), 0
    with path.open("rb") as stream:
        stream.readline()
        for number, line in enumerate(stream, start=2):
            yield _demonstration(path, number, line)
            digest.update(line)
            num_read += 1
    if num_read != header.number:
        raise DemonstrationFileError(
            f"{path}: holds {num_read} demonstrations where line 1 announces {header.number}; {_AGAIN}"
        )
    if digest.hexdigest() != header.sha256:
        raise DemonstrationFileError(
            f"{path}: was changed since it was written: its SHA-256 is not the one in line 1; {_AGAIN}"
        )


def _demonstration(path: Path, number: int, line: bytes) -> Demonstration:
    try:
        demonstration = _LINE.validate_json(line)
    except ValidationError as error:
        raise DemonstrationFileError(f"{path}, line {number}: {_first(error)}; {_AGAIN}") from None
    digests = dict.fromkeys(digest for turn in demonstration.turns for digest in turn.images)
    return replace(demonstration, pictures={digest: _picture(path, number, digest) for digest in digests})


def _picture(path: Path, number: int, digest: str) -> bytes:
    file = pictures_folder(path) / f"{digest}.png"
    fault = "is not there"
    if file.is_file():
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == digest:
            return content
        fault = "is damaged"
    raise DemonstrationFileError(
        f"{path}, line {number}: its picture {file} {fault}; copy the folder {pictures_folder(path).name} together "
        f"with the file, or {_AGAIN}"
    )


def _first(error: ValidationError) -> str:
    """The first fault, with the place where it is."""
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else fault["msg"]


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
