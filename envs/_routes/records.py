"""The routes as `route_infos.json` writes them: `[[route, route, …], counter]`, each an object of which little is read.

read_records(path)            →  [{…}, {…}]                 the file, or RouteDataError
read_record(content, fault)   →  Record(start=…, …)         one route, every field of it checked, or the fault
way_of(content), title(content)                             what can be said of any, however broken
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs._routes.compass import Point
from envs._routes.faults import broken, first_error, read_file
from envs._routes.milestones import Fault
from envs._routes.printable import printable

MAX_BYTES: Final = 64 * 2**20
"""Several thousand routes with all that the original's files tell of them."""
MAX_CONTAINERS: Final = 2_000_000
"""Lists and objects; an empty one takes sixty times its two bytes once it is read."""
MAX_ROUTES: Final = 100_000
MAX_TURN_POINTS: Final = 500
"""The real routes have eight at most; the words of a route and its record grow with them."""
MAX_HEADING: Final = 1e6

_Point = tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]]


class _Read(BaseModel):
    """What is read of an object in the file; the rest is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Place(_Read):
    relocated_geocode: _Point


class _Results(_Read):
    geocode_list: Annotated[tuple[_Point, ...], Field(min_length=1, max_length=MAX_TURN_POINTS, fail_fast=True)]


class _Way(_Read):
    start_place: _Place
    route_results: _Results


class _Route(_Way):
    init_heading: float = Field(default=0.0, ge=-MAX_HEADING, le=MAX_HEADING)
    milestone_info: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is read of a route.

    `Record(start=(40.7412, -73.9896), turn_points=((40.7418, -73.9891), …), initial_heading=0.0, milestone_info="{…")`
    """

    start: Point
    """Where it begins."""
    turn_points: tuple[Point, ...]
    """Where it turns and, last, its destination; at least one."""
    initial_heading: float
    """Which way the traveller faces at first; 0 stands for any, as does a missing one."""
    milestone_info: str
    """The text about each of the turn points."""


def read_records(path: Path) -> list[Any]:
    """The routes as they stand in the file: in a list, which a counter follows that nothing needs."""
    data = read_file(path, max_bytes=MAX_BYTES)
    num_containers = data.count(b"[") + data.count(b"{")
    if num_containers > MAX_CONTAINERS:
        raise broken(path, f"{num_containers} brackets are more than the {MAX_CONTAINERS} that are read", "split it")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise broken(path, f"is not JSON ({error})", "copy or make it again") from None
    if not isinstance(content, list) or not content or not isinstance(content[0], list):
        raise broken(path, "must be [[route, route, ...], counter]", "put the routes into a list within a list")
    if not content[0]:
        raise broken(path, "holds no routes", "add some")
    if len(content[0]) > MAX_ROUTES:
        raise broken(path, f"{len(content[0])} routes are more than the {MAX_ROUTES} that are read", "split it")
    return content[0]


def read_record(content: Any, fault: Fault) -> Record:
    """One route; raises the fault for the first field that is wrong."""
    try:
        record = _Route.model_validate(content)
    except ValidationError as error:
        raise fault(fix="correct it or remove the route", **first_error(error)) from None
    return Record(
        start=record.start_place.relocated_geocode,
        turn_points=record.route_results.geocode_list,
        initial_heading=record.init_heading,
        milestone_info=record.milestone_info,
    )


def way_of(content: Any) -> tuple[Point, ...]:
    """The start and the turn points of a route, whatever else is wrong with it; empty where they cannot be read."""
    try:
        way = _Way.model_validate(content)
    except ValidationError:
        return ()
    return (way.start_place.relocated_geocode, *way.route_results.geocode_list)


def title(content: Any) -> str:
    """Where a route leads from and to, as far as it says so."""
    return f"{_name(content, 'start_place')} → {_name(content, 'dest_place')}"


def _name(content: Any, field: str) -> str:
    place = content.get(field) if isinstance(content, dict) else None
    name = place.get("name") if isinstance(place, dict) else None
    return " ".join(printable(name[:60]).split()) if isinstance(name, str) and name.strip() else "?"
