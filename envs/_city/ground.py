"""The ground of a made-up city seen from above: pavement, kerbs, roads, dashed middle lines, zebra crossings.

    ground_map(scene, eye, reach, scale) ─▶ Image      north up, `eye` in the middle

What lies under houses is drawn as pavement; nobody sees it.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs._city.scene import Scene, Zebra
from envs._city.styles import Color, Look

MARKING_WIDTH, DASH_LENGTH, DASH_PERIOD = 0.3, 2.6, 6.0
MIN_DASH_DISTANCE = 16.0
"""From a crossing to the nearest dash, beyond the zebra."""
KERB_WIDTH, KERB_SHADE = 0.35, 0.78


class _Drawing:
    """Draws in metres around a point."""

    def __init__(self, eye: complex, reach: float, scale: float, color: Color) -> None:
        side = math.ceil(2 * reach / scale)
        self.image = Image.new("RGB", (side, side), color)
        self._draw = ImageDraw.Draw(self.image)
        self._eye, self._reach, self._scale = eye, reach, scale

    def _pixel(self, point: complex) -> tuple[float, float]:
        offset = point - self._eye
        return (self._reach + offset.real) / self._scale, (self._reach - offset.imag) / self._scale

    def line(self, start: complex, end: complex, width: float, color: Color) -> None:
        pixels = max(1, round(width / self._scale))
        self._draw.line((self._pixel(start), self._pixel(end)), fill=color, width=pixels)

    def disc(self, middle: complex, radius: float, color: Color) -> None:
        (right, down), pixels = self._pixel(middle), radius / self._scale
        self._draw.ellipse((right - pixels, down - pixels, right + pixels, down + pixels), fill=color)


def ground_map(scene: Scene, eye: complex, *, reach: float, scale: float) -> Image.Image:
    """The ground within `reach` metres to each side of a point, at `scale` metres a pixel."""
    look, markings = scene.look, scene.look.markings
    drawing = _Drawing(eye, reach, scale, look.pavement)
    # No corner of the map is further away than this.
    radius = reach * math.sqrt(2) + scene.half_width
    streets = scene.streets[_distances(eye, scene.streets) < radius].tolist()
    ends = {end for street in streets for end in street}
    red, green, blue = (round(channel * KERB_SHADE) for channel in look.pavement)
    half_road = look.road_half_width
    for half_width, color in ((half_road + KERB_WIDTH, (red, green, blue)), (half_road, look.road)):
        for start, end in streets:
            drawing.line(start, end, 2 * half_width, color)
        for end in ends:
            drawing.disc(end, half_width, color)
    if markings.dashes:
        for start, end in streets:
            _draw_dashes(drawing, start, end, markings.color)
    # Bars narrower than a pixel would only flicker.
    if markings.stripe >= scale:
        for zebra in scene.zebras:
            if abs(zebra.middle - eye) < radius:
                _draw_zebra(drawing, zebra, look)
    return drawing.image


def _draw_dashes(drawing: _Drawing, start: complex, end: complex, color: Color) -> None:
    along = (end - start) / abs(end - start)
    distance = MIN_DASH_DISTANCE
    while distance < abs(end - start) - MIN_DASH_DISTANCE:
        begin = start + along * distance
        drawing.line(begin, begin + along * DASH_LENGTH, MARKING_WIDTH, color)
        distance += DASH_PERIOD


def _draw_zebra(drawing: _Drawing, zebra: Zebra, look: Look) -> None:
    width, depth = look.markings.stripe, zebra.along * look.markings.depth / 2
    for stripe in range(int(look.road_half_width / width)):
        middle = zebra.middle + zebra.along * 1j * (2 * width * (stripe + 0.5) - look.road_half_width)
        drawing.line(middle - depth, middle + depth, width, look.markings.color)


def _distances(point: complex, streets: NDArray[np.complex128]) -> NDArray[np.float64]:
    starts, ways = streets[:, 0], streets[:, 1] - streets[:, 0]
    shares = np.clip(((point - starts) / ways).real, 0.0, 1.0)
    return np.abs(point - starts - ways * shares)
