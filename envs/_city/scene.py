"""What stands in a made-up city, ready to be drawn from any point: houses, trees, lights, signs, markings.

    build_scene(city_map, places, look, generator) ─▶ Scene
      Walls       upright rectangles: house fronts lot by lot along every block, the fronts of places, hedges
      Zebra       where a zebra crossing is painted, on each street of a crossing
      Upright     thin things drawn facing the viewer: trees, traffic lights
      Sign        a place's name on a board

Points are complex numbers, as in `map.py`: metres east + 1j · metres north.
"""

import cmath
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs._city.map import FRONT_WIDTH, CityMap, Place
from envs._city.names import pair_of
from envs._city.styles import COLORS, Color, Look

WALL, WINDOW, FRAME, ROOF, SHOP, NUM_MATERIALS = range(6)
"""What a spot of a wall is made of: the second axis of `Walls.colors`."""

HEDGE_HEIGHT = 1.3
RETURN_DEPTH = 9.0
"""How far a detached house reaches back from its front."""
RETURN_INSET = 0.2
"""From the end of its front, so that no two walls ever lie in one plane and flicker through each other."""
FRONT_OFFSET = 0.4
"""How far the front of a place stands out from its neighbours, and its sign from the front."""
KERB_OFFSET = 1.2
"""From the kerb to the trees and lights beside it."""
EYE_HEIGHT = 2.5
"""Of whoever looks."""
LIGHT_HEIGHT = 4.6
TREE_HEIGHTS = (5.0, 7.5)
TREE_SPACING_JITTER = (0.85, 1.15)
MIN_TREE_DISTANCE = 9.0
"""Between a tree and a place, whose sign it would hide."""
SUN = cmath.rect(1, math.radians(35))
SHADE = 0.3
"""How much darker than its colour a wall is that faces away from the sun."""
TINT = 12
"""By how much the colours of two houses of one colour differ."""

# Dark enough for white letters.
SIGN_COLORS: tuple[Color, ...] = (
    (176, 24, 40),
    (20, 72, 148),
    (16, 104, 62),
    (92, 34, 120),
    (34, 34, 40),
    (150, 74, 8),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """Upright rectangles, as parallel arrays with one entry a wall.

    Example: `ends[7] - starts[7]` is how wall 7 runs, and `colors[7, ROOF]` the red, green and blue of its roof.
    """

    starts: NDArray[np.complex64]
    ends: NDArray[np.complex64]
    heights: NDArray[np.float32]
    """Up to the eaves."""
    rises: NDArray[np.float32]
    """From the eaves to the top of the roof."""
    colors: NDArray[np.uint8]
    """By wall, material and channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zebra:
    """A zebra crossing over one street."""

    middle: complex
    along: complex
    """The direction of the street, of length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """Something thin that looks the same from all sides."""

    kind: Literal["tree", "light"]
    point: complex
    size: float
    """Its height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A board with a place's name, turned towards whoever looks.

    Example: Sign(name="Amber Otter Bakery", point=35.2 - 8.2j, front=1j, color=(20, 72, 148))
    """

    name: str
    point: complex
    front: complex
    """The direction, of length 1, towards where one is asked about the place."""
    color: Color
    """Of its emblem; without emblems, of the board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that can be seen in a city."""

    look: Look
    half_width: float
    streets: NDArray[np.complex128]
    """The two ends of each block, in rows."""
    houses: Walls
    hedges: Walls
    """Low enough to look over, so drawn in front of the houses rather than instead of them."""
    zebras: tuple[Zebra, ...]
    uprights: tuple[Upright, ...]
    signs: tuple[Sign, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wall:
    start: complex
    end: complex
    height: float
    rise: float
    color: Color
    shop: Color


def build_scene(city_map: CityMap, places: tuple[Place, ...], look: Look, generator: Random) -> Scene:
    """Builds along every street of a map."""
    houses: list[_Wall] = []
    hedges: list[_Wall] = []
    for start, end in city_map.street_names:
        for side in (1, -1):
            front = _front_line(city_map, start, end, side)
            for lot in _lots(front, look, generator):
                if generator.random() < look.hedges:
                    hedges.append(_hedge(lot, look))
                else:
                    houses.extend(_house(lot, side, look, generator, color=None))
    signs = []
    for place in places:
        emblems = look.boards.emblems
        color = COLORS[pair_of(place.name)[0]] if emblems else generator.choice(SIGN_COLORS)
        inwards = place.along * 1j * place.side
        middle = place.point - inwards * FRONT_OFFSET
        half = place.along * FRONT_WIDTH / 2
        # The colour of an emblem is seen on its board alone, which can be read only from where it is asked about.
        shop = None if emblems else color
        houses.extend(_house((middle - half, middle + half), place.side, look, generator, color=shop))
        point = middle - inwards * FRONT_OFFSET
        front = (place.seen_from - point) / abs(place.seen_from - point)
        signs.append(Sign(name=place.name, point=point, front=front, color=color))
    zebras, lights = _crossing_furniture(city_map, look)
    return Scene(
        look=look,
        half_width=city_map.half_width,
        streets=np.array(city_map.crossings)[np.array(list(city_map.street_names))],
        houses=_as_arrays(houses, look),
        hedges=_as_arrays(hedges, look),
        zebras=zebras,
        uprights=(*lights, *_trees(city_map, places, look, generator)),
        signs=tuple(signs),
    )


def _front_line(city_map: CityMap, start: int, end: int, side: int) -> tuple[complex, complex]:
    """The house fronts on one side of a block, from corner to corner."""
    way = city_map.vector(start, end)
    along = way / abs(way)
    offset = along * 1j * side * city_map.half_width
    first = city_map.crossings[start] + along * city_map.corner_reach(start, end, side)
    last = city_map.crossings[end] - along * city_map.corner_reach(end, start, -side)
    return first + offset, last + offset


def _lots(front: tuple[complex, complex], look: Look, generator: Random) -> Iterator[tuple[complex, complex]]:
    start, end = front
    length = abs(end - start)
    along = (end - start) / length
    begin = 0.0
    while begin < length:
        lot_end = begin + generator.uniform(*look.lot_widths)
        if length - lot_end < look.lot_widths[0]:
            lot_end = length  # what is left would be too narrow for a house of its own
        yield start + along * begin, start + along * lot_end
        begin = lot_end


def _house(
    lot: tuple[complex, complex], side: int, look: Look, generator: Random, *, color: Color | None
) -> Iterator[_Wall]:
    """The front of a house and, where houses stand apart, the walls that run back from it."""
    start, end = lot
    height = generator.uniform(*look.heights)
    base = generator.choice(look.walls)
    tint = generator.randint(-TINT, TINT)
    wall = tuple(max(0, min(255, channel + tint)) for channel in base)
    along = (end - start) / abs(end - start)
    back = along * 1j * side * RETURN_DEPTH
    sides = [(start, end)]
    if look.hedges:
        inset = along * RETURN_INSET
        sides += [(start + inset, start + inset + back), (end - inset, end - inset + back)]
    for first, last in sides:
        yield _Wall(
            start=first,
            end=last,
            height=height,
            rise=look.roof_rise,
            color=(wall[0], wall[1], wall[2]),
            shop=color or look.shop,
        )


def _hedge(lot: tuple[complex, complex], look: Look) -> _Wall:
    return _Wall(start=lot[0], end=lot[1], height=HEDGE_HEIGHT, rise=0.0, color=look.foliage, shop=look.foliage)


def _as_arrays(walls: list[_Wall], look: Look) -> Walls:
    colors = np.array(
        [(wall.color, look.window, look.frame, look.roof, wall.shop) for wall in walls], dtype=np.float32
    ).reshape(-1, NUM_MATERIALS, 3)
    directions = np.array([wall.end - wall.start for wall in walls], dtype=np.complex64)
    facing = np.abs(np.sin(np.angle(directions) - cmath.phase(SUN)))
    colors *= (1 - SHADE * (1 - facing))[:, None, None]
    return Walls(
        starts=np.array([wall.start for wall in walls], dtype=np.complex64),
        ends=np.array([wall.end for wall in walls], dtype=np.complex64),
        heights=np.array([wall.height for wall in walls], dtype=np.float32),
        rises=np.array([wall.rise for wall in walls], dtype=np.float32),
        colors=colors.astype(np.uint8),
    )


def _crossing_furniture(city_map: CityMap, look: Look) -> tuple[tuple[Zebra, ...], list[Upright]]:
    """Zebra crossings and traffic lights where three or more streets meet."""
    zebras, lights = [], []
    kerb_share = (look.road_half_width + KERB_OFFSET) / city_map.half_width
    for crossing, around in enumerate(city_map.around):
        if len(around) < 3:
            continue
        for end in around:
            way = city_map.vector(crossing, end)
            along = way / abs(way)
            left, right = (city_map.corner_reach(crossing, end, side) * kerb_share for side in (1, -1))
            reach = min(max(left, right, 0.0), look.markings.reach) + look.markings.depth / 2
            zebras.append(Zebra(middle=city_map.crossings[crossing] + along * reach, along=along))
            corner = along * complex(left, look.road_half_width + KERB_OFFSET)
            lights.append(Upright(kind="light", point=city_map.crossings[crossing] + corner, size=LIGHT_HEIGHT))
    return tuple(zebras), lights


def _trees(city_map: CityMap, places: tuple[Place, ...], look: Look, generator: Random) -> Iterator[Upright]:
    """Rows of trees along both kerbs, clear of crossings and of places."""
    if not look.tree_spacing:
        return
    for start, end in city_map.street_names:
        way = city_map.vector(start, end)
        along = way / abs(way)
        offset = look.road_half_width + KERB_OFFSET
        near = [place.point for place in places if place.street in ((start, end), (end, start))]
        for side in (1, -1):
            distance = city_map.corner_reach(start, end, side) + look.tree_spacing / 2
            last = abs(way) - city_map.corner_reach(end, start, -side) - look.tree_spacing / 2
            while distance <= last:
                point = city_map.crossings[start] + along * complex(distance, side * offset)
                if all(abs(point - place) >= MIN_TREE_DISTANCE for place in near):
                    yield Upright(kind="tree", point=point, size=generator.uniform(*TREE_HEIGHTS))
                distance += look.tree_spacing * generator.uniform(*TREE_SPACING_JITTER)
