"""One route through a made-up city, in the words and fields of `route_infos.json`.

    route_records(routes, places, region) ─▶ [{"start_place": …, "route_results": …, "milestone_info": …}, …]

      geocode_list     the turn points and, last, the destination; the start is not among them
      landmark_list    for each turn the most reviewed place within 18 metres, or null
      milestone_info   one block of text a leg: where it leads, and what is seen at its end on which side

Headings in `milestone_info` are cut off to whole degrees, as the original collector did; sides are seen by
someone who arrives along the leg. All of it is reckoned from the rounded coordinates that stand in the file.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from envs._city.landmarks import LANDMARK_RADIUS, landmark_at
from envs._city.map import Place
from envs._city.routes import Leg, Route, geocode_at
from envs._routes.compass import Point, bearing, compass_word, distance_metres, side_word, turn_word

DRIVING_SPEED = 5.0
"""Metres a second, for the durations that a map service would give."""
POLYLINE_PRECISION = 100_000
INITIAL_HEADING = 0
"""Stands for "any": a reader draws one."""

Record = dict[str, Any]


def route_records(routes: list[Route], places: tuple[Place, ...], *, region: str) -> list[Record]:
    """Routes as `route_infos.json` holds them."""
    points = np.array([place.point for place in places])

    def landmark(leg: Leg) -> Record | None:
        # Measured as the crow flies first: there are far more places than near ones.
        near = np.flatnonzero(abs(points - leg.points[-1]) < LANDMARK_RADIUS + 1)
        return _landmark(leg, [places[index] for index in near], region)

    return [_route_record(route, [landmark(leg) for leg in route.legs[:-1]], region) for route in routes]


def _route_record(route: Route, landmarks: list[Record | None], region: str) -> Record:
    start, *turns = (geocode_at(point) for point in (route.legs[0].points[0], *(leg.points[-1] for leg in route.legs)))
    distances = [round(leg.length) for leg in route.legs]
    times = [round(distance / DRIVING_SPEED) for distance in distances]
    return {
        "start_place": _place_record(route.start, start, region) | {"relocated_geocode": start},
        "dest_place": _place_record(route.destination, turns[-1], region) | {"relocated_geocode": turns[-1]},
        "route_results": {
            "geocode_list": turns,
            "polyline": [_encode_polyline([geocode_at(point) for point in leg.points]) for leg in route.legs],
            "instructions": list(_driving_instructions(route)),
            "distance_list": distances,
            "time_list": times,
            "time": sum(times),
            "distance": sum(distances),
            "n_landmarks": sum(landmark is not None for landmark in landmarks),
            "landmark_list": landmarks,
        },
        "init_heading": INITIAL_HEADING,
        "instruction": _walking_instruction(route, landmarks),
        "milestone_info": "".join(_milestones(route, landmarks)),
    }


def _place_record(place: Place, seen_from: Point, region: str) -> Record:
    """A place; `distance` and `heading` say where it is seen from a point."""
    geocode = geocode_at(place.point)
    return {
        "name": place.name,
        "geocode": geocode,
        "rating": place.rating,
        "place_id": f"{region}-{place.name}".lower().replace(" ", "-"),
        "distance": distance_metres(seen_from, geocode),
        "n_reviews": place.num_reviews,
        "heading": bearing(seen_from, geocode),
        "photo_reference": "",
        "place_types": [place.place_type, "point_of_interest", "establishment"],
        "plus_code": {},
        "vicinity": place.address,
        "region": region,
    }


def _landmark(leg: Leg, places: list[Place], region: str) -> Record | None:
    """The landmark of the turn at the end of a leg, as seen by someone who arrives along it."""
    place = landmark_at(leg.points[-1], places)
    if place is None:
        return None
    record = _place_record(place, geocode_at(leg.points[-1]), region)
    side = side_word(leg.heading, record["heading"])
    return record | {"spatial_relation": side, "expression": f"{record['name']} is on your {side}"}


def _milestones(route: Route, landmarks: list[Record | None]) -> Iterator[str]:
    previous = INITIAL_HEADING
    for index, leg in enumerate(route.legs):
        if index < len(landmarks):
            landmark = landmarks[index]
            seen = landmark["expression"] if landmark else "No landmark nearby"
        else:
            seen = f"The destination {route.destination.name} is on your {_destination_side(route)}"
        heading = int(leg.heading)
        lines = {
            "intersection_idx": index + 1,
            "landmarks": seen,
            "distance": f"{round(leg.length)} meters",
            "human_heading": previous,
            "to_next_intersection_heading": f"{heading} ({compass_word(leg.heading)})",
        }
        yield "\n{\n" + "".join(f'"{key}": "{value}",\n' for key, value in lines.items()) + "}\n"
        previous = heading


def _destination_side(route: Route) -> str:
    last = route.legs[-1]
    return side_word(last.heading, bearing(geocode_at(last.points[-1]), geocode_at(route.destination.point)))


def _driving_instructions(route: Route) -> Iterator[str]:
    """One sentence a leg, with the bold marks of a map service."""
    first = route.legs[0]
    yield f"Head <b>{compass_word(first.heading)}</b> on <b>{first.street_name}</b>"
    for before, leg in pairwise(route.legs):
        yield f"Turn <b>{turn_word(before.heading, leg.heading)}</b> onto <b>{leg.street_name}</b>"


def _walking_instruction(route: Route, landmarks: list[Record | None]) -> str:
    """The whole route in plain sentences."""
    first = route.legs[0]
    sentences = [f"Leave {route.start.name} towards the {compass_word(first.heading)} along {first.street_name}."]
    for (before, leg), landmark in zip(pairwise(route.legs), landmarks, strict=True):
        where = f"At the crossing with {landmark['name']}" if landmark else "At the next turn"
        sentences.append(f"{where}, turn {turn_word(before.heading, leg.heading)} into {leg.street_name}.")
    sentences.append(f"Stop where {route.destination.name} is on your {_destination_side(route)}.")
    return " ".join(sentences)


def _encode_polyline(points: list[Point]) -> str:
    """The text in which map services write a line: differences of 1e-5 degrees, five bits a letter."""
    letters: list[str] = []
    previous = (0, 0)
    for latitude, longitude in points:
        current = (round(latitude * POLYLINE_PRECISION), round(longitude * POLYLINE_PRECISION))
        for old, new in zip(previous, current, strict=True):
            difference = new - old
            bits = ~(difference << 1) if difference < 0 else difference << 1
            while bits >= 0x20:
                letters.append(chr((0x20 | (bits & 0x1F)) + 63))
                bits >>= 5
            letters.append(chr(bits + 63))
        previous = current
    return "".join(letters)
