"""Which panorama stands where: reads the file `gps_pano_mapping.pkl` and finds the panorama nearest to a point.

    read_panoramas(path)              →  {(40.7412, -73.9896): "xK3f…", …}
    PanoramaIndex(panoramas).nearest((40.74121, -73.98963))  →  Stop(point=(40.7412, -73.9896), panorama="x…")

A pickle file is a program that may run anything when it is loaded, so this one is never loaded: the reader here knows
only the few instructions that such a dictionary is made of, and refuses the file at the first other one.
"""

import pickletools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, cos, floor, radians
from pathlib import Path
from typing import Any, Final

from envs._routes.compass import METRES_PER_DEGREE, Point, distance_metres
from envs.protocol import EnvError

SNAP_METRES: Final = 20.0
"""A point further than this from every panorama is on no street that was photographed."""

MAX_BYTES: Final = 64 * 2**20
"""A million panoramas; a larger file is not what it claims to be."""


class RouteDataError(EnvError):
    """A route data set is broken; the message names the file, the route and field, the value, the rule and the fix."""


def broken(
    file: Path, rule: str, fix: str, *, route: int | None = None, field: str = "", value: Any = None
) -> RouteDataError:
    """The error for one broken value."""
    place = ", ".join(part for part in ("" if route is None else f"route {route}", field) if part)
    shown = repr(value)
    shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
    where = f"{place}{' is ' + shown if value is not None else ''}: " if place else ""
    return RouteDataError(f"{file}: {where}{rule}; {fix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A place that was photographed.

    `Stop(point=(40.7412, -73.9896), panorama="xK3f")`: its pictures are `street_views/xK3f.*`.
    """

    point: Point
    """Where it is: latitude and longitude."""
    panorama: str
    """The name of its panorama."""


class PanoramaIndex:
    """Finds the nearest panorama without looking at all of them: only at the cells around the point."""

    _CELL = SNAP_METRES / METRES_PER_DEGREE

    def __init__(self, panoramas: Mapping[Point, str]) -> None:
        self._exact = panoramas
        self._cells: dict[tuple[int, int], list[Point]] = defaultdict(list)
        for point in panoramas:
            self._cells[self._cell(point)].append(point)

    def nearest(self, point: Point) -> Stop | None:
        """The nearest panorama, if there is one within SNAP_METRES."""
        if point in self._exact:
            return Stop(point=point, panorama=self._exact[point])
        row, column = self._cell(point)
        # A degree of longitude shrinks towards the poles, so more columns lie within reach there.
        reach = min(100, ceil(1 / max(0.01, cos(radians(point[0])))))
        candidates = (
            candidate
            for near_row in (row - 1, row, row + 1)
            for near_column in range(column - reach, column + reach + 1)
            for candidate in self._cells.get((near_row, near_column), ())
        )
        distance, found = min(((distance_metres(point, other), other) for other in candidates), default=(0.0, None))
        if found is None or distance > SNAP_METRES:
            return None
        return Stop(point=found, panorama=self._exact[found])

    def _cell(self, point: Point) -> tuple[int, int]:
        return floor(point[0] / self._CELL), floor(point[1] / self._CELL)


def read_panoramas(path: Path) -> dict[Point, str]:
    """The dictionary in the file, every key and value checked; raises RouteDataError for anything else."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise broken(path, f"{size} bytes are more than the {MAX_BYTES} that are read", "split the data set")
    try:
        mapping = _Reader().read(path.read_bytes())
    except _Refused as refusal:
        fix = "write it as pickle.dump of a plain dict {(latitude, longitude): name}"
        raise broken(path, f"{refusal}, so it is not loaded", fix) from None
    # What pickletools says of bytes that are no pickle, and what a wrong order of instructions leads to.
    except (ValueError, IndexError, KeyError) as error:
        raise broken(path, f"is no complete pickle file ({error})", "copy or make it again") from None
    for point, name in mapping.items():
        if not (-90 <= point[0] <= 90 and -180 <= point[1] <= 180):
            fix = "correct or remove it"
            raise broken(path, "a key must be (latitude, longitude) in degrees", fix, field="key", value=point)
        if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            fix = "name it as its file in street_views/ is named"
            raise broken(
                path,
                "a panorama's name must be a plain file name",
                fix,
                field=f"value of {point}",
                value=name,
            )
    return {(float(latitude), float(longitude)): name for (latitude, longitude), name in mapping.items()}


class _Refused(Exception):
    """The file holds something that a dictionary of points and names does not need."""


class _Reader:
    """Carries out the pickle instructions that make {(number, number): text}, and no others."""

    _IGNORED = frozenset({"PROTO", "FRAME"})
    _NUMBERS = frozenset({"FLOAT", "BINFLOAT", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"})
    _TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"})
    _PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
    _GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self, data: bytes) -> dict[tuple[float, float], str]:
        """What the instructions leave behind."""
        actions: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._marks.append(len(self._stack)),
            "EMPTY_DICT": lambda: self._stack.append({}),
            "DICT": lambda: self._stack.append(self._mapping({}, self._since_mark())),
            "SETITEM": lambda: self._set([self._stack.pop(-2), self._stack.pop()]),
            "SETITEMS": lambda: self._set(self._since_mark()),
            "TUPLE": lambda: self._stack.append(self._point(self._since_mark())),
            "TUPLE2": lambda: self._stack.append(self._point([self._stack.pop(-2), self._stack.pop()])),
        }
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in self._NUMBERS or name in self._TEXTS:
                self._stack.append(argument)
            elif name in self._PUTS:
                self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
            elif name in self._GETS and argument is not None:
                self._stack.append(self._memo[argument])
            elif name in actions:
                actions[name]()
            elif name == "STOP":
                break
            elif name not in self._IGNORED:
                raise _Refused(f"it holds the instruction {name}")
        mapping = self._stack.pop()
        if not isinstance(mapping, dict) or self._stack:
            raise _Refused("it does not hold one dictionary")
        return mapping

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _set(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise _Refused("it puts items into something that is no dictionary")
        self._mapping(self._stack[-1], values)

    @staticmethod
    def _mapping(mapping: dict[Any, str], values: list[Any]) -> dict[Any, str]:
        keys, names = values[::2], values[1::2]
        for key, name in zip(keys, names, strict=True):
            if type(key) is not tuple or type(name) is not str:
                raise _Refused(f"an item is {key!r:.60}: {name!r:.60}")
            mapping[key] = name
        return mapping

    @staticmethod
    def _point(values: list[Any]) -> tuple[float, float]:
        # Points hold numbers only: tuples within tuples could be made to take forever to hash.
        if len(values) != 2 or any(type(value) not in (int, float) for value in values):
            raise _Refused("a tuple is not made of two numbers")
        return (values[0], values[1])
