"""Cities: the same bytes for the same arguments, and every route as true as the format of real ones promises."""

import json
import os
import pickle
import pickletools
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from envs._city import build
from envs._city.build import STYLES, build_city
from envs._city.map import CityMap, Place, add_places, draw_map
from envs._city.names import names_of
from envs._city.records import _encode_polyline, route_records
from envs._city.routes import Route, find_routes, geocode_at
from envs._routes.compass import COMPASS_WORDS, Point, bearing, compass_word, distance_metres, side_word, wrap_degrees
from envs._routes.dataset import load_routes

ROOT = Path(__file__).parents[3]
NUM_ROUTES = 200
Record = dict[str, Any]


@pytest.fixture(scope="module", params=list(STYLES))
def city(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A city of 200 routes in words only, in each style."""
    folder = tmp_path_factory.mktemp("cities") / request.param
    build_city(folder, style=request.param, num_routes=NUM_ROUTES, seed=5, pictures=False)
    return folder


@pytest.fixture(scope="module")
def drawn_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small city with small pictures."""
    folder = tmp_path_factory.mktemp("cities") / "drawn"
    build_city(folder, style="oldtown", num_routes=2, seed=5, panorama_width=128, num_turns=(2, 3))
    return folder


def routes_of(folder: Path) -> list[Record]:
    return json.loads((folder / "route_infos.json").read_text())[0]


def mapping_of(folder: Path) -> dict[Point, str]:
    # Our own file, made by this test: there is nothing in it that could run.
    return pickle.loads((folder / "gps_pano_mapping.pkl").read_bytes())


def milestones_of(route: Record) -> list[dict[str, str]]:
    """The blocks of `milestone_info`; apart from the comma after its last line each is JSON."""
    blocks = route["milestone_info"].split("}\n")
    return [json.loads(block.rstrip().removesuffix(",") + "}") for block in blocks if block.strip()]


def legs_of(route: Record) -> list[tuple[Point, Point]]:
    """From the start over all turns to the destination."""
    points = [route["start_place"]["relocated_geocode"], *route["route_results"]["geocode_list"]]
    return list(pairwise((latitude, longitude) for latitude, longitude in points))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@cache
def plan_of(style: str) -> tuple[CityMap, tuple[Place, ...], list[Route]]:
    """A small city before it is written."""
    generator = Random(3)
    city_map = draw_map(STYLES[style].layout, 6, generator)
    places = add_places(city_map, names_of(STYLES[style]), generator)
    routes = find_routes(city_map, places, num_routes=20, num_turns=(2, 6), generator=generator)
    return city_map, places, routes


def test_the_same_arguments_write_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from envs._city.build import build_city; "
        "build_city(Path(sys.argv[1]), style='harbour', num_routes=1, seed=9, panorama_width=64)"
    )
    for name in ("first", "second"):
        # Another hash seed in each process: nothing may depend on the order of a set.
        environment = os.environ | {"PYTHONHASHSEED": str(len(name)), "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=True, env=environment)
    first = bytes_of(tmp_path / "first")
    assert len(first) > 10
    assert first == bytes_of(tmp_path / "second")


def test_a_city_without_pictures_has_the_same_routes_and_mapping(drawn_city: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    summary = build_city(words, style="oldtown", num_routes=2, seed=5, num_turns=(2, 3), pictures=False)
    drawn = bytes_of(drawn_city)
    assert bytes_of(words) == {name: drawn[name] for name in ("gps_pano_mapping.pkl", "route_infos.json")}
    assert summary.num_pictures == 0 < summary.num_panoramas


def test_another_seed_is_another_city(city: Path, tmp_path: Path) -> None:
    for seed in (5, 6):
        build_city(tmp_path / str(seed), style=city.name, num_routes=3, seed=seed, pictures=False)
    first, second = ([route["dest_place"]["name"] for route in routes_of(tmp_path / seed)] for seed in "56")
    assert set(first).isdisjoint(second)
    assert mapping_of(tmp_path / "5") != mapping_of(tmp_path / "6")


def test_the_loader_of_real_routes_accepts_every_route(city: Path, drawn_city: Path) -> None:
    loaded = load_routes(city, places_per_segment=5, pictures=False)
    assert len({route.identity for route in loaded.routes}) == NUM_ROUTES
    assert load_routes(drawn_city, places_per_segment=5, pictures=True).rotations


def test_headings_are_the_real_bearings_cut_to_whole_degrees(city: Path) -> None:
    for route in routes_of(city):
        previous = 0
        for milestone, (start, end) in zip(milestones_of(route), legs_of(route), strict=True):
            heading = bearing(start, end)
            assert milestone["to_next_intersection_heading"] == f"{int(heading)} ({compass_word(heading)})"
            assert compass_word(int(heading)) == compass_word(heading)
            assert milestone["human_heading"] == str(previous)
            assert abs(float(milestone["distance"].removesuffix(" meters")) - distance_metres(start, end)) < 15
            previous = int(heading)


def test_all_eight_compass_words_appear(city: Path) -> None:
    texts = [block["to_next_intersection_heading"] for route in routes_of(city) for block in milestones_of(route)]
    assert {text.split("(")[1].removesuffix(")") for text in texts} == set(COMPASS_WORDS)


def test_every_turn_is_clearly_a_turn_and_clearly_slight_or_not(city: Path) -> None:
    for route in routes_of(city):
        headings = [bearing(start, end) for start, end in legs_of(route)]
        turns = [abs(wrap_degrees(after - before)) for before, after in pairwise(headings)]
        assert 2 <= len(turns) <= 6
        assert all(15 <= turn <= 150 and abs(turn - 45) >= 3 for turn in turns)


def test_landmarks_stand_by_their_turn_on_the_side_that_the_text_says(city: Path) -> None:
    for route in routes_of(city):
        landmarks = route["route_results"]["landmark_list"]
        assert len(landmarks) == len(route["route_results"]["geocode_list"]) - 1
        assert route["route_results"]["n_landmarks"] == sum(landmark is not None for landmark in landmarks)
        for landmark, (start, turn), block in zip(landmarks, legs_of(route), milestones_of(route), strict=False):
            if landmark is None:
                assert block["landmarks"] == "No landmark nearby"
                continue
            assert distance_metres(turn, landmark["geocode"]) <= 18
            assert landmark["n_reviews"] >= 10
            side = side_word(bearing(start, turn), bearing(turn, landmark["geocode"]))
            assert block["landmarks"] == landmark["expression"] == f"{landmark['name']} is on your {side}"


@pytest.mark.parametrize("style", list(STYLES))
def test_the_landmark_of_a_turn_is_the_most_reviewed_place_around(style: str) -> None:
    _, places, routes = plan_of(style)
    num_choices = 0
    for record in route_records(routes, places, region=style):
        for turn, landmark in zip(
            record["route_results"]["geocode_list"], record["route_results"]["landmark_list"], strict=False
        ):
            near = [place for place in places if distance_metres(turn, geocode_at(place.point)) <= 18]
            most = max((place.num_reviews for place in near), default=None)
            assert most == (landmark and landmark["n_reviews"])
            num_choices += len(near) > 1
    assert num_choices > 3


@pytest.mark.parametrize("style", list(STYLES))
def test_a_route_is_the_shortest_drive(style: str) -> None:
    city_map, _, routes = plan_of(style)
    number = len(city_map.crossings)
    distances = np.full((number, number), np.inf)
    for start, end in city_map.street_names:
        distances[start, end] = distances[end, start] = abs(city_map.vector(start, end))
    for middle in range(number):
        distances = np.minimum(distances, distances[:, [middle]] + distances[[middle], :])
    np.fill_diagonal(distances, 0)
    for route in routes:
        first, last = route.legs[0].points[0], route.legs[-1].points[-1]
        shortest = min(
            abs(city_map.crossings[start] - first) + distances[start, end] + abs(city_map.crossings[end] - last)
            for start in route.start.street
            for end in route.destination.street
        )
        assert sum(leg.length for leg in route.legs) == pytest.approx(shortest)


def test_some_turns_have_a_landmark_and_some_have_none(city: Path) -> None:
    landmarks = [landmark for route in routes_of(city) for landmark in route["route_results"]["landmark_list"]]
    assert 0.3 < sum(landmark is not None for landmark in landmarks) / len(landmarks) < 0.95


def test_a_route_ends_by_its_destination_and_does_not_list_its_start(city: Path) -> None:
    for route in routes_of(city):
        points, destination = route["route_results"]["geocode_list"], route["dest_place"]
        before, last = legs_of(route)[-1]
        assert route["start_place"]["relocated_geocode"] not in points
        assert points[-1] == destination["relocated_geocode"]
        assert distance_metres(last, destination["geocode"]) <= 18
        side = side_word(bearing(before, last), bearing(last, destination["geocode"]))
        assert milestones_of(route)[-1]["landmarks"] == f"The destination {destination['name']} is on your {side}"


def test_names_are_unique_and_hold_nothing_that_breaks_the_milestones(city: Path) -> None:
    geocodes: dict[str, set[Point]] = {}
    for route in routes_of(city):
        places = [
            route["start_place"],
            route["dest_place"],
            *filter(None, route["route_results"]["landmark_list"]),
        ]
        for place in places:
            geocodes.setdefault(place["name"], set()).add(tuple(place["geocode"]))
    assert all(len(points) == 1 for points in geocodes.values())
    assert not any(sign in name for name in geocodes for sign in '{}"\\')


def test_every_fifth_of_a_segment_is_within_20_metres_of_a_panorama(city: Path) -> None:
    panoramas = np.radians(list(mapping_of(city)))
    for route in routes_of(city):
        assert tuple(route["start_place"]["relocated_geocode"]) in mapping_of(city)
        assert all(tuple(point) in mapping_of(city) for point in route["route_results"]["geocode_list"])
        for start, end in legs_of(route):
            assert distance_metres(start, end) >= 25
            for share in (0.2, 0.4, 0.6, 0.8, 1.0):
                point = np.radians([a + (b - a) * share for a, b in zip(start, end, strict=True)])
                nearest = panoramas[np.hypot(*((panoramas - point) * (1, np.cos(point[0]))).T).argmin()]
                found, wanted = (tuple(np.degrees(place)) for place in (nearest, point))
                assert distance_metres(found, wanted) < 20


def test_the_mapping_is_a_pickle_of_plain_values_only(city: Path) -> None:
    names = {opcode.name for opcode, _, _ in pickletools.genops((city / "gps_pano_mapping.pkl").read_bytes())}
    assert names.isdisjoint({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
    for point, name in mapping_of(city).items():
        assert type(point) is tuple
        assert [type(number) for number in point] == [float, float]
        assert type(name) is str


def test_every_panorama_has_a_picture_and_a_rotation(drawn_city: Path) -> None:
    rotations = set()
    for name in mapping_of(drawn_city).values():
        with Image.open(drawn_city / "street_views" / f"{name}.jpg") as picture:
            assert picture.size == (128, 64)
        rotations.add(json.loads((drawn_city / "street_views" / f"{name}.metadata.json").read_text())["rotation"])
    assert len(rotations) == len(mapping_of(drawn_city))
    assert 0 not in rotations
    assert max(rotations) - min(rotations) > 180


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty; name a new folder"):
        build_city(tmp_path, style="garden", num_routes=1, seed=0, pictures=False)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    build_city(tmp_path, style="garden", num_routes=1, seed=0, pictures=False)
    assert {path.name for path in tmp_path.iterdir()} == {"route_infos.json", "gps_pano_mapping.pkl"}


def test_a_city_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Image.Image:
        raise OSError("disk full")

    monkeypatch.setattr(build, "draw_panorama", fail)
    with pytest.raises(OSError, match="disk full"):
        build_city(tmp_path / "city", style="garden", num_routes=1, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"style": "atlantis"}, "style='atlantis' is no style of city; choose one of manhattan"),
        ({"num_routes": 0}, "num_routes=0 must be at least 1"),
        ({"panorama_width": 33}, "panorama_width=33 must be an even number from 64"),
        ({"num_turns": (4, 3)}, r"num_turns=\(4, 3\) must be \(fewest, most\)"),
        ({"num_turns": (50, 50)}, "found 0 of 1 routes with 50 to 50 turns"),
        ({"look": "atlantis"}, "look='atlantis' is the look of no style of city; choose one of manhattan"),
        ({"look": "emblem"}, "shows emblems .* style='garden' say none; choose a style of emblem, .*, or another look"),
        ({"pairs": "unseen"}, "style='garden' have none; choose a style of emblem, .*, or pairs='all'"),
        ({"style": "emblem", "pairs": "unseen", "num_routes": 2000}, "only 1872 names; ask for fewer routes"),
    ],
)
def test_an_argument_that_cannot_be_met_is_named(tmp_path: Path, changed: Record, told: str) -> None:
    arguments: Record = {"style": "garden", "num_routes": 1, "seed": 0} | changed
    with pytest.raises(ValueError, match=told):
        build_city(tmp_path / "city", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_encoded_as_map_services_do() -> None:
    line = [(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]
    assert _encode_polyline(line) == "_p~iF~ps|U_ulLnnqC_mqNvxq`@"
