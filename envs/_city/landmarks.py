"""Which place is the landmark of a turn, and whether a route's landmarks can be told apart by their signs alone.

landmark_at(point, places)                →  the most reviewed Place within 18 metres, or None
SignsOnTheWay(city_map, places)(route)    →  True, if each of its landmarks is the only one seen of its pair
"""

from collections import defaultdict
from collections.abc import Iterable

from envs._city.map import CityMap, Place
from envs._city.names import pair_of
from envs._city.routes import Route, geocode_at
from envs._routes.compass import distance_metres

LANDMARK_RADIUS = 18.0
"""Metres around a turn within which its landmark is looked for."""
MIN_LANDMARK_REVIEWS = 10


def landmark_at(point: complex, places: Iterable[Place]) -> Place | None:
    """The landmark of a turn."""
    turn = geocode_at(point)
    near = [
        place
        for place in places
        if place.num_reviews >= MIN_LANDMARK_REVIEWS
        and distance_metres(turn, geocode_at(place.point)) <= LANDMARK_RADIUS
    ]
    return max(near, key=lambda place: place.num_reviews, default=None)


class SignsOnTheWay:
    """Says whether no two signs that matter on a route show the same emblem in the same colour.

    A sign can be read only from where its place is asked about, so those of a route stand at its turns and along its
    legs. One that is no landmark may look like another such, but never like a landmark.
    """

    def __init__(self, city_map: CityMap, places: tuple[Place, ...]) -> None:
        self._map = city_map
        self._seen_from: dict[complex, list[Place]] = defaultdict(list)
        for place in places:
            self._seen_from[place.seen_from].append(place)

    def __call__(self, route: Route) -> bool:
        turns = [leg.points[-1] for leg in route.legs[:-1]]
        landmarks = [landmark_at(turn, self._seen_from.get(turn, ())) for turn in turns]
        pairs = [pair_of(place.name) for place in (*landmarks, route.destination) if place]
        passed = {point for leg in route.legs for point in leg.points[1:-1]}
        points = {point for leg in route.legs for block in leg.blocks for point in self._map.viewpoints(*block)}
        seen = [pair_of(place.name) for point in points - passed for place in self._seen_from.get(point, ())]
        return all(seen.count(pair) == 1 for pair in pairs)
