"""Route data sets: reads a folder, checks all of it, and says which route cannot be played and why.

    <folder>/route_infos.json              ─┐
    <folder>/gps_pano_mapping.pkl           ├─▶ load_routes(folder, …)  →  RouteSet(entries=(Route, LeftOut, …), …)
    <folder>/street_views/<panorama>.*      ─┘        (only where pictures are asked for)

    Route  =  start ─ Segment ─ turn point ─ Segment ─ … ─ destination

The folder has the original's format, so its data can be used as they are; what else the files hold is
ignored. A route that cannot be played is left out and keeps its place in the list, so that the others keep
their splits, which hang on each route's own way, and their seeds. A folder that is wrong as a whole is refused.
A set is read once per process, and again only when its files change.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from envs._routes.compass import Point, distance_metres
from envs._routes.faults import RouteDataError, broken
from envs._routes.milestones import Fault, Landmark, read_milestones
from envs._routes.panorama_index import SNAP_METRES, PanoramaIndex, Stop, read_panoramas
from envs._routes.pictures import PICTURES_FOLDER, PictureFolder, folder_stamp
from envs._routes.records import Record, read_record, read_records, title, way_of

ROUTES_FILE: Final = "route_infos.json"
PANORAMAS_FILE: Final = "gps_pano_mapping.pkl"

SHORT_SEGMENT_METRES: Final = 5.0
"""A segment no longer than this has no places on the way."""
CLEAR_OF_ENDS_METRES: Final = 8.0
"""A place on the way is further than this from both ends of its segment."""
NUM_FAULTS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The straight way from one turn point to the next.

    80 metres to the west with two places on the way, up to a corner with a cafe:
    `Segment(heading=270.0, compass="west", between=(Stop(…), Stop(…)), end=Stop(…), landmark=Landmark(…))`
    """

    heading: float
    """Which way it leads, as the data have it."""
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
    """Which way the traveller faces at first, as the data have it; None where they leave it open, with a 0."""
    start: Stop
    """Where it begins."""
    segments: tuple[Segment, ...]
    """At least one."""

    @property
    def turn_points(self) -> tuple[Point, ...]:
        """Its start, where it turns, and its destination."""
        return (self.start.point, *(segment.end.point for segment in self.segments))

    @property
    def stops(self) -> tuple[Stop, ...]:
        """All its places in their order."""
        return (self.start, *(stop for segment in self.segments for stop in (*segment.between, segment.end)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A route that cannot be played.

    `LeftOut(number=17, title="Start → Blue Cafe", reason="street_views/xK3f.jpg: route 17 passes this panorama, …",
    way=((40.7412, -73.9896), …), identity="9f2c…")`
    """

    number: int
    """Its place in the file, from 0."""
    title: str
    """Where it would lead from and to, in printable words."""
    reason: str
    """The file, the field, the value, the rule and the fix."""
    way: tuple[Point, ...]
    """Its start and its turn points; empty where they cannot be read."""
    identity: str | None
    """As of a route; None where its way cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSet:
    """All routes of a folder, and what is needed to show their places.

    `RouteSet(folder=Path("nyc_1k_routes"), entries=(Route(…), LeftOut(…), …), rotations={"xK3f": 211.4, …})`
    """

    folder: Path
    """Where it was read from."""
    entries: tuple[Route | LeftOut, ...]
    """In the order of the file."""
    rotations: dict[str, float]
    """By panorama, how far its left edge is turned away from north; empty where no pictures were asked for."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that can be played."""
        return tuple(entry for entry in self.entries if isinstance(entry, Route))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Those that cannot."""
        return tuple(entry for entry in self.entries if isinstance(entry, LeftOut))

    def picture(self, panorama: str) -> Path:
        """The file that shows the place."""
        return self.folder / PICTURES_FOLDER / f"{panorama}.jpg"


def load_routes(folder: Path, *, places_per_segment: int, pictures: bool, strict: bool = False) -> RouteSet:
    """The routes in a folder; raises RouteDataError if none of them, or with `strict` if not all, can be played."""
    found = read_routes(folder, places_per_segment=places_per_segment, pictures=pictures)
    faults = [entry.reason for entry in found.left_out]
    if faults and (strict or not found.routes):
        shown = [f"  {fault}" for fault in faults[:NUM_FAULTS_SHOWN]]
        if len(faults) > NUM_FAULTS_SHOWN:
            shown.append(f"  … and {len(faults) - NUM_FAULTS_SHOWN} more")
        rule = f"{len(faults)} of {len(found.entries)} routes cannot be played"
        fix = "correct them, or play the others with env.strict_data: false" if found.routes else "correct them"
        raise RouteDataError("\n".join([str(broken(found.folder, rule, f"{fix}:")), *shown]))
    return found


def read_routes(folder: Path, *, places_per_segment: int, pictures: bool) -> RouteSet:
    """The same, of which all routes may be left out."""
    folder = folder.resolve()
    stamps: list[Any] = []
    for name in (ROUTES_FILE, PANORAMAS_FILE):
        if not (folder / name).is_file():
            raise broken(folder / name, "there is no such file", "name a folder that holds it")
        status = (folder / name).stat()
        stamps.append((status.st_mtime_ns, status.st_size))
    if pictures:
        stamps.append(folder_stamp(folder))
    return _read(folder, tuple(stamps), places_per_segment, pictures)


@lru_cache(maxsize=8)
def _read(folder: Path, _stamps: tuple[Any, ...], places_per_segment: int, pictures: bool) -> RouteSet:
    path = folder / ROUTES_FILE
    index = PanoramaIndex(read_panoramas(folder / PANORAMAS_FILE))
    shown = PictureFolder(folder) if pictures else None
    entries: list[Route | LeftOut] = []
    for number, content in enumerate(read_records(path)):
        fault = partial(broken, path, route=number)
        try:
            route = _route(read_record(content, fault), index, places_per_segment, fault)
            if shown:
                shown.require(dict.fromkeys(stop.panorama for stop in route.stops), route=number)
            entries.append(route)
        except RouteDataError as error:
            way = way_of(content)
            entries.append(
                LeftOut(
                    number=number,
                    title=title(content),
                    reason=str(error).removeprefix(f"{folder}/"),
                    way=way,
                    identity=_identity(way) if way else None,
                )
            )
    return RouteSet(folder=folder, entries=tuple(entries), rotations=shown.rotations if shown else {})


def _route(record: Record, index: PanoramaIndex, places_per_segment: int, fault: Fault) -> Route:
    points = record.turn_points
    milestones = read_milestones(record.milestone_info, len(points), fault)
    start = _snapped(record.start, "start_place.relocated_geocode", index, fault)
    ends = [_snapped(point, f"route_results.geocode_list.{i}", index, fault) for i, point in enumerate(points)]
    return Route(
        identity=_identity((record.start, *points)),
        initial_heading=None if abs(record.initial_heading) < 1e-6 else record.initial_heading,
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


def _identity(points: tuple[Point, ...]) -> str:
    # To a tenth of a metre: the same route written by another program is the same route.
    text = ";".join(f"{round(number, 6) + 0.0:.6f}" for point in points for number in point)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
