"""Builds a made-up city and writes it as a folder of routes, in the very format of the real V-IRL routes.

    build_city(folder, style=…, num_routes=…, seed=…) ─▶ CitySummary
      draw_map, add_places            streets, and named places on them         map.py, names.py
      find_routes                     shortest drives between places            routes.py
      SignsOnTheWay                   with emblems: their signs differ          landmarks.py
      route_records                   each route as the file describes it       records.py
      _name_panoramas                 where pictures stand: all along every street that a route walks
      build_scene, draw_panorama      what is seen there                        scene.py, panorama.py

    <folder>/route_infos.json                      [[route, …], number of routes]
    <folder>/gps_pano_mapping.pkl                  {(latitude, longitude): panorama}
    <folder>/street_views/<panorama>.jpg           equirectangular, twice as wide as high
    <folder>/street_views/<panorama>.metadata.json {"rotation": degrees, …}

The same arguments write the same bytes in any process; a city without pictures has the same other two files.
"""

import json
import math
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

from envs._city.landmarks import SignsOnTheWay
from envs._city.map import CityMap, add_places, draw_map
from envs._city.names import Pairs, check_signs, names_of
from envs._city.panorama import draw_panorama
from envs._city.records import route_records
from envs._city.routes import Route, find_routes, geocode_at
from envs._city.scene import Scene, build_scene
from envs._city.styles import STYLES

__all__ = ["STYLES", "CitySummary", "build_city"]

MIN_BLOCKS, MAX_BLOCKS = 4, 26
"""How many blocks across a city may be; it grows with the number of routes."""
MIN_PANORAMA_WIDTH = 64
PICKLE_PROTOCOL = 4
"""Fixed, so that the bytes do not depend on the Python version's default."""
JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class CitySummary:
    """What was written.

    Example: CitySummary(folder=Path("cities/oldtown"), style="oldtown", seed=7, num_routes=20,
             num_crossings=43, num_streets=60, num_places=96, num_panoramas=218, num_pictures=218)
    """

    folder: Path
    style: str
    seed: int
    num_routes: int
    num_crossings: int
    """On the whole map."""
    num_streets: int
    """Counted block by block."""
    num_places: int
    num_panoramas: int
    """In the mapping: along the streets that routes walk."""
    num_pictures: int
    """As many as panoramas; 0 for a city in words only."""

    def __str__(self) -> str:
        return (
            f"{self.style} (seed {self.seed}): {self.num_routes} routes, {self.num_places} places, "
            f"{self.num_streets} streets with {self.num_crossings} crossings; "
            f"{self.num_panoramas} panoramas, {self.num_pictures} of them drawn"
        )


def build_city(
    folder: Path,
    *,
    style: str,
    num_routes: int,
    seed: int,
    panorama_width: int = 1024,
    num_turns: tuple[int, int] = (2, 6),
    pictures: bool = True,
    look: str | None = None,
    pairs: Pairs = "all",
) -> CitySummary:
    """Writes a city with `num_routes` routes of `num_turns` (fewest, most) turns into a fresh folder."""
    _check_arguments(folder, style, num_routes, panorama_width, num_turns)
    check_signs(style, look, pairs)
    generator = Random(seed)
    num_blocks = min(MAX_BLOCKS, MIN_BLOCKS + math.isqrt(num_routes) // 2)
    city_map = draw_map(STYLES[style].layout, num_blocks, generator)
    places = add_places(city_map, names_of(STYLES[style], pairs), generator)
    accepts = SignsOnTheWay(city_map, places) if STYLES[style].color_names else lambda _: True
    routes = find_routes(
        city_map, places, num_routes=num_routes, num_turns=num_turns, generator=generator, accepts=accepts
    )
    records = route_records(routes, places, region=style)
    panoramas = _name_panoramas(city_map, routes, prefix=f"{style}-{seed}")
    mapping = {geocode_at(point): name for point, name in panoramas.items()}
    # Written beside the folder and renamed when complete, so that nobody ever reads half a city.
    unfinished = folder.parent / f".{folder.name}.unfinished-{os.getpid()}"
    try:
        unfinished.mkdir(parents=True)
        (unfinished / "route_infos.json").write_text(json.dumps([records, len(records)], indent=1) + "\n")
        (unfinished / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(mapping, protocol=PICKLE_PROTOCOL))
        if pictures:
            scene = build_scene(city_map, places, STYLES[look or style].look, generator)
            _write_pictures(unfinished / "street_views", scene, panoramas, panorama_width, generator)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return CitySummary(
        folder=folder,
        style=style,
        seed=seed,
        num_routes=len(routes),
        num_crossings=len(city_map.crossings),
        num_streets=len(city_map.street_names),
        num_places=len(places),
        num_panoramas=len(panoramas),
        num_pictures=len(panoramas) if pictures else 0,
    )


def _check_arguments(
    folder: Path, style: str, num_routes: int, panorama_width: int, num_turns: tuple[int, int]
) -> None:
    if style not in STYLES:
        raise ValueError(f"style={style!r} is no style of city; choose one of {', '.join(STYLES)}")
    if num_routes < 1:
        raise ValueError(f"num_routes={num_routes} must be at least 1")
    if panorama_width < MIN_PANORAMA_WIDTH or panorama_width % 2:
        raise ValueError(f"panorama_width={panorama_width} must be an even number from {MIN_PANORAMA_WIDTH}")
    if not 1 <= num_turns[0] <= num_turns[1]:
        raise ValueError(f"num_turns={num_turns} must be (fewest, most), with 1 <= fewest <= most")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and not empty; name a new folder, or remove this one first")


def _name_panoramas(city_map: CityMap, routes: list[Route], *, prefix: str) -> dict[complex, str]:
    """The viewpoints of every block that some route walks, with the names of their panoramas."""
    blocks = sorted({block for route in routes for leg in route.legs for block in leg.blocks})
    points = dict.fromkeys(point for block in blocks for point in city_map.viewpoints(*block))
    return {point: f"{prefix}-{index:05d}" for index, point in enumerate(points)}


def _write_pictures(folder: Path, scene: Scene, panoramas: dict[complex, str], width: int, generator: Random) -> None:
    folder.mkdir()
    for point, name in panoramas.items():
        # Real panoramas are turned by whichever way the car faced; no reader may get by without turning.
        rotation = round(generator.uniform(1.0, 359.0), 3)
        latitude, longitude = geocode_at(point)
        picture = draw_panorama(scene, point, rotation=rotation, width=width)
        picture.save(folder / f"{name}.jpg", quality=JPEG_QUALITY)
        metadata = {"pano_id": name, "rotation": rotation, "lat": latitude, "lng": longitude}
        (folder / f"{name}.metadata.json").write_text(json.dumps(metadata) + "\n")
