"""Routes through a made-up city, chosen by the recipe that real ones were collected with.

    find_routes(city_map, places, …) ─▶ Route, …   start, destination, and one Leg from each turn to the next

A route is the shortest drive between two mid-street places. It turns where the drive bends clearly; crossings
that it passes straight over belong to the leg around them. What could be called two ways is not used: a turn
at a mere bend of the street, turns of about 0, 45 or 180 degrees, headings whose whole degrees name another
compass direction, legs on which an evenly spaced stop would look like a crossing.
"""

import cmath
import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from random import Random

from envs._city.map import CityMap, Place
from envs._routes.compass import METRES_PER_DEGREE, Point, bearing, compass_word, wrap_degrees
from envs.protocol import EnvError

ORIGIN: Point = (40.0, -30.0)
"""Latitude and longitude of the middle of every city: open sea, so that no real place is meant."""
NUM_DECIMALS = 7
"""Of a latitude or longitude: about a centimetre."""

MIN_TURN, MAX_TURN = 15.0, 150.0
"""A smaller change of heading is going straight on; a larger one is close to turning around."""
SLIGHT_TURN, SLIGHT_TURN_MARGIN = 45.0, 3.0
"""Up to which angle a turn is a slight one, and how clear of it a turn must keep."""
MIN_LEG_LENGTH = 25.0
NUM_STOPS_PER_LEG = 5
"""An agent stops at each fifth of a leg, at the nearest panorama."""
MAX_STOP_DISTANCE = 18.0
"""Between such a fifth and that panorama; a loader allows 20 metres."""
MAX_PASSED_CROSSINGS = 2
"""On one leg."""
MIN_CROSSING_REACH = 8.0
"""From the middle of a crossing to where it ends, even where its streets are in line."""
TRIES_PER_ROUTE = 400
EVEN_TRIES_PER_ROUTE = 20
"""During these every number of turns gets an equal share of the routes; later, whatever is found is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A straight stretch, walked along one heading, from the start or a turn to the next turn or the end."""

    points: tuple[complex, ...]
    """Both ends, and the crossings passed between them."""
    blocks: tuple[tuple[int, int], ...]
    """The blocks it lies on, each by its two crossings, the lower number first."""
    street_name: str
    """Of the first of them."""
    crossing: int | None
    """Where it ends, unless that is the destination."""

    @property
    def length(self) -> float:
        """Metres along the street."""
        return sum(abs(end - start) for start, end in pairwise(self.points))

    @property
    def heading(self) -> float:
        """From the first point to the last."""
        return bearing(geocode_at(self.points[0]), geocode_at(self.points[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From one place to another.

    Example: 40 metres along one block, right at crossing 7, and 31 metres to the door; one turn, two legs.

        Route(start=Place(…), destination=Place(…), legs=(
            Leg(points=(0j, 40j), blocks=((3, 7),), street_name="Elm Street", crossing=7),
            Leg(points=(40j, 31 + 40j), blocks=((7, 12),), street_name="Dover Road", crossing=None)))
    """

    start: Place
    destination: Place
    legs: tuple[Leg, ...]


def geocode_at(point: complex) -> Point:
    """Latitude and longitude, rounded as they are written, so that all that follows agrees with the file."""
    latitude = ORIGIN[0] + point.imag / METRES_PER_DEGREE
    longitude = ORIGIN[1] + point.real / METRES_PER_DEGREE / math.cos(math.radians(ORIGIN[0]))
    return round(latitude, NUM_DECIMALS), round(longitude, NUM_DECIMALS)


def viewpoint_of(city_map: CityMap, place: Place) -> complex:
    """Where the panorama nearest to a place stands on its street."""
    return min(city_map.viewpoints(*place.street), key=lambda point: abs(point - place.point))


def find_routes(
    city_map: CityMap,
    places: tuple[Place, ...],
    *,
    num_routes: int,
    num_turns: tuple[int, int],
    generator: Random,
    accepts: Callable[[Route], bool] = lambda _: True,
) -> list[Route]:
    """Different routes that it accepts, with at least `num_turns[0]` and at most `num_turns[1]` turns on the way."""
    shortest = cache(lambda crossing: _shortest_ways(city_map, crossing))
    ends = [place for place in places if _is_mid_street(city_map, place)]
    routes: dict[tuple[complex, complex], Route] = {}
    share = math.ceil(num_routes / (num_turns[1] - num_turns[0] + 1))
    room = dict.fromkeys(range(num_turns[0], num_turns[1] + 1), share)
    for tries in range(TRIES_PER_ROUTE * num_routes):
        if tries == EVEN_TRIES_PER_ROUTE * num_routes:
            room = dict.fromkeys(room, num_routes)
        start, destination = generator.sample(ends, 2)
        key = (viewpoint_of(city_map, start), viewpoint_of(city_map, destination))
        if start.street == destination.street or key in routes:
            continue
        legs = _legs(city_map, start, destination, shortest)
        route = Route(start=start, destination=destination, legs=legs)
        if room.get(len(legs) - 1, 0) and _is_unmistakable(city_map, legs) and accepts(route):
            room[len(legs) - 1] -= 1
            routes[key] = route
        if len(routes) == num_routes:
            return list(routes.values())
    raise EnvError(
        f"found {len(routes)} of {num_routes} routes with {num_turns[0]} to {num_turns[1]} turns in this city; "
        "ask for fewer routes (city.num_routes), or for another range of turns (city.num_turns)"
    )


def _is_mid_street(city_map: CityMap, place: Place) -> bool:
    viewpoint = viewpoint_of(city_map, place)
    return all(abs(viewpoint - city_map.crossings[end]) >= MIN_LEG_LENGTH for end in place.street)


_Ways = tuple[dict[int, float], dict[int, int]]


def _shortest_ways(city_map: CityMap, source: int) -> _Ways:
    """Distances from one crossing to all others, and the last crossing before each (Dijkstra)."""
    distances, previous, waiting = {source: 0.0}, {source: source}, [(0.0, source)]
    while waiting:
        distance, crossing = heapq.heappop(waiting)
        if distance > distances[crossing]:
            continue
        for other in city_map.around[crossing]:
            further = distance + abs(city_map.vector(crossing, other))
            if further < distances.get(other, math.inf):
                distances[other], previous[other] = further, crossing
                heapq.heappush(waiting, (further, other))
    return distances, previous


def _legs(city_map: CityMap, start: Place, destination: Place, shortest: Callable[[int], _Ways]) -> tuple[Leg, ...]:
    """The shortest drive between two places, cut where it turns."""
    first, last = viewpoint_of(city_map, start), viewpoint_of(city_map, destination)
    _, source, target = min(
        (
            abs(city_map.crossings[source] - first)
            + shortest(source)[0][target]
            + abs(last - city_map.crossings[target]),
            source,
            target,
        )
        for source in start.street
        for target in destination.street
    )
    crossings = [target]
    while crossings[-1] != source:
        crossings.append(shortest(source)[1][crossings[-1]])
    crossings.reverse()
    stops = [first, *(city_map.crossings[crossing] for crossing in crossings), last]
    blocks = [start.street, *pairwise(crossings), destination.street]
    cuts = [0]
    for index in range(1, len(stops) - 1):
        turn = (stops[index + 1] - stops[index]) / (stops[index] - stops[index - 1])
        if abs(math.degrees(cmath.phase(turn))) >= MIN_TURN:
            cuts.append(index)
    cuts.append(len(stops) - 1)
    return tuple(
        Leg(
            points=tuple(stops[begin : end + 1]),
            blocks=tuple((min(block), max(block)) for block in blocks[begin:end]),
            street_name=city_map.street_name(*blocks[begin]),
            crossing=crossings[end - 1] if end <= len(crossings) else None,
        )
        for begin, end in pairwise(cuts)
    )


def _is_unmistakable(city_map: CityMap, legs: tuple[Leg, ...]) -> bool:
    """Whether there is only one way to describe the route (see the top of this file)."""
    turns = [abs(wrap_degrees(after.heading - before.heading)) for before, after in pairwise(legs)]
    return (
        all(MIN_TURN <= turn <= MAX_TURN and abs(turn - SLIGHT_TURN) >= SLIGHT_TURN_MARGIN for turn in turns)
        and all(leg.crossing is None or len(city_map.around[leg.crossing]) > 2 for leg in legs)
        and all(abs(leg.points[-1] - leg.points[0]) >= MIN_LEG_LENGTH for leg in legs)
        and all(len(leg.points) <= MAX_PASSED_CROSSINGS + 2 for leg in legs)
        and all(compass_word(int(leg.heading)) == compass_word(leg.heading) for leg in legs)
        and all(_stops_are_clear(city_map, leg) for leg in legs)
    )


def _stops_are_clear(city_map: CityMap, leg: Leg) -> bool:
    """Whether every evenly spaced stop has a panorama near it, which does not stand on a passed crossing."""
    viewpoints = [(point, block) for block in leg.blocks for point in city_map.viewpoints(*block)]
    passed = leg.points[1:-1]
    way = leg.points[-1] - leg.points[0]
    for step in range(1, NUM_STOPS_PER_LEG):
        stop = leg.points[0] + way * step / NUM_STOPS_PER_LEG
        nearest, (start, end) = min(viewpoints, key=lambda viewpoint, stop=stop: abs(viewpoint[0] - stop))
        if abs(nearest - stop) > MAX_STOP_DISTANCE:
            return False
        for crossing, other in ((start, end), (end, start)):
            # A crossing is as large as the ground between the houses at its corners.
            reach = max(city_map.corner_reach(crossing, other, side) for side in (1, -1))
            middle = city_map.crossings[crossing]
            if middle in passed and abs(nearest - middle) < max(reach, MIN_CROSSING_REACH):
                return False
    return True
