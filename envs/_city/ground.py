"""The ground of a made-up city seen from above: pavement, kerbs, roads, dashed middle lines, zebra crossings.

    ground_map(scene, eye, reach, scale) ─▶ Image      north up, `eye` in the middle

What lies under houses is drawn as pavement; nobody sees it.
"""

import math

from PIL import Image, ImageDraw

from envs._city.scene import ZEBRA_DEPTH, Scene
from envs._city.styles import Color

MARKING: Color = (238, 238, 232)
MARKING_WIDTH, DASH_LENGTH, DASH_PERIOD = 0.3, 2.6, 6.0
MIN_DASH_DISTANCE = 16.0
"""From a crossing to the nearest dash, beyond the zebra."""
ZEBRA_STRIPE, ZEBRA_PERIOD = 0.65, 1.3
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
    drawing = _Drawing(eye, reach, scale, scene.look.pavement)
    # No corner of the map is further away than this.
    radius = reach * math.sqrt(2) + scene.half_width
    streets = [street for street in scene.streets if _distance(eye, *street) < radius]
    red, green, blue = (round(channel * KERB_SHADE) for channel in scene.look.pavement)
    half_road = scene.look.road_half_width
    for half_width, color in ((half_road + KERB_WIDTH, (red, green, blue)), (half_road, scene.look.road)):
        for start, end in streets:
            drawing.line(start, end, 2 * half_width, color)
            drawing.disc(start, half_width, color)
            drawing.disc(end, half_width, color)
    for start, end in streets:
        along = (end - start) / abs(end - start)
        distance = MIN_DASH_DISTANCE
        while distance < abs(end - start) - MIN_DASH_DISTANCE:
            begin = start + along * distance
            drawing.line(begin, begin + along * DASH_LENGTH, MARKING_WIDTH, MARKING)
            distance += DASH_PERIOD
    for zebra in scene.zebras:
        if abs(zebra.middle - eye) < radius:
            depth = zebra.along * ZEBRA_DEPTH / 2
            for stripe in range(int(2 * half_road / ZEBRA_PERIOD)):
                across = zebra.along * 1j * (ZEBRA_PERIOD * (stripe + 0.5) - half_road)
                middle = zebra.middle + across
                drawing.line(middle - depth, middle + depth, ZEBRA_STRIPE, MARKING)
    return drawing.image


def _distance(point: complex, start: complex, end: complex) -> float:
    way = end - start
    share = ((point - start) / way).real
    return abs(point - start - way * min(1.0, max(0.0, share)))
