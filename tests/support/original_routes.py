"""Folders of routes in the original's format, made by hand: nothing of the project's own cities writes them.

write_routes(folder, [Way(start=…, legs=(Leg(0, 80, "Joe's Pizza is on your left"), …), destination=…)])
  route_infos.json       with all the fields that the original's collector leaves, of which few are read
  gps_pano_mapping.pkl   a panorama every 16 metres along each leg
  street_views/          each quarter of the horizon in the colour of its compass direction, turned by any angle
"""

import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Point = tuple[float, float]

METRE = 1 / 111_194.93
"""In degrees of latitude."""
SPACING = 16
WIDTH = 128
COMPASS = ("north", "east", "south", "west")
COLORS = {"north": (200, 0, 0), "east": (0, 200, 0), "south": (0, 0, 200), "west": (200, 200, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """So many metres towards a compass direction, and what is seen at the end."""

    towards: str
    metres: int
    seen: str = "No landmark nearby"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A route; the last leg ends at the destination, which is on the right."""

    start: Point
    legs: tuple[Leg, ...]
    destination: str


def write_routes(folder: Path, ways: Sequence[Way]) -> Path:
    """Writes the folder, pictures included."""
    (folder / "street_views").mkdir(parents=True)
    mapping: dict[Point, str] = {}
    records = [_record(way, mapping) for way in ways]
    (folder / "route_infos.json").write_text(json.dumps([records, len(records)]))
    (folder / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(mapping))
    for number, panorama in enumerate(mapping.values()):
        rotation = 37.5 * number % 360
        columns = (np.arange(WIDTH) + 0.5) * 360 / WIDTH - rotation
        row = np.array([COLORS[COMPASS[round(column / 90) % 4]] for column in columns], dtype=np.uint8)
        picture = Image.fromarray(np.repeat(row[None], WIDTH // 2, axis=0))
        picture.save(folder / "street_views" / f"{panorama}.jpg", quality=95, subsampling=0)
        metadata = {"pano_id": panorama, "rotation": rotation, "date": "2019-07", "copyright": "© nobody"}
        (folder / "street_views" / f"{panorama}.metadata.json").write_text(json.dumps(metadata))
    return folder


def _moved(point: Point, towards: str, metres: float) -> Point:
    north, east = {"north": (1, 0), "east": (0, 1), "south": (-1, 0), "west": (0, -1)}[towards]
    return (
        point[0] + north * metres * METRE,
        point[1] + east * metres * METRE / math.cos(math.radians(point[0])),
    )


def _record(way: Way, mapping: dict[Point, str]) -> dict[str, Any]:
    point, heading, blocks, turn_points = way.start, 0, [], []
    for number, leg in enumerate(way.legs, start=1):
        for metres in range(0, leg.metres + 1, SPACING):
            mapping.setdefault(_moved(point, leg.towards, metres), f"CAoSLEFG{len(mapping):04d}")
        point = _moved(point, leg.towards, leg.metres)
        mapping.setdefault(point, f"CAoSLEFG{len(mapping):04d}")
        turn_points.append(point)
        last = number == len(way.legs)
        seen = f"The destination {way.destination} is on your right" if last else leg.seen
        bearing = COMPASS.index(leg.towards) * 90
        blocks.append(
            f'{{\n"intersection_idx": "{number}",\n"landmarks": "{seen}",\n"distance": "{leg.metres} meters",\n'
            f'"human_heading": "{heading}",\n"to_next_intersection_heading": "{bearing} ({leg.towards})",\n}}\n'
        )
        heading = bearing
    return {
        "start_place": _place("Home", way.start),
        "dest_place": _place(way.destination, point),
        "route_results": {
            "geocode_list": turn_points,
            "polyline": ["_p~iF~ps|U"] * len(way.legs),
            "instructions": [f"Head <b>{leg.towards}</b>" for leg in way.legs],
            "distance_list": [leg.metres for leg in way.legs],
            "n_landmarks": sum(leg.seen != Leg.seen for leg in way.legs[:-1]),
            "landmark_list": [None] * (len(way.legs) - 1),
        },
        "init_heading": 0,
        "instruction": "Walk there.",
        "milestone_info": "\n".join(["", *blocks]),
    }


def _place(name: str, point: Point) -> dict[str, Any]:
    return {"name": name, "geocode": point, "place_id": "ChIJ", "plus_code": {}, "relocated_geocode": point}
