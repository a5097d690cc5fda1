"""Which panorama stands where: reads the file `gps_pano_mapping.pkl` and finds the panorama nearest to a point.

read_panoramas(path)              →  {(40.7412, -73.9896): "xK3f…", …}
PanoramaIndex(panoramas).nearest((40.74121, -73.98963))  →  Stop(point=(40.7412, -73.9896), panorama="x…")
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, cos, floor, radians
from pathlib import Path
from typing import Final

from envs._routes.compass import METRES_PER_DEGREE, Point, distance_metres
from envs._routes.faults import broken, read_file
from envs._routes.mapping_pickle import Refused, read_mapping
from envs._routes.printable import is_printable

SNAP_METRES: Final = 20.0
"""A point further than this from every panorama is on no street that was photographed."""

MAX_BYTES: Final = 32 * 2**20
"""Half a million panoramas; a larger file is not what it claims to be."""
MAX_NAME_LENGTH: Final = 200
"""Of a panorama; files have names of at most 255 bytes."""
MAX_WITHIN_REACH: Final = 1000
"""Panoramas in a square of SNAP_METRES; a real street has some ten, and more would make each search a long one."""

_CELL_DEGREES: Final = SNAP_METRES / METRES_PER_DEGREE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A place that was photographed.

    `Stop(point=(40.7412, -73.9896), panorama="xK3f")`: its pictures are `street_views/xK3f.*`.
    """

    point: Point
    """Where it is: latitude and longitude."""
    panorama: str
    """The name of its panorama; empty where the data have none, so that the place can be told of and not shown."""


class PanoramaIndex:
    """Finds the nearest panorama without looking at all of them: only at the cells around the point."""

    def __init__(self, panoramas: Mapping[Point, str]) -> None:
        self._exact = panoramas
        self._cells: dict[tuple[int, int], list[Point]] = defaultdict(list)
        for point in panoramas:
            self._cells[cell_of(point)].append(point)

    def nearest(self, point: Point) -> Stop | None:
        """The nearest panorama, if there is one within SNAP_METRES."""
        if point in self._exact:
            return Stop(point=point, panorama=self._exact[point])
        row, column = cell_of(point)
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


def cell_of(point: Point) -> tuple[int, int]:
    """The square of SNAP_METRES that a point lies in, by rows and columns; narrower far from the equator."""
    return floor(point[0] / _CELL_DEGREES), floor(point[1] / _CELL_DEGREES)


def read_panoramas(path: Path) -> dict[Point, str]:
    """The dictionary in the file, every key and value checked; raises RouteDataError for anything else."""
    data = read_file(path, max_bytes=MAX_BYTES)
    try:
        mapping = read_mapping(data)
    except Refused as refusal:
        fix = "write it as pickle.dump of a plain dict {(latitude, longitude): name}"
        raise broken(path, f"{refusal}, so it is not loaded", fix) from None
    # What pickletools says of bytes that are no pickle, and what a wrong order of instructions leads to.
    except (ValueError, IndexError, KeyError) as error:
        raise broken(path, f"is no complete pickle file ({error})", "copy or make it again") from None
    for point, name in mapping.items():
        is_plain = is_printable(name) and not name.startswith(".") and not any(sign in name for sign in "/\\\n\t")
        if not is_plain or len(name) > MAX_NAME_LENGTH:
            rule = f"a panorama's name must be a plain file name of at most {MAX_NAME_LENGTH} signs"
            raise broken(
                path, rule, "name it as its file in street_views/ is named", field=f"value of {point}", value=name
            )
    cell, most = max(Counter(map(cell_of, mapping)).items(), key=lambda item: item[1], default=((0, 0), 0))
    if most > MAX_WITHIN_REACH:
        near = f"{cell[0] * _CELL_DEGREES:.4f}, {cell[1] * _CELL_DEGREES:.4f}"
        rule = f"{most} panoramas within {SNAP_METRES:g} metres of ({near}) are more than {MAX_WITHIN_REACH}"
        raise broken(path, rule, "keep those that stand on streets")
    return mapping
