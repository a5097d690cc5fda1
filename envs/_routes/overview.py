"""Draws all routes of a folder as one picture: a panel for each group of routes that are near each other.

    draw_overview(folder, Path("routes.png"))  →  the PNG

    folder ─▶ _ways     each route as a line, and whether it can be played
           ─▶ _groups   lines that lie near each other; a benchmark of nine cities has nine
           ─▶ _layout   a panel each, as square as it can be
           ─▶ _Panel    streets to scale, north at the top: lines, starts, destinations, a scale bar

Drawn at twice the size and then halved, which makes the lines smooth.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import ceil, cos, floor, log10, radians, sqrt
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from envs._routes.check import read_for_check
from envs._routes.compass import METRES_PER_DEGREE, Point
from envs._routes.dataset import LeftOut
from envs._routes.printable import printable

WIDTH: Final = 1200
HEADER: Final = 76
MARGIN: Final = 16
OVERSAMPLING: Final = 2
MAX_PANELS: Final = 36
GROUP_DEGREES: Final = 0.05
"""Routes in neighbouring squares of this size, some five kilometres, share a panel."""
MIN_SPAN_METRES: Final = 100.0

PAPER, CARD, INK, FAINT = (244, 241, 234), (255, 255, 255), (38, 42, 48), (128, 132, 138)
ROUTE, START, DESTINATION, LEFT_OUT = (31, 95, 158), (34, 139, 84), (24, 32, 44), (212, 84, 36)

_Pixel = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A route as a line: `_Way(points=((40.7412, -73.9896), …), left_out=False)`."""

    points: tuple[Point, ...]
    left_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A part of the picture, in its final pixels: `_Box(left=16, top=76, width=380, height=360)`."""

    left: float
    top: float
    width: float
    height: float


def draw_overview(folder: Path, out: Path, *, pictures: bool = True) -> None:
    """Writes the picture; `pictures` says whether a route without them counts as left out, where there are any."""
    entries = read_for_check(folder, pictures=pictures).entries
    ways = [
        _Way(points=entry.way if isinstance(entry, LeftOut) else entry.turn_points, left_out=isinstance(entry, LeftOut))
        for entry in entries
    ]
    groups = _groups([way for way in ways if way.points])
    num_columns, num_rows = _layout(min(len(groups), MAX_PANELS))
    side = (WIDTH - MARGIN * (num_columns + 1)) / num_columns
    panel_height = min(side, 820.0)
    height = round(HEADER + num_rows * (panel_height + MARGIN))
    image = Image.new("RGB", (WIDTH * OVERSAMPLING, height * OVERSAMPLING), PAPER)
    canvas = _Canvas(ImageDraw.Draw(image))
    _draw_header(canvas, folder, ways, len(groups))
    for index, group in enumerate(groups[:MAX_PANELS]):
        row, column = divmod(index, num_columns)
        left = MARGIN + column * (side + MARGIN)
        _draw_panel(
            canvas, group, _Box(left=left, top=HEADER + row * (panel_height + MARGIN), width=side, height=panel_height)
        )
    image.resize((WIDTH, height), Image.Resampling.BOX).save(out, "PNG")


class _Canvas:
    """Draws in final pixels on the larger picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, points: list[_Pixel], color: tuple[int, int, int], width: float) -> None:
        """A line with round joints."""
        self._draw.line([_scaled(point) for point in points], color, round(width * OVERSAMPLING), joint="curve")

    def disc(self, center: _Pixel, radius: float, fill: tuple[int, int, int]) -> None:
        """A disc with a bright rim, which parts it from the lines below."""
        x, y, reach = center[0] * OVERSAMPLING, center[1] * OVERSAMPLING, radius * OVERSAMPLING
        self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill, CARD, OVERSAMPLING)

    def square(self, center: _Pixel, radius: float, fill: tuple[int, int, int]) -> None:
        """A square with a bright rim."""
        x, y, reach = center[0] * OVERSAMPLING, center[1] * OVERSAMPLING, radius * OVERSAMPLING
        self._draw.rectangle((x - reach, y - reach, x + reach, y + reach), fill, CARD, OVERSAMPLING)

    def card(self, box: _Box) -> None:
        """The ground of a panel."""
        corners = [*_scaled((box.left, box.top)), *_scaled((box.left + box.width, box.top + box.height))]
        self._draw.rounded_rectangle(corners, 8 * OVERSAMPLING, CARD)

    def text(self, at: _Pixel, words: str, size: float, color: tuple[int, int, int], anchor: str = "ls") -> float:
        """Words at a place; their width."""
        font = ImageFont.load_default(size * OVERSAMPLING)
        self._draw.text(_scaled(at), words, color, font, anchor)
        return self._draw.textlength(words, font) / OVERSAMPLING


def _scaled(point: _Pixel) -> _Pixel:
    return point[0] * OVERSAMPLING, point[1] * OVERSAMPLING


def _draw_header(canvas: _Canvas, folder: Path, ways: list[_Way], num_groups: int) -> None:
    num_left_out = sum(way.left_out for way in ways)
    title = f"{len(ways) - num_left_out:,} routes in {_shortened(printable(folder.resolve().name))}"
    canvas.text((MARGIN, 38), title, 26, INK)
    if num_groups > MAX_PANELS:
        canvas.text((WIDTH - MARGIN, 36), f"the {MAX_PANELS} largest of {num_groups:,} groups", 15, FAINT, "rs")
    left = MARGIN + 6.0
    for words, color in (("start", START), ("destination", DESTINATION), ("can be played", ROUTE)):
        left = _draw_key(canvas, left, words, color)
    if num_left_out:
        nowhere = sum(not way.points for way in ways)
        unseen = f", {nowhere:,} of them without a way to draw" if nowhere else ""
        _draw_key(canvas, left, f"left out: {num_left_out:,}{unseen}", LEFT_OUT)


def _draw_key(canvas: _Canvas, left: float, words: str, color: tuple[int, int, int]) -> float:
    """One entry of the legend; where the next begins."""
    if color == START:
        canvas.disc((left, 57), 6, color)
    elif color == DESTINATION:
        canvas.square((left, 57), 5, color)
    else:
        canvas.line([(left - 8, 57), (left + 8, 57)], color, 3)
    return left + 14 + canvas.text((left + 14, 62), words, 15, INK) + 26


def _draw_panel(canvas: _Canvas, ways: list[_Way], box: _Box) -> None:
    canvas.card(box)
    points = [point for way in ways for point in way.points]
    middle = tuple((min(values) + max(values)) / 2 for values in zip(*points, strict=True))
    stretch = max(0.01, cos(radians(middle[0])))
    up = max(abs(point[0] - middle[0]) for point in points) * METRES_PER_DEGREE
    across = max(abs(point[1] - middle[1]) for point in points) * METRES_PER_DEGREE * stretch
    footer, padding = 34.0, 22.0
    room = (box.width - 2 * padding, box.height - footer - 2 * padding)
    pixels_per_metre = min(room[0] / max(2 * across, MIN_SPAN_METRES), room[1] / max(2 * up, MIN_SPAN_METRES))
    center = (box.left + box.width / 2, box.top + padding + room[1] / 2)

    def place(point: Point) -> _Pixel:
        scale = METRES_PER_DEGREE * pixels_per_metre
        return center[0] + (point[1] - middle[1]) * stretch * scale, center[1] - (point[0] - middle[0]) * scale

    # Many lines are drawn thin; those that are left out lie on top, for they are what one looks for.
    width = 3.0 if len(ways) <= 20 else 2.2 if len(ways) <= 200 else 1.4
    for way in sorted(ways, key=lambda way: way.left_out):
        canvas.line([place(point) for point in way.points], LEFT_OUT if way.left_out else ROUTE, width)
    for way in ways:
        canvas.disc(place(way.points[0]), width * 1.9, START)
        canvas.square(place(way.points[-1]), width * 1.6, DESTINATION)
    _draw_footer(canvas, len(ways), f"{middle[0]:.3f}, {middle[1]:.3f}", pixels_per_metre, box)


def _draw_footer(canvas: _Canvas, num_routes: int, where: str, pixels_per_metre: float, box: _Box) -> None:
    base = box.top + box.height - 14
    size = 14 if box.width >= 250 else 11
    canvas.text((box.left + 14, base), f"{num_routes:,} {'route' if num_routes == 1 else 'routes'}", size, INK)
    metres = _round_length(0.28 * box.width / pixels_per_metre)
    left, right = box.left + box.width - 14 - metres * pixels_per_metre, box.left + box.width - 14
    canvas.line([(left, base - 5), (left, base), (right, base), (right, base - 5)], INK, 1.5)
    words = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    canvas.text(((left + right) / 2, base - 7), words, size - 1, INK, "ms")
    if box.width >= 360:
        canvas.text((box.left + 110, base), where, size, FAINT)


def _round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … metres that is not longer."""
    power = 10.0 ** floor(log10(most))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= most)


def _layout(num_panels: int) -> tuple[int, int]:
    """Columns and rows."""
    num_columns = ceil(sqrt(max(1, num_panels)))
    return num_columns, ceil(max(1, num_panels) / num_columns)


def _groups(ways: list[_Way]) -> list[list[_Way]]:
    """Those near each other together, the largest group first."""
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, way in enumerate(ways):
        cells[floor(way.points[0][0] / GROUP_DEGREES), floor(way.points[0][1] / GROUP_DEGREES)].append(index)
    groups: list[list[_Way]] = []
    unseen = set(cells)
    while unseen:
        reached = [unseen.pop()]
        for row, column in reached:
            near = {(row + up, column + across) for up in (-1, 0, 1) for across in (-1, 0, 1)} & unseen
            unseen -= near
            reached += near
        groups.append([ways[index] for cell in sorted(reached) for index in cells[cell]])
    return sorted(groups, key=lambda group: (-len(group), group[0].points[0]))


def _shortened(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:47]}…"
