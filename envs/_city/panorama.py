"""Draws what is seen from a point of a made-up city, as one equirectangular panorama.

    draw_panorama(scene, eye, rotation, width) ─▶ Image
      _nearest         for each column, the first wall that a ray along its heading meets
      _paint_sky, _paint_ground, _paint_walls      with numpy, all columns at once
      _draw_uprights   trees and traffic lights, then signboards, the far ones first

The top row looks straight up and the bottom row straight down. `_street_views.column_at_heading` says which
column shows which heading. Points are complex numbers as in `map.py`: east + 1j · north.
"""

import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs._city.ground import ground_map
from envs._city.scene import FRAME, NUM_MATERIALS, ROOF, SHOP, WALL, WINDOW, Scene, Sign, Upright, Walls
from envs._city.styles import Color, Look
from envs._routes.street_views import column_at_heading

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

EYE_HEIGHT = 2.5
SIGHT = 150.0
"""Walls whose ends are both further away are left out."""
HAZE_DISTANCE = 160.0
"""At this distance 63 % of a wall's colour has faded into the haze."""
MIN_HAZY_DISTANCE = 15.0
PLAIN_DISTANCE = 70.0
"""Further walls are drawn without windows, which would only flicker."""
GROUND_FLOOR = 3.2
FRAME_SIZE, WINDOW_SIZE = (0.64, 0.72), (0.50, 0.58)
"""Of a window, as fractions of a bay and of a storey."""
SHOP_SIZE, SHOP_BOTTOM, SHOP_TOP = 0.84, 0.4, 2.7
EAVES_DEPTH, GABLE_EDGE, HIP_SLOPE = 0.5, 0.7, 1.5
SKY_FADE = 35.0
"""Degrees above the horizon at which the haze ends."""

GROUND_MAPS = ((10.0, 0.03), (32.0, 0.1), (130.0, 0.4))
"""Maps of the ground, from underfoot to far off: how far each reaches, and metres per pixel."""

UPRIGHT_SIGHT, SIGN_SIGHT = 90.0, 70.0
MIN_UPRIGHT_DISTANCE = 3.0
SIGN_WIDTH, SIGN_ASPECT, SIGN_BOTTOM = 7.6, 0.5, 2.7
MAX_SIGN_ANGLE = 40.0
SIGN_PIXELS = 384
"""Width of the board that is drawn once and then shrunk."""
LETTER_SIZE, MAX_LETTER_STRETCH = 96, 1.1
TRUNK: Color = (92, 70, 52)
TRUNK_WIDTH, TRUNK_SHARE, CROWN_SHARE = 0.35, 0.45, 0.62
CROWN_PARTS = ((1.0, 0.0, 0.78), (0.72, -0.22, 1.0), (0.6, 0.25, 1.15))
"""Three overlapping ellipses: size, shift to the right, brightness."""
POLE: Color = (44, 46, 48)
POLE_WIDTH, LIGHT_BOX_WIDTH, LIGHT_BOX_SHARE, LIGHT_WIDTH = 0.16, 0.5, 0.24, 0.34
LIGHT_COLORS: tuple[Color, ...] = ((220, 40, 40), (236, 180, 40), (40, 190, 90))


def draw_panorama(scene: Scene, eye: complex, *, rotation: float, width: int) -> Image.Image:
    """A panorama `width` pixels wide and half as high; `rotation` degrees say where in it north is."""
    height = width // 2
    headings = np.radians((np.arange(width) + 0.5) * (360.0 / width) - rotation)
    rays = (np.sin(headings) + 1j * np.cos(headings)).astype(np.complex64)
    elevations = np.radians(90.0 - (np.arange(height) + 0.5) * (180.0 / height)).astype(np.float32)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    horizon = (height + 1) // 2
    _paint_sky(canvas[:horizon], scene.look, elevations[:horizon])
    _paint_ground(canvas[horizon:], scene, eye, rays, elevations[horizon:])
    houses = _nearest(scene.houses, eye, rays)
    _paint_walls(canvas, scene.houses, houses, scene.look, np.tan(elevations))
    if len(scene.hedges.heights):
        hedges = _nearest(scene.hedges, eye, rays)
        hedges.distances[hedges.distances > houses.distances] = np.inf
        _paint_walls(canvas, scene.hedges, hedges, scene.look, np.tan(elevations))
    image = Image.fromarray(canvas)
    _draw_uprights(image, scene, eye, rotation, houses.distances)
    return image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hits:
    """What the ray of each column meets first."""

    distances: _Floats
    """Infinite where there is nothing."""
    walls: NDArray[np.intp]
    along: _Floats
    """Metres from the start of the wall."""
    lengths: _Floats
    """Of the wall."""


def _nearest(walls: Walls, eye: complex, rays: NDArray[np.complex64]) -> _Hits:
    starts, ends = walls.starts - np.complex64(eye), walls.ends - np.complex64(eye)
    close = np.flatnonzero(np.minimum(np.abs(starts), np.abs(ends)) < SIGHT)
    if not len(close):
        nothing = np.zeros(len(rays), dtype=np.float32)
        infinite = np.full(len(rays), np.inf, dtype=np.float32)
        return _Hits(distances=infinite, walls=nothing.astype(np.intp), along=nothing, lengths=nothing + 1)
    starts, ways = starts[close, None], (ends - starts)[close, None]
    # The ray s · r meets the wall a + t · w where both cross products with the other direction vanish.
    across = rays.real * ways.imag - rays.imag * ways.real
    across[across == 0] = np.nan
    shares = (starts.imag * rays.real - starts.real * rays.imag) / -across
    distances = (starts.real * ways.imag - starts.imag * ways.real) / across
    distances[~((shares >= 0) & (shares <= 1) & (distances > 0))] = np.inf
    distances = distances.astype(np.float32, copy=False)
    first = distances.argmin(axis=0)
    columns = np.arange(len(rays))
    lengths = np.abs(ways[first, 0])
    return _Hits(
        distances=distances[first, columns],
        walls=close[first],
        along=shares[first, columns] * lengths,
        lengths=lengths,
    )


def _paint_sky(canvas: _Bytes, look: Look, elevations: _Floats) -> None:
    share = np.clip(np.degrees(elevations) / SKY_FADE, 0, 1)[:, None]
    canvas[:] = (np.array(look.haze) * (1 - share) + np.array(look.sky) * share)[:, None].astype(np.uint8)


def _paint_walls(canvas: _Bytes, walls: Walls, hits: _Hits, look: Look, slopes: _Floats) -> None:
    """Paints each column from the ground to the top of its roof; `slopes` are the tangents of the rows."""
    (columns,) = np.nonzero(np.isfinite(hits.distances))
    if not len(columns):
        return
    distances, wall = hits.distances[columns], hits.walls[columns]
    eaves = walls.heights[wall]
    tops = eaves + _roof_heights(walls.rises[wall], hits.along[columns], hits.lengths[columns], look)
    highest, lowest = ((tops - EYE_HEIGHT) / distances).max(), (-EYE_HEIGHT / distances).min()
    (rows,) = np.nonzero((slopes <= highest) & (slopes >= lowest))
    if not len(rows):
        return  # in a small picture, walls far away lie between two rows
    heights = slopes[rows, None] * distances + np.float32(EYE_HEIGHT)
    is_plain = (distances > PLAIN_DISTANCE) | (eaves < EYE_HEIGHT)
    materials = _materials(heights, hits.along[columns], eaves, tops, is_plain, look)
    palette = walls.colors[wall].astype(np.float32)
    fog = 1 - np.exp(-np.maximum(distances - MIN_HAZY_DISTANCE, 0) / HAZE_DISTANCE)[:, None, None]
    palette += (np.array(look.haze, dtype=np.float32) - palette) * fog
    colors = palette.astype(np.uint8).reshape(-1, 3)[materials + np.arange(len(columns)) * NUM_MATERIALS]
    is_wall = (heights >= 0) & (heights <= tops)
    part = canvas[rows[0] : rows[-1] + 1]
    part[:, columns] = np.where(is_wall[..., None], colors, part[:, columns])


def _roof_heights(rises: _Floats, along: _Floats, lengths: _Floats, look: Look) -> _Floats:
    from_edge = np.minimum(along, lengths - along)
    if look.roof_shape == "gabled":
        return rises * from_edge * 2 / lengths
    if look.roof_shape == "hipped":
        return np.minimum(rises, from_edge * HIP_SLOPE)
    return rises


def _materials(
    heights: _Floats, along: _Floats, eaves: _Floats, tops: _Floats, is_plain: NDArray[np.bool_], look: Look
) -> NDArray[np.intp]:
    """What each spot of wall is made of, by its height and how far along the wall it is."""
    storey = (heights - np.float32(GROUND_FLOOR)) / np.float32(look.storey)
    storey -= np.floor(storey)
    # Twice the distance from the middle of the bay and of the storey, so from 0 in the middle to 1 at the edges.
    across, up = np.abs(2 * (along / look.bay % 1) - 1), np.abs(2 * storey - 1)
    is_upstairs = (heights > GROUND_FLOOR) & (heights < eaves - EAVES_DEPTH) & ~is_plain
    in_frame = is_upstairs & (across < FRAME_SIZE[0]) & (up < FRAME_SIZE[1])
    materials = np.full(heights.shape, WALL, dtype=np.intp)
    materials[in_frame] = FRAME
    materials[in_frame & (across < WINDOW_SIZE[0]) & (up < WINDOW_SIZE[1])] = WINDOW
    materials[(heights > SHOP_BOTTOM) & (heights < SHOP_TOP) & (across < SHOP_SIZE) & ~is_plain] = SHOP
    roof_depth = GABLE_EDGE if look.roof_shape == "gabled" else np.inf
    materials[(heights > eaves) & (heights > tops - roof_depth)] = ROOF
    return materials


def _paint_ground(canvas: _Bytes, scene: Scene, eye: complex, rays: NDArray[np.complex64], elevations: _Floats) -> None:
    # What is further than the last map reaches is a row or two, and shows the edge of that map.
    distances = np.minimum(EYE_HEIGHT / np.tan(-elevations), GROUND_MAPS[-1][0])
    nearest = 0.0
    for reach, scale in GROUND_MAPS:
        rows = np.flatnonzero((distances > nearest) & (distances <= reach))
        ground = np.asarray(ground_map(scene, eye, reach=reach, scale=scale))
        last, middle = len(ground) - 1, np.float32(reach / scale)
        pixels = (distances[rows] / np.float32(scale))[:, None]
        right = np.clip((middle + pixels * rays.real).astype(np.int32), 0, last)
        down = np.clip((middle - pixels * rays.imag).astype(np.int32), 0, last)
        canvas[rows] = ground[down, right]
        nearest = reach


def _draw_uprights(image: Image.Image, scene: Scene, eye: complex, rotation: float, walls: _Floats) -> None:
    """Draws what no wall hides (`walls` has the distance in each column): signs over trees and lights."""
    things: list[tuple[bool, float, Upright | Sign]] = [
        (isinstance(thing, Sign), -abs(thing.point - eye), thing)
        for thing in (*scene.uprights, *scene.signs)
        if MIN_UPRIGHT_DISTANCE < abs(thing.point - eye) < (SIGN_SIGHT if isinstance(thing, Sign) else UPRIGHT_SIGHT)
    ]
    for _, negative_distance, thing in sorted(things, key=lambda entry: entry[:2]):
        way, distance = thing.point - eye, -negative_distance
        heading = math.degrees(math.atan2(way.real, way.imag))
        column = column_at_heading(heading, rotation=rotation, width=image.width)
        if walls[int(column)] < distance:
            continue
        # Drawn again a full turn away, so that what is cut off at one edge goes on at the other.
        for middle in (column, column - image.width, column + image.width):
            if isinstance(thing, Sign):
                _draw_sign(image, thing, middle, distance)
            else:
                _draw_upright(ImageDraw.Draw(image), thing, scene.look, middle, distance, image.width / 360.0)


def _row(height: float, distance: float, image_height: int) -> float:
    """At which row something so high above the ground appears."""
    return (0.5 - math.atan2(height - EYE_HEIGHT, distance) / math.pi) * image_height


def _draw_upright(
    draw: ImageDraw.ImageDraw, thing: Upright, look: Look, column: float, distance: float, per_degree: float
) -> None:
    heights = (0.0, thing.size * TRUNK_SHARE, thing.size)
    bottom, crown, top = (_row(height, distance, round(per_degree * 180)) for height in heights)

    def half(metres: float) -> float:
        return math.degrees(math.atan2(metres / 2, distance)) * per_degree

    if thing.kind == "tree":
        draw.rectangle((column - half(TRUNK_WIDTH), crown, column + half(TRUNK_WIDTH), bottom), fill=TRUNK)
        radius = half(thing.size * CROWN_SHARE)
        for size, shift, brightness in CROWN_PARTS:
            left, right = (column + (shift + end) * radius for end in (-size, size))
            color = tuple(min(255, round(channel * brightness)) for channel in look.foliage)
            draw.ellipse((left, top + (crown - top) * (1 - size), right, crown + radius * size / 4), fill=color)
        return
    draw.rectangle((column - half(POLE_WIDTH), top, column + half(POLE_WIDTH), bottom), fill=POLE)
    box_bottom = top + (bottom - top) * LIGHT_BOX_SHARE
    draw.rectangle((column - half(LIGHT_BOX_WIDTH), top, column + half(LIGHT_BOX_WIDTH), box_bottom), fill=POLE)
    for index, color in enumerate(LIGHT_COLORS):
        middle, radius = top + (box_bottom - top) * (index + 0.5) / len(LIGHT_COLORS), half(LIGHT_WIDTH)
        draw.ellipse((column - radius, middle - radius, column + radius, middle + radius), fill=color)


def _draw_sign(image: Image.Image, sign: Sign, column: float, distance: float) -> None:
    angle = min(MAX_SIGN_ANGLE, 2 * math.degrees(math.atan2(SIGN_WIDTH / 2, distance)))
    width = max(1, round(angle / 360 * image.width))
    height = max(1, round(width * SIGN_ASPECT))
    if column + width < 0 or column - width > image.width:
        return
    bottom = _row(SIGN_BOTTOM, distance, image.height)
    board = _signboard(sign.name, sign.color)
    board = board.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.paste(board, (round(column - width / 2), round(bottom - height)))


@lru_cache(maxsize=256)
def _signboard(name: str, color: Color) -> Image.Image:
    """A place's name in capitals, a word a line, each squeezed to the width of the board."""
    board = Image.new("RGB", (SIGN_PIXELS, round(SIGN_PIXELS * SIGN_ASPECT)), color)
    words, margin = name.upper().split(), SIGN_PIXELS // 40
    line_height = (board.height - 2 * margin) // len(words)
    for index, word in enumerate(words):
        left, top, right, bottom = _typeface().getbbox(word)
        text = Image.new("L", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(text).text((-left, -top), word, fill=255, font=_typeface())
        width = min(board.width - 2 * margin, round(text.width * MAX_LETTER_STRETCH * line_height / text.height))
        text = text.resize((width, line_height - margin), Image.Resampling.LANCZOS)
        corner = ((board.width - width) // 2, margin + index * line_height + margin // 2)
        board.paste((255, 255, 255), corner, text)
    ImageDraw.Draw(board).rectangle((0, 0, board.width - 1, board.height - 1), outline=(255, 255, 255), width=4)
    return board


@lru_cache(maxsize=1)
def _typeface() -> ImageFont.FreeTypeFont:
    # matplotlib ships this font; finding its folder without importing it keeps environments light.
    package = importlib.util.find_spec("matplotlib")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    return ImageFont.truetype(folder / "DejaVuSans-Bold.ttf", LETTER_SIZE, layout_engine=ImageFont.Layout.BASIC)
