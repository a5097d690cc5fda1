"""The map of a made-up city: crossings, the streets between them, and the named places on those streets.

    draw_map(layout, num_blocks) ─▶ CityMap      crossings, street names, and who is next to whom
    add_places(city_map, names)  ─▶ Place, …     at corners, to turn at, and mid-street, to start and end at

A point is a complex number, metres east + 1j · metres north of the middle of the city: the way from one point
to another is a subtraction, its length is `abs`, and `* 1j` is a quarter turn to the left. All chance comes
from one generator.
"""

import cmath
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from envs._city.styles import KINDS, STREET_WORDS, Layout

MIN_STREET_LENGTH = 55.0
MIN_FORK_ANGLE = math.radians(40)
"""Streets that leave a crossing closer together than this would have no room for a house between them."""
FRONT_WIDTH = 8.0
"""How much of a street a place takes up."""
CORNER_DISTANCE = 17.4
"""From a crossing to a place at its corner: landmarks of a turn are looked for within 18 metres."""
MIN_CORNER_ANGLE = math.radians(50)
"""Between two places at one crossing, as seen from its middle, so that their signs stay apart."""
MIN_DISTANCE_TO_CROSSING = 26.0
"""Of a mid-street place, so that the first and the last segment of a route are worth walking."""
MAX_SHIFT_ALONG_STREET = 3.0
"""Of a mid-street place, from the nearest viewpoint."""
MID_STREET_SHARE = 0.6
"""How many street sides have a mid-street place."""
NUM_CORNER_PLACES = (0, 1, 1, 1, 2, 2)
"""A crossing draws one of these; fewer where there is no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CityMap:
    """Crossings by number, and the streets between them, each one block long.

    Example: a triangle of streets.

        CityMap(crossings=(0j, 80 + 0j, 40 + 70j), around=((1, 2), (2, 0), (0, 1)), half_width=9.0,
                street_names={(0, 1): "Elm Street", (1, 2): "Dover Road", (0, 2): "Iris Avenue"})
    """

    crossings: tuple[complex, ...]
    """Where each crossing lies."""
    around: tuple[tuple[int, ...], ...]
    """For each crossing, the crossings one block away, counterclockwise."""
    street_names: dict[tuple[int, int], str]
    """By the two crossings, the lower number first."""
    half_width: float
    """From the middle of a street to the house fronts."""
    viewpoint_spacing: float = 14.0
    """The most between two panoramas of a street."""

    def vector(self, start: int, end: int) -> complex:
        """The way from one crossing to another."""
        return self.crossings[end] - self.crossings[start]

    def street_name(self, start: int, end: int) -> str:
        """The name of the block between two neighbours."""
        return self.street_names[min(start, end), max(start, end)]

    def viewpoints(self, start: int, end: int) -> list[complex]:
        """Where panoramas stand on a block: evenly spaced, from one crossing to the other, both included."""
        steps = math.ceil(abs(self.vector(start, end)) / self.viewpoint_spacing)
        # Always reckoned from the lower number, so that both directions give the very same floats.
        low, high = min(start, end), max(start, end)
        points = [self.crossings[low] + self.vector(low, high) * step / steps for step in range(steps)]
        points.append(self.crossings[high])
        return points if start == low else points[::-1]

    def corner_reach(self, crossing: int, towards: int, side: int) -> float:
        """How far up a street the fronts on one side (1 left, -1 right) begin, and meet the next street's."""
        around = self.around[crossing]
        neighbour = around[(around.index(towards) + side) % len(around)]
        angle = cmath.phase(self.vector(crossing, neighbour) / self.vector(crossing, towards)) * side
        return self.half_width / math.tan(angle % math.tau / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something with a name and a house front.

    Example: on the left of a street that leads north from crossing 3 to crossing 7.

        Place(name="Amber Otter Bakery", place_type="bakery", point=-9 + 14.9j, along=1j, side=1, street=(3, 7),
              seen_from=0j, address="214 Elm Street", rating=4.4, num_reviews=310)
    """

    name: str
    """Unique within the city."""
    place_type: str
    point: complex
    """The middle of its front."""
    along: complex
    """The direction of the street it stands on, of length 1."""
    side: int
    """Which side of `along` it is on: 1 left, -1 right."""
    street: tuple[int, int]
    """The two crossings its block lies between."""
    seen_from: complex
    """Where one is asked about it: the middle of its crossing, or the nearest viewpoint of its street."""
    address: str
    rating: float
    num_reviews: int


_Key = tuple[int, int]  # of a crossing in its plan: column and row, or ring and spoke
_Plan = tuple[dict[_Key, complex], dict[tuple[_Key, _Key], str]]


def draw_map(layout: Layout, num_blocks: int, generator: Random) -> CityMap:
    """A connected map about `num_blocks` blocks across, without dead ends."""
    plan = _lattice if layout.plan == "lattice" else _rings
    crossings, streets = plan(layout, num_blocks, generator)
    turn = cmath.rect(1, -math.radians(layout.turned))
    crossings = {key: point * turn for key, point in crossings.items()}
    neighbours: dict[_Key, set[_Key]] = {key: set() for key in crossings}
    for start, end in streets:
        if _has_room(crossings, neighbours, start, end) and _has_room(crossings, neighbours, end, start):
            neighbours[start].add(end)
            neighbours[end].add(start)
    for start, end in streets:
        spare = end in neighbours[start] and min(len(neighbours[start]), len(neighbours[end])) > 2
        if spare and generator.random() < layout.missing:
            neighbours[start].remove(end)
            neighbours[end].remove(start)
    kept = _largest_part_without_dead_ends(neighbours)
    number = {key: index for index, key in enumerate(kept)}
    names = {
        (min(number[start], number[end]), max(number[start], number[end])): name
        for (start, end), name in streets.items()
        if start in number and end in neighbours[start]
    }
    around: list[tuple[int, ...]] = []
    for key in kept:
        directions = {end: cmath.phase(crossings[end] - crossings[key]) for end in neighbours[key]}
        around.append(tuple(number[end] for end in sorted(directions, key=directions.__getitem__)))
    return CityMap(
        crossings=tuple(crossings[key] for key in kept),
        around=tuple(around),
        street_names=names,
        half_width=layout.half_width,
        viewpoint_spacing=layout.viewpoint_spacing,
    )


def _lattice(layout: Layout, num_blocks: int, generator: Random) -> _Plan:
    """Crossings by column and row, and the streets along columns, rows and some diagonals."""
    width, height = layout.block
    crossings = {
        (column, row): complex(
            (column + layout.sheared * row + generator.uniform(-layout.jitter, layout.jitter)) * width,
            (row + generator.uniform(-layout.jitter, layout.jitter)) * height,
        )
        for column, row in product(range(-(num_blocks // 2), (num_blocks + 3) // 2), repeat=2)
    }
    every = layout.diagonal_every
    steps = [((1, 0), "Street"), ((0, 1), "Avenue")] + ([((1, 1), "Way"), ((1, -1), "Lane")] if every else [])
    streets: dict[tuple[_Key, _Key], str] = {}
    for (right, up), suffix in steps:
        for column, row in crossings:
            line = column * up - row * right  # the same for every block of one straight street
            end = (column + right, row + up)
            # Rising and falling diagonals keep out of each other's blocks where `every` is above 1.
            if end in crossings and (not right or not up or (line + (up < 0)) % every == 0):
                streets[(column, row), end] = f"{STREET_WORDS[line % len(STREET_WORDS)]} {suffix}"
    return crossings, streets


def _rings(layout: Layout, num_blocks: int, generator: Random) -> _Plan:
    """Crossings by ring and spoke: 8 spokes, doubled wherever the rings grow too wide for them."""
    spacing = layout.block[0]
    crossings: dict[_Key, complex] = {(0, 0): 0j}
    streets: dict[tuple[_Key, _Key], str] = {}
    num_inner = 4  # only every other spoke of the first ring reaches the square in the middle
    for ring in range(1, (num_blocks + 1) // 2 + 1):
        num_spokes = 8 * 2 ** max(0, (ring - 1).bit_length() - 1)
        for spoke in range(num_spokes):
            radius = spacing * (ring + generator.uniform(-layout.jitter, layout.jitter))
            crossings[ring, spoke] = cmath.rect(radius, math.tau * spoke / num_spokes)
            crescent = f"{STREET_WORDS[-ring % len(STREET_WORDS)]} Crescent"
            streets[(ring, spoke), (ring, (spoke + 1) % num_spokes)] = crescent
            if spoke * num_inner % num_spokes == 0:
                inner = (ring - 1, spoke * num_inner // num_spokes if ring > 1 else 0)
                streets[inner, (ring, spoke)] = f"{STREET_WORDS[spoke * 32 // num_spokes % len(STREET_WORDS)]} Road"
        num_inner = num_spokes
    return crossings, streets


def _has_room(crossings: dict[_Key, complex], neighbours: dict[_Key, set[_Key]], start: _Key, end: _Key) -> bool:
    way = crossings[end] - crossings[start]
    angles = (abs(cmath.phase((crossings[other] - crossings[start]) / way)) for other in neighbours[start])
    return abs(way) >= MIN_STREET_LENGTH and all(angle >= MIN_FORK_ANGLE for angle in angles)


def _largest_part_without_dead_ends(neighbours: dict[_Key, set[_Key]]) -> list[_Key]:
    """Takes dead ends out of `neighbours`, and returns its largest connected part in a fixed order."""
    ends = [key for key, others in neighbours.items() if len(others) < 2]
    while ends:
        key = ends.pop()
        for other in neighbours[key]:
            neighbours[other].remove(key)
            if len(neighbours[other]) < 2:
                ends.append(other)
        neighbours[key] = set()
    parts: list[set[_Key]] = []
    for key in neighbours:
        if not any(key in part for part in parts):
            part, waiting = {key}, [key]
            while waiting:
                new = neighbours[waiting.pop()] - part
                part |= new
                waiting.extend(new)
            parts.append(part)
    return sorted(max(parts, key=len))


def add_places(city_map: CityMap, names: Sequence[str], generator: Random) -> tuple[Place, ...]:
    """Places at the corners of crossings and in the middle of streets, each with one of the names."""
    spots = [*_corner_spots(city_map, generator), *_mid_street_spots(city_map, generator)]
    if len(spots) > len(names):
        raise ValueError(f"the city has {len(spots)} places and only {len(names)} names; ask for fewer routes")
    places = []
    for (start, end, distance, side, seen_from), name in zip(spots, generator.sample(names, len(spots)), strict=True):
        along = city_map.vector(start, end) / abs(city_map.vector(start, end))
        front = city_map.crossings[start] + along * distance + along * 1j * side * city_map.half_width
        places.append(
            Place(
                name=name,
                place_type=KINDS[name.split()[-1]],
                point=front,
                along=along,
                side=side,
                street=(start, end),
                seen_from=seen_from,
                address=f"{generator.randint(1, 400)} {city_map.street_name(start, end)}",
                rating=round(generator.uniform(3.4, 4.9), 1),
                num_reviews=int(10 ** generator.uniform(1.0, 3.7)),
            )
        )
    return tuple(places)


# From this crossing, towards that one, so many metres, left (1) or right (-1), seen from that point.
_Spot = tuple[int, int, float, int, complex]


def _corner_spots(city_map: CityMap, generator: Random) -> Iterator[_Spot]:
    distance = math.sqrt(CORNER_DISTANCE**2 - city_map.half_width**2)
    for crossing, around in enumerate(city_map.around):
        spots = [(end, side) for end in around for side in (1, -1)]
        generator.shuffle(spots)
        wanted = generator.choice(NUM_CORNER_PLACES)
        taken: list[complex] = []
        for end, side in spots:
            way = city_map.vector(crossing, end)
            seen = way / abs(way) * complex(distance, side * city_map.half_width)
            has_room = city_map.corner_reach(crossing, end, side) + FRONT_WIDTH / 2 <= distance
            apart = all(abs(cmath.phase(seen / other)) >= MIN_CORNER_ANGLE for other in taken)
            if has_room and apart and len(taken) < wanted:
                taken.append(seen)
                yield crossing, end, distance, side, city_map.crossings[crossing]


def _mid_street_spots(city_map: CityMap, generator: Random) -> Iterator[_Spot]:
    for start, end in city_map.street_names:
        length = abs(city_map.vector(start, end))
        steps = [(abs(point - city_map.crossings[start]), point) for point in city_map.viewpoints(start, end)]
        last = length - MIN_DISTANCE_TO_CROSSING
        steps = [(step, point) for step, point in steps if MIN_DISTANCE_TO_CROSSING <= step <= last]
        for side in (1, -1):
            if steps and generator.random() < MID_STREET_SHARE:
                shift = generator.uniform(-MAX_SHIFT_ALONG_STREET, MAX_SHIFT_ALONG_STREET)
                step, point = generator.choice(steps)
                yield start, end, step + shift, side, point
