"""Directions and distances on the globe, and the words for them; all that has to do with angles stands here.

    bearing((40.0, -74.0), (40.0, -73.9))   →  90.0 (almost)
    compass_word(259.0)                     →  "west"
    turn_word(350.0, 10.0)                  →  "slightly right"
    side_word(350.0, 80.0)                  →  "right"

A point is (latitude, longitude) in degrees. A heading is in degrees, clockwise from north.
"""

from math import asin, atan2, cos, degrees, radians, sin, sqrt
from typing import Final

Point = tuple[float, float]

EARTH_RADIUS_METRES: Final = 6_371_000.0
METRES_PER_DEGREE: Final = radians(1.0) * EARTH_RADIUS_METRES
"""Of latitude, anywhere; of longitude, at the equator."""

COMPASS_WORDS: Final = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
TURN_WORDS: Final = ("left", "right", "slightly left", "slightly right")
SIDE_WORDS: Final = ("front", "right front", "right", "right behind", "behind", "left behind", "left", "left front")

# Angles are compared after rounding, so that noise in the last bits of a heading never changes a word.
_DECIMALS = 6


def wrap_degrees(angle: float) -> float:
    """The same direction within (-180, 180]."""
    wrapped = round(angle, _DECIMALS) % 360.0
    return wrapped - 360.0 if wrapped > 180.0 else wrapped


def bearing(origin: Point, target: Point) -> float:
    """The heading, in [0, 360), that leads from one point to the other along a great circle."""
    latitude, target_latitude = radians(origin[0]), radians(target[0])
    across = radians(target[1] - origin[1])
    east = sin(across) * cos(target_latitude)
    north = cos(latitude) * sin(target_latitude) - sin(latitude) * cos(target_latitude) * cos(across)
    return degrees(atan2(east, north)) % 360.0


def distance_metres(origin: Point, target: Point) -> float:
    """The great-circle distance, by the haversine formula."""
    latitude, target_latitude = radians(origin[0]), radians(target[0])
    half_up = (target_latitude - latitude) / 2
    half_across = radians(target[1] - origin[1]) / 2
    chord = sin(half_up) ** 2 + cos(latitude) * cos(target_latitude) * sin(half_across) ** 2
    return 2 * EARTH_RADIUS_METRES * asin(min(1.0, sqrt(chord)))


def compass_word(heading: float) -> str:
    """The nearest of the eight compass words; halfway between two it is the clockwise one."""
    return COMPASS_WORDS[_sector(heading)]


def side_word(heading: float, direction: float) -> str:
    """Where someone who faces `heading` sees what lies in `direction`, in eight words."""
    return SIDE_WORDS[_sector(direction - heading)]


def turn_word(previous: float, following: float, *, wrap: bool = True) -> str:
    """The word for the turn from one heading to the next.

    Up to 45 degrees a turn is slight. There is no word for going straight on or for turning round, so no turn
    at all counts as slightly left (as in the original data) and half a turn as right. Without `wrap` the
    difference is taken as it stands, as the original did: from 350 to 10 degrees is then -340, and so "left".
    """
    change = wrap_degrees(following - previous) if wrap else round(following - previous, _DECIMALS)
    side = "right" if change > 0 else "left"
    return f"slightly {side}" if abs(change) <= 45.0 else side


def _sector(angle: float) -> int:
    return int((round(angle, _DECIMALS) + 22.5) % 360.0 // 45.0)
