"""The files in `street_views/`: which are there, how their pictures are turned, and their pixels.

    PictureFolder(folder).require(panoramas, route=3)   RouteDataError if one of them cannot be shown
    .rotations                                          {"xK3f": 211.4, …}, of all that were required
    read_picture(path)                                  the decoded JPEG, or RouteDataError

A picture from elsewhere is bytes of a stranger. Only JPEG is read, whatever the bytes claim to be (other formats
start other programs, or unpack without an end), and only of a size that a panorama has.
"""

import hashlib
from collections.abc import Iterable
from io import BytesIO
from os import scandir
from pathlib import Path
from typing import Final

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs._routes.faults import RouteDataError, broken, first_error, read_file

PICTURES_FOLDER: Final = "street_views"

MAX_PIXELS: Final = 8192 * 4096
MAX_PICTURE_BYTES: Final = 64 * 2**20
MAX_METADATA_BYTES: Final = 2**20
MAX_SCANS: Final = 100
"""Passes over the whole picture; an ordinary progressive JPEG has ten, and each of thousands would take as long."""
_START_OF_SCAN: Final = b"\xff\xda"


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    rotation: float = Field(ge=-1e6, le=1e6)


class PictureFolder:
    """The pictures of a data set."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PICTURES_FOLDER
        self.present = frozenset(name for name, _, _ in _plain_files(self._folder))
        self.rotations: dict[str, float] = {}
        """By panorama, how far its left edge is turned away from north; of those required."""

    def missing(self, panorama: str) -> list[str]:
        """Which of its files are not there."""
        return [name for name in (f"{panorama}.jpg", f"{panorama}.metadata.json") if name not in self.present]

    def require(self, panoramas: Iterable[str], *, route: int) -> None:
        """Reads how each is turned; raises RouteDataError where a place of the route cannot be shown."""
        for panorama in panoramas:
            if panorama in self.rotations:
                continue
            if not panorama:
                rule = f"route {route} passes a place whose panorama has no name"
                raise broken(self._folder, rule, "name it, or use modality: text")
            for name in self.missing(panorama):
                rule = f"route {route} passes this panorama, and the file is not there"
                raise broken(self._folder / name, rule, "add it, or use modality: text")
            _check_header(self._folder / f"{panorama}.jpg", route)
            self.rotations[panorama] = _rotation(self._folder / f"{panorama}.metadata.json", route)


def folder_stamp(folder: Path) -> str:
    """Changes when a picture or its metadata come, go or are written anew."""
    entries = sorted(_plain_files(folder / PICTURES_FOLDER))
    return hashlib.sha256(repr(entries).encode("utf-8", "surrogateescape")).hexdigest()


def read_picture(path: Path) -> Image.Image:
    """The whole picture in red, green and blue; raises RouteDataError for whatever is no ordinary JPEG."""
    data = read_file(path, max_bytes=MAX_PICTURE_BYTES)
    if data.count(_START_OF_SCAN) > MAX_SCANS:
        raise broken(path, f"is drawn in more than {MAX_SCANS} passes", "save the picture anew")
    try:
        with JpegImageFile(BytesIO(data)) as picture:
            _check_size(path, picture.size, None)
            return picture.convert("RGB")
    except RouteDataError:
        raise
    # Pillow raises whatever the bytes lead its decoder to; all of it means that they are no picture.
    except Exception as error:
        raise broken(path, f"cannot be read as a picture ({error})", "copy or make it again") from error


def _check_header(path: Path, route: int) -> None:
    """Refuses what is no JPEG or too large, without the time to decode it."""
    try:
        with JpegImageFile(path) as picture:
            size = picture.size
    except Exception as error:
        rule = f"cannot be read as a picture ({error})"
        raise broken(path, rule, "copy or make it again as JPEG, or use modality: text", route=route) from error
    _check_size(path, size, route)


def _check_size(path: Path, size: tuple[int, int], route: int | None) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        rule = f"a picture may have {MAX_PIXELS} pixels, as one of 8192 × 4096 has"
        raise broken(path, rule, "shrink it", route=route, field="size", value=size)


def _rotation(path: Path, route: int) -> float:
    try:
        return _Metadata.model_validate_json(read_file(path, max_bytes=MAX_METADATA_BYTES, route=route)).rotation
    except ValidationError as error:
        raise broken(path, fix='write {"rotation": <degrees>}', route=route, **first_error(error)) from None


def _plain_files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, time of change and size of each; none where there is no such folder."""
    if not folder.is_dir():
        return []
    try:
        with scandir(folder) as entries:
            plain = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError as error:
        raise broken(folder, f"cannot be read ({error.strerror})", "make it readable") from error
    return [(name, status.st_mtime_ns, status.st_size) for name, status in plain]
