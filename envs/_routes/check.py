"""What a folder of routes holds: its routes in numbers, its words, its pictures, and each route that is left out.

    check_folder(folder)            →  FolderReport; report.describe() is text for people
    check_folder(folder).left_out   →  (LeftOut(number=17, title="Start → Blue Cafe", reason="…"), …)

It reads the folder exactly as the environment does, so what is counted here is what is played there. A picture of
all routes is drawn in `overview.py`.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from envs._routes.compass import distance_metres
from envs._routes.dataset import LeftOut, Route, RouteSet, read_routes
from envs._routes.pictures import PICTURES_FOLDER, PictureFolder
from envs._routes.printable import printable

PLACES_PER_SEGMENT: Final = 5
"""As many as the environment looks for if nothing else is said."""
NUM_NAMES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, middle and largest of some numbers: `Spread(least=120.0, middle=480.5, most=910.0)`."""

    least: float
    middle: float
    most: float

    @staticmethod
    def of(numbers: list[float]) -> "Spread":
        """Of at least one number."""
        return Spread(least=min(numbers), middle=median(numbers), most=max(numbers))

    def __str__(self) -> str:
        return f"{self.least:,.0f} to {self.most:,.0f}, median {self.middle:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderReport:
    """What a folder of routes holds.

    Three routes of which one lacks a picture:
    `FolderReport(folder=Path("nyc"), num_routes=2, num_positions=41, num_turns=9, positions=Spread(…), turns=Spread(…),
    lengths=Spread(…), landmarks={"Joe's Pizza": 2, …}, sides={"on your left": 5, …}, num_panoramas=57,
    missing=("xK3f.jpg",), left_out=(LeftOut(…),), pictures="checked")`
    """

    folder: Path
    num_routes: int
    """Those that can be played."""
    num_positions: int
    """Places of all their rails, if none is dropped: where the traveller can be asked."""
    num_turns: int
    """Of those places, the ones where a turn is right, the start included."""
    positions: Spread | None
    """Of a route; None where there is no route to play, like the other two."""
    turns: Spread | None
    lengths: Spread | None
    """In metres, along the straight lines between turn points."""
    landmarks: dict[str, int]
    """How often each name is passed, the most frequent first."""
    sides: dict[str, int]
    """How often each way to say where it is seen."""
    num_panoramas: int
    """Different ones that routes pass, of those too that only lack a picture."""
    missing: tuple[str, ...]
    """The files of these panoramas that are not there."""
    left_out: tuple[LeftOut, ...]
    """The routes that cannot be played, each with its number, its title and the reason."""
    pictures: str
    """`checked`, `not asked for`, or `none` where there is no folder of them and routes are for words only."""

    def describe(self) -> str:
        """All of it as text for a terminal."""
        left_out = f"{len(self.left_out):,} {'is' if len(self.left_out) == 1 else 'are'} left out"
        lines = [
            f"{self.folder}",
            f"  routes      {self.num_routes:,} can be played, {left_out}",
        ]
        if self.positions:
            lines += [
                f"  positions   {self.num_positions:,} ({self.positions} a route)",
                f"  turns       {self.num_turns:,} ({self.turns} a route)",
                f"  lengths     {self.lengths} metres",
                f"  landmarks   {len(self.landmarks):,} names: {_most_frequent(self.landmarks)}",
                f"  sides       {len(self.sides):,} ways to say: {_most_frequent(self.sides)}",
            ]
        lines.append(f"  panoramas   {self._panoramas()}")
        if self.left_out:
            lines += ["", "Left out:"]
        lines += [f"  {entry.number}  {entry.title}\n      {entry.reason}" for entry in self.left_out]
        return printable("\n".join(lines))

    def _panoramas(self) -> str:
        passed = f"{self.num_panoramas:,} on the routes"
        if self.pictures == "none":
            return f"{passed}; there is no {PICTURES_FOLDER}/, so the routes can be played in words only"
        if self.pictures == "not asked for":
            return f"{passed}; their pictures were not looked at"
        if not self.missing:
            return f"{passed}, all with picture and metadata"
        return f"{passed}; {len(self.missing):,} of their {2 * self.num_panoramas:,} files are missing"


def read_for_check(folder: Path, *, pictures: bool) -> RouteSet:
    """The routes as the environment reads them; in words where there are no pictures at all."""
    with_pictures = pictures and (folder / PICTURES_FOLDER).is_dir()
    return read_routes(folder, places_per_segment=PLACES_PER_SEGMENT, pictures=with_pictures)


def check_folder(folder: Path, *, pictures: bool = True) -> FolderReport:
    """What the folder holds; raises RouteDataError where it is wrong as a whole."""
    in_words = read_for_check(folder, pictures=False)
    found = read_for_check(folder, pictures=pictures)
    has_pictures = (folder / PICTURES_FOLDER).is_dir()
    passed = sorted({stop.panorama for route in in_words.routes for stop in route.stops})
    present = PictureFolder(folder) if pictures and has_pictures else None
    landmarks = [segment.landmark for route in found.routes for segment in route.segments if segment.landmark]
    num_positions = [len(route.stops) for route in found.routes]
    num_turns = [len(route.segments) for route in found.routes]
    return FolderReport(
        folder=folder,
        num_routes=len(found.routes),
        num_positions=sum(num_positions),
        num_turns=sum(num_turns),
        positions=_spread(num_positions),
        turns=_spread(num_turns),
        lengths=_spread([length_metres(route) for route in found.routes]),
        landmarks=dict(Counter(landmark.name for landmark in landmarks).most_common()),
        sides=dict(Counter(landmark.side for landmark in landmarks).most_common()),
        num_panoramas=len(passed),
        missing=tuple(name for panorama in passed for name in present.missing(panorama)) if present else (),
        left_out=found.left_out,
        pictures=("checked" if has_pictures else "none") if pictures else "not asked for",
    )


def length_metres(route: Route) -> float:
    """Along the straight lines between its turn points."""
    return sum(distance_metres(origin, target) for origin, target in pairwise(route.turn_points))


def _spread(numbers: list[int] | list[float]) -> Spread | None:
    return Spread.of([float(number) for number in numbers]) if numbers else None


def _most_frequent(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(counts.items())[:NUM_NAMES_SHOWN]]
    return ", ".join(shown) + (", …" if len(counts) > NUM_NAMES_SHOWN else "")
