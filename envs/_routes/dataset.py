"""Route data sets: reads a folder, checks all of it, and says which route and which field is wrong.

    <folder>/route_infos.json              ─┐
    <folder>/gps_pano_mapping.pkl           ├─▶ load_routes(folder, …)  →  RouteSet(routes=(Route, …), …)
    <folder>/street_views/<panorama>.*      ─┘        (only where pictures are asked for)

    Route  =  start ─ Segment ─ turn point ─ Segment ─ … ─ destination

The folder has the original's format, so its data can be used as they are; what else the files hold is
ignored. A set is read once per process, and again only when its files change.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from os import scandir
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs._routes.compass import Point, distance_metres
from envs._routes.milestones import Fault, Landmark, read_milestones
from envs._routes.panorama_index import SNAP_METRES, PanoramaIndex, Stop, broken, read_panoramas

ROUTES_FILE: Final = "route_infos.json"
PANORAMAS_FILE: Final = "gps_pano_mapping.pkl"
PICTURES_FOLDER: Final = "street_views"

SHORT_SEGMENT_METRES: Final = 5.0
"""A segment no longer than this has no places on the way."""
CLEAR_OF_ENDS_METRES: Final = 8.0
"""A place on the way is further than this from both ends of its segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The straight way from one turn point to the next.

    80 metres to the west with two places on the way, up to a corner with a cafe:
    `Segment(heading=270.0, compass="west", between=(Stop(…), Stop(…)), end=Stop(…), landmark=Landmark(…))`
    """

    heading: float
    """Which way it leads."""
    compass: str
    """The same in a word."""
    between: tuple[Stop, ...]
    """The places on the way."""
    end: Stop
    """The next turn point, or the destination."""
    landmark: Landmark | None
    """What stands at its end; of the last segment, the destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route, from its start to its destination.

    `Route(identity="9f2c…", initial_heading=None, start=Stop(…), segments=(Segment(…), Segment(…)))`
    """

    identity: str
    """A digest of where it leads; it stays the same when other routes come or go."""
    initial_heading: float | None
    """Which way the traveller faces at first; None where the data leave it open, with a 0."""
    start: Stop
    """Where it begins."""
    segments: tuple[Segment, ...]
    """At least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSet:
    """All routes of a folder, and what is needed to show their places.

    `RouteSet(folder=Path("nyc_1k_routes"), routes=(Route(…), …), rotations={"xK3f": 211.4, …})`
    """

    folder: Path
    """Where it was read from."""
    routes: tuple[Route, ...]
    """In the order of the file."""
    rotations: dict[str, float]
    """By panorama, how far its left edge is turned away from north; empty where no pictures were asked for."""

    def picture(self, panorama: str) -> Path:
        """The file that shows the place."""
        return self.folder / PICTURES_FOLDER / f"{panorama}.jpg"


_Point = tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]]


class _Read(BaseModel):
    """What is read of an object in the files; the rest is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Place(_Read):
    relocated_geocode: _Point


class _Results(_Read):
    geocode_list: Annotated[tuple[_Point, ...], Field(min_length=1)]


class _Record(_Read):
    start_place: _Place
    route_results: _Results
    init_heading: float
    milestone_info: str


class _Metadata(_Read):
    rotation: float


def load_routes(folder: Path, *, places_per_segment: int, pictures: bool) -> RouteSet:
    """The routes in a folder; raises RouteDataError for the first thing in it that is wrong."""
    folder = folder.resolve()
    stamps = []
    for name in (ROUTES_FILE, PANORAMAS_FILE):
        if not (folder / name).is_file():
            raise broken(folder / name, "there is no such file", "name a folder that holds it")
        stamps.append((folder / name).stat().st_mtime_ns)
    return _load(folder, tuple(stamps), places_per_segment, pictures)


@lru_cache(maxsize=8)
def _load(folder: Path, _stamps: tuple[int, ...], places_per_segment: int, pictures: bool) -> RouteSet:
    path = folder / ROUTES_FILE
    index = PanoramaIndex(read_panoramas(folder / PANORAMAS_FILE))
    routes = tuple(
        _route(record, index, places_per_segment, partial(broken, path, route=number))
        for number, record in enumerate(_records(path))
    )
    rotations = _rotations(folder / PICTURES_FOLDER, routes) if pictures else {}
    return RouteSet(folder=folder, routes=routes, rotations=rotations)


def _records(path: Path) -> list[Any]:
    """The routes as they stand in the file: in a list, which a counter follows that nothing needs."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise broken(path, f"is not JSON ({error})", "copy or make it again") from None
    if not isinstance(content, list) or not content or not isinstance(content[0], list):
        raise broken(path, "must be [[route, route, ...], counter]", "put the routes into a list within a list")
    if not content[0]:
        raise broken(path, "holds no routes", "add some")
    return content[0]


def _route(content: Any, index: PanoramaIndex, places_per_segment: int, fault: Fault) -> Route:
    try:
        record = _Record.model_validate(content)
    except ValidationError as error:
        raise fault(fix="correct it or remove the route", **_first_error(error)) from None
    points = record.route_results.geocode_list
    milestones = read_milestones(record.milestone_info, len(points), fault)
    start = _snapped(record.start_place.relocated_geocode, "start_place.relocated_geocode", index, fault)
    ends = [_snapped(point, f"route_results.geocode_list.{i}", index, fault) for i, point in enumerate(points)]
    return Route(
        identity=_identity([record.start_place.relocated_geocode, *points]),
        initial_heading=None if abs(record.init_heading) < 1e-6 else record.init_heading % 360.0,
        start=start,
        segments=tuple(
            Segment(
                heading=milestone.heading,
                compass=milestone.compass,
                between=tuple(_places_between(origin.point, end.point, index, places_per_segment)),
                end=end,
                landmark=milestone.landmark,
            )
            for milestone, origin, end in zip(milestones, [start, *ends[:-1]], ends, strict=True)
        ),
    )


def _snapped(point: Point, field: str, index: PanoramaIndex, fault: Fault) -> Stop:
    stop = index.nearest(point)
    if stop is None:
        rule = f"{PANORAMAS_FILE} has no panorama within {SNAP_METRES:g} metres"
        raise fault(rule, "add one or remove the route", field=field, value=point)
    return stop


def _places_between(start: Point, end: Point, index: PanoramaIndex, num_places: int) -> Iterator[Stop]:
    """The panoramas at equal distances on the way; where a street bends away from the straight line, there is none."""
    if distance_metres(start, end) <= SHORT_SEGMENT_METRES:
        return
    for step in range(1, num_places + 1):
        share = step / num_places
        stop = index.nearest((start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share))
        if stop and all(distance_metres(stop.point, point) > CLEAR_OF_ENDS_METRES for point in (start, end)):
            yield stop


def _identity(points: list[Point]) -> str:
    # To a tenth of a metre: the same route written by another program is the same route.
    text = ";".join(f"{round(number, 6) + 0.0:.6f}" for point in points for number in point)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rotations(folder: Path, routes: tuple[Route, ...]) -> dict[str, float]:
    """How every panorama of the routes is turned; raises RouteDataError where one cannot be shown."""
    present = {entry.name for entry in scandir(folder)} if folder.is_dir() else set()
    rotations: dict[str, float] = {}
    for number, route in enumerate(routes):
        stops = [
            route.start,
            *(stop for segment in route.segments for stop in (*segment.between, segment.end)),
        ]
        for panorama in {stop.panorama for stop in stops} - rotations.keys():
            for name in (f"{panorama}.jpg", f"{panorama}.metadata.json"):
                if name not in present:
                    rule = f"route {number} passes this panorama, and the file is not there"
                    raise broken(folder / name, rule, "add it, or use modality: text")
            rotations[panorama] = _rotation(folder / f"{panorama}.metadata.json", number)
    return rotations


def _rotation(path: Path, route: int) -> float:
    try:
        return _Metadata.model_validate_json(path.read_bytes()).rotation
    except ValidationError as error:
        raise broken(path, fix='write {"rotation": <degrees>}', route=route, **_first_error(error)) from None


def _first_error(error: ValidationError) -> dict[str, Any]:
    """Field, value and rule."""
    first = error.errors()[0]
    rule = "must be an object, {...}" if first["type"] == "model_type" else first["msg"]
    value = None if first["type"] == "missing" else first["input"]
    return {"field": ".".join(map(str, first["loc"])), "value": value, "rule": rule}
