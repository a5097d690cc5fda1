"""Draws what is seen from a point of a made-up city, as one equirectangular panorama.

    draw_panorama(scene, eye, rotation, width) ─▶ Image
      _nearest         for each column, the first wall that a ray along its heading meets
      _paint_sky, _paint_ground, _paint_walls      with numpy, all columns at once
      draw_uprights    trees, traffic lights and signboards                     uprights.py, signs.py

The top row looks straight up and the bottom row straight down. `_street_views.column_at_heading` says which
column shows which heading. Points are complex numbers as in `map.py`: east + 1j · north.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from envs._city.ground import ground_map
from envs._city.scene import EYE_HEIGHT, FRAME, NUM_MATERIALS, ROOF, SHOP, WALL, WINDOW, Scene, Walls
from envs._city.styles import Look
from envs._city.uprights import draw_uprights

_Pixels = NDArray[np.uint32]
"""Red, green and blue of a pixel in one number, which is quicker to move than three."""
_Floats = NDArray[np.float32]

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


def draw_panorama(scene: Scene, eye: complex, *, rotation: float, width: int) -> Image.Image:
    """A panorama `width` pixels wide and half as high; `rotation` degrees say where in it north is."""
    height = width // 2
    headings = np.radians((np.arange(width) + 0.5) * (360.0 / width) - rotation)
    rays = (np.sin(headings) + 1j * np.cos(headings)).astype(np.complex64)
    elevations = np.radians(90.0 - (np.arange(height) + 0.5) * (180.0 / height)).astype(np.float32)
    canvas = np.empty((height, width), dtype=np.uint32)
    horizon = (height + 1) // 2
    _paint_sky(canvas[:horizon], scene.look, elevations[:horizon])
    _paint_ground(canvas[horizon:], scene, eye, rays, elevations[horizon:])
    houses = _nearest(scene.houses, eye, rays)
    _paint_walls(canvas, scene.houses, houses, scene.look, np.tan(elevations))
    if len(scene.hedges.heights):
        hedges = _nearest(scene.hedges, eye, rays)
        hedges.distances[hedges.distances > houses.distances] = np.inf
        _paint_walls(canvas, scene.hedges, hedges, scene.look, np.tan(elevations))
    image = Image.frombytes("RGBX", (width, height), canvas.tobytes()).convert("RGB")
    draw_uprights(image, scene, eye, rotation, houses.distances)
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


def _packed(colors: NDArray[np.uint8]) -> _Pixels:
    four = np.zeros((*colors.shape[:-1], 4), dtype=np.uint8)
    four[..., :3] = colors
    return four.view(np.uint32)[..., 0]


def _paint_sky(canvas: _Pixels, look: Look, elevations: _Floats) -> None:
    share = np.clip(np.degrees(elevations) / SKY_FADE, 0, 1)[:, None]
    canvas[:] = _packed((np.array(look.haze) * (1 - share) + np.array(look.sky) * share).astype(np.uint8))[:, None]


def _paint_walls(canvas: _Pixels, walls: Walls, hits: _Hits, look: Look, slopes: _Floats) -> None:
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
    colors = _packed(palette.astype(np.uint8)).ravel()[materials + np.arange(len(columns)) * NUM_MATERIALS]
    is_wall = (heights >= 0) & (heights <= tops)
    part = canvas[rows[0] : rows[-1] + 1]
    part[:, columns] = np.where(is_wall, colors, part[:, columns])


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
    materials = np.full(heights.shape, WALL, dtype=np.intp)
    if look.windows:
        storey = (heights - np.float32(GROUND_FLOOR)) / np.float32(look.storey)
        storey -= np.floor(storey)
        # Twice the distance from the middle of the bay and of the storey: from 0 in the middle to 1 at the edges.
        across, up = np.abs(2 * (along / look.bay % 1) - 1), np.abs(2 * storey - 1)
        is_upstairs = (heights > GROUND_FLOOR) & (heights < eaves - EAVES_DEPTH) & ~is_plain
        in_frame = is_upstairs & (across < FRAME_SIZE[0]) & (up < FRAME_SIZE[1])
        materials[in_frame] = FRAME
        materials[in_frame & (across < WINDOW_SIZE[0]) & (up < WINDOW_SIZE[1])] = WINDOW
        materials[(heights > SHOP_BOTTOM) & (heights < SHOP_TOP) & (across < SHOP_SIZE) & ~is_plain] = SHOP
    roof_depth = GABLE_EDGE if look.roof_shape == "gabled" else np.inf
    materials[(heights > eaves) & (heights > tops - roof_depth)] = ROOF
    return materials


def _paint_ground(
    canvas: _Pixels, scene: Scene, eye: complex, rays: NDArray[np.complex64], elevations: _Floats
) -> None:
    # What is further than the last map reaches is a row or two, and shows the edge of that map.
    distances = np.minimum(EYE_HEIGHT / np.tan(-elevations), GROUND_MAPS[-1][0])
    nearest = 0.0
    for reach, fine in GROUND_MAPS:
        scale = fine * scene.look.ground_grain
        rows = np.flatnonzero((distances > nearest) & (distances <= reach))
        ground = _packed(np.asarray(ground_map(scene, eye, reach=reach, scale=scale)))
        last, middle = len(ground) - 1, np.float32(reach / scale)
        pixels = (distances[rows] / np.float32(scale))[:, None]
        right = np.clip((middle + pixels * rays.real).astype(np.int32), 0, last)
        down = np.clip((middle - pixels * rays.imag).astype(np.int32), 0, last)
        canvas[rows] = ground[down, right]
        nearest = reach
