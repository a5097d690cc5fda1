"""Perspective views cut out of an equirectangular panorama, and the 2×2 tile of them that an agent sees.

    street_views/<id>.jpg ─▶ load_panorama ─▶ cut_view(heading, rotation)  one square view
                                          └─▶ four_views(preset)           front, right / back, left

Which column lies at which compass heading. The original renderer looks with the yaw `(heading - 180) mod 360
+ rotation`, where yaw 0 is the middle column and a larger yaw is further right. So, in degrees of panorama,

    column = (width / 2) + width · yaw / 360  =  width · (heading + rotation) / 360     (modulo the width)

The leftmost edge therefore shows the heading `-rotation`. `column_at_heading` is the only place that says so;
the cutter below and the painter in `_city/panorama.py` use it. Columns are continuous: pixel i covers [i, i + 1).
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from envs._routes.faults import broken
from envs._routes.pictures import read_picture

FloatArray = NDArray[np.float32]
Preset = Literal["corrected", "paper"]

VIEW_OFFSETS: dict[Preset, tuple[float, float, float, float]] = {
    "corrected": (0.0, 90.0, 180.0, 270.0),
    "paper": (-135.0, -45.0, 45.0, 135.0),
}
"""Degrees from the agent's heading to the centre of each tile, in reading order. `corrected` is front, right,
back, left, as prompts say. `paper` is as the original was: its views look between those directions."""

PAPER_SIDE = 2405
PAPER_LINE_WIDTH = 5
"""The original tile: four views of 1200 pixels and black lines of 5 between them."""

NUM_CACHED_PANORAMAS = 16
NUM_CACHED_GRIDS = 16


def column_at_heading(heading: float, *, rotation: float, width: int) -> float:
    """Where along the width (0 ≤ column < width) a panorama with this `rotation` shows a compass heading."""
    # The remainder twice: of a tiny negative angle the first is 360 itself.
    return (heading + rotation) % 360.0 / 360.0 * width % width


def load_panorama(path: Path) -> Image.Image:
    """The decoded picture. The last few are kept until their files change, so treat it as read-only."""
    try:
        status = path.stat()
    except OSError as error:
        rule = f"cannot be read as a picture ({error.strerror})"
        raise broken(path, rule, "copy or make it again") from error
    return _decoded(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=NUM_CACHED_PANORAMAS)
def _decoded(path: Path, _stamp: tuple[int, int]) -> Image.Image:
    # The stamp is not needed to read the file: with it, a changed file is another entry of the cache.
    return read_picture(path)


def cut_view(
    panorama: Image.Image,
    *,
    heading: float,
    rotation: float,
    field_of_view: float = 90.0,
    pitch: float = 0.0,
    size: int,
) -> Image.Image:
    """A square perspective view whose centre is the compass `heading`; a positive `pitch` looks up."""
    pixels = _pixels_at_view_resolution(panorama, field_of_view=field_of_view, size=size)
    return Image.fromarray(_sample(pixels, heading + rotation, field_of_view=field_of_view, pitch=pitch, size=size))


def four_views(
    panorama: Image.Image, *, heading: float, rotation: float, size: int, preset: Preset = "corrected"
) -> Image.Image:
    """The 2×2 tile (`size` pixels a side) around an agent that travels along `heading`."""
    line_width = max(1, round(PAPER_LINE_WIDTH * size / PAPER_SIDE))
    line_width += (size - line_width) % 2  # the two views of a row must be equally wide
    view_size = (size - line_width) // 2
    pixels = _pixels_at_view_resolution(panorama, field_of_view=90.0, size=view_size)
    tile = np.zeros((size, size, 3), dtype=np.uint8)
    for index, offset in enumerate(VIEW_OFFSETS[preset]):
        top, left = (line * (view_size + line_width) for line in divmod(index, 2))
        view = _sample(pixels, heading + offset + rotation, field_of_view=90.0, pitch=0.0, size=view_size)
        tile[top : top + view_size, left : left + view_size] = view
    return Image.fromarray(tile)


def _pixels_at_view_resolution(panorama: Image.Image, *, field_of_view: float, size: int) -> NDArray[np.uint8]:
    """The panorama's pixels; shrunk first where they are finer than the view's, which would skip some."""
    focal_length = size / 2 / math.tan(math.radians(field_of_view) / 2)
    shrink = int(panorama.width / (2 * math.pi) / focal_length)
    if shrink > 1:
        smaller = (panorama.width // shrink, max(1, panorama.height // shrink))
        panorama = panorama.resize(smaller, Image.Resampling.BOX)
    return np.asarray(panorama.convert("RGB"))


@lru_cache(maxsize=NUM_CACHED_GRIDS)
def _viewing_angles(field_of_view: float, pitch: float, size: int) -> tuple[FloatArray, FloatArray]:
    """For each pixel of a view: degrees to the right of its centre, and degrees above the horizon."""
    focal_length = size / 2 / math.tan(math.radians(field_of_view) / 2)
    offsets = np.arange(size) + 0.5 - size / 2
    right, down = np.meshgrid(offsets / focal_length, offsets / focal_length)
    sine, cosine = math.sin(math.radians(pitch)), math.cos(math.radians(pitch))
    # The camera looks along `ahead`; a pitch turns it about its own left-right axis, before the heading does.
    ahead = cosine + down * sine
    up = sine - down * cosine
    azimuth = np.degrees(np.arctan2(right, ahead))
    elevation = np.degrees(np.arctan2(up, np.hypot(right, ahead)))
    return azimuth.astype(np.float32), elevation.astype(np.float32)


def _sample(
    pixels: NDArray[np.uint8], centre: float, *, field_of_view: float, pitch: float, size: int
) -> NDArray[np.uint8]:
    """Bilinear look-up; the panorama goes on beyond its left and right edges, but not its top and bottom."""
    height, width, _ = pixels.shape
    azimuth, elevation = _viewing_angles(field_of_view, pitch, size)
    middle = column_at_heading(centre, rotation=0.0, width=width)
    columns = azimuth * np.float32(width / 360.0) + np.float32(middle - 0.5)
    rows = np.clip((90.0 - elevation) * np.float32(height / 180.0) - np.float32(0.5), 0, height - 1)
    left, top = np.floor(columns).astype(np.int32), np.floor(rows).astype(np.int32)
    right_share, lower_share = (columns - left)[..., None], (rows - top)[..., None]
    left, right = left % width, (left + 1) % width
    upper_row, lower_row = top * width, np.minimum(top + 1, height - 1) * width
    flat = pixels.reshape(-1, 3)
    upper = _between(flat, upper_row + left, upper_row + right, right_share)
    lower = _between(flat, lower_row + left, lower_row + right, right_share)
    return (upper + (lower - upper) * lower_share + np.float32(0.5)).astype(np.uint8)


def _between(
    flat: NDArray[np.uint8], first: NDArray[np.int32], second: NDArray[np.int32], share: FloatArray
) -> FloatArray:
    start = flat.take(first, axis=0).astype(np.float32)
    way = np.subtract(flat.take(second, axis=0), start, dtype=np.float32)
    return np.add(start, way * share, dtype=np.float32)
