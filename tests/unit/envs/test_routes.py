"""Route data sets: milestones, rails, and what a broken data set is told."""

import json
import os
import pickle
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from envs._routes.dataset import RouteSet, load_routes
from envs._routes.milestones import read_milestones
from envs._routes.panorama_index import RouteDataError, broken
from envs._routes.rail import lay_rail, turn_words

METRE = 1 / 111_194.93  # degrees of latitude


REAL_MILESTONES = (
    '\n{\n"intersection_idx": "1",\n"landmarks": "Starbucks is on your left behind",\n"distance": "50 meters",\n'
    '"human_heading": "0",\n"to_next_intersection_heading": "259 (west)",\n}\n'
    '\n{\n"intersection_idx": "2",\n"landmarks": "The destination Apple Union Square is on your right",\n'
    '"distance": "93 meters",\n"human_heading": "259",\n"to_next_intersection_heading": "170 (south)",\n}\n'
)


def _fault(*words: str, **values: Any) -> ValueError:
    return ValueError(f"{words} {values}")


def test_milestones_of_a_real_route_are_read() -> None:
    first, last = read_milestones(REAL_MILESTONES, 2, _fault)
    assert (first.heading, first.compass) == (259, "west")
    assert first.landmark is not None
    assert first.landmark.name == "Starbucks"
    assert last.landmark is not None
    assert (last.landmark.name, last.landmark.text[:15]) == ("Apple Union Square", "The destination")


@pytest.mark.parametrize(
    "name",
    [
        'Joe\'s "Best" {Pizza}',
        "}",
        "is on your left is on your right",
        "The destination Spa",
        'a", "b": "c',
        "咖啡馆",
        "A: B, C",
    ],
)
def test_the_name_of_a_landmark_may_hold_anything(name: str) -> None:
    first, _ = read_milestones(REAL_MILESTONES.replace("Starbucks", name), 2, _fault)
    assert first.landmark is not None
    assert first.landmark.name == name


def test_a_heading_cut_to_whole_degrees_may_have_the_word_of_its_neighbour() -> None:
    read_milestones(REAL_MILESTONES.replace("259 (west)", "247 (west)"), 2, _fault)
    with pytest.raises(ValueError, match="the word for 245 degrees is southwest"):
        read_milestones(REAL_MILESTONES.replace("259 (west)", "245 (west)"), 2, _fault)


START = (40.0, -30.0)
CORNER = (40.0 + 80 * METRE, -30.0)
SOON = (40.0 + 83 * METRE, -30.0)
GOAL = (40.0 + 83 * METRE, -30.0 + 100 * METRE)
TELLING = (
    ("1", "Joe's Pizza is on your left", "0 (north)"),
    ("2", "No landmark nearby", "0 (north)"),
    ("3", "The destination Blue Cafe is on your right front", "90 (east)"),
)


def _milestone_text(telling: tuple[tuple[str, str, str], ...]) -> str:
    return "\n".join(
        f'{{\n"intersection_idx": "{number}",\n"landmarks": "{landmarks}",\n"distance": "80 meters",\n'
        f'"human_heading": "0",\n"to_next_intersection_heading": "{heading}",\n}}\n'
        for number, landmarks, heading in telling
    )


ROUTE: dict[str, Any] = {
    "start_place": {"name": "Start", "relocated_geocode": START, "rating": 4},
    "dest_place": {"name": "Blue Cafe", "relocated_geocode": GOAL},
    "route_results": {"geocode_list": [list(CORNER), list(SOON), list(GOAL)], "distance": 180},
    "init_heading": 0,
    "instruction": "unused",
    "milestone_info": _milestone_text(TELLING),
}
PANORAMAS = {(40.0 + metres * METRE, -30.0): f"n{metres}" for metres in (0, 16, 32, 48, 64, 75, 80, 83)} | {
    (GOAL[0], -30.0 + metres * METRE): f"e{metres}" for metres in (20, 40, 60, 80, 100)
}


def _write(folder: Path, routes: Any, panoramas: dict[Any, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "route_infos.json").write_text(json.dumps([routes, 1]))
    (folder / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(PANORAMAS if panoramas is None else panoramas))
    return folder


def _write_pictures(folder: Path, names: list[str]) -> None:
    (folder / "street_views").mkdir()
    for name in names:
        (folder / "street_views" / f"{name}.jpg").write_bytes(b"")
        (folder / "street_views" / f"{name}.metadata.json").write_text('{"rotation": 12.5, "more": 1}')


def _load(folder: Path, *, pictures: bool = False) -> RouteSet:
    return load_routes(folder, places_per_segment=5, pictures=pictures)


def test_a_route_is_read_with_its_places(tmp_path: Path) -> None:
    (route,) = _load(_write(tmp_path, [ROUTE])).routes
    assert route.start.panorama == "n0"
    assert route.initial_heading is None
    assert [segment.end.panorama for segment in route.segments] == ["n80", "n83", "e100"]
    assert [[stop.panorama for stop in segment.between] for segment in route.segments] == [
        ["n16", "n32", "n48", "n64"],
        [],  # three metres are too short for places on the way
        ["e20", "e40", "e60", "e80"],
    ]


def test_sentences_stay_aligned_after_a_segment_that_is_too_short_for_places(tmp_path: Path) -> None:
    (route,) = _load(_write(tmp_path, [ROUTE])).routes
    turns = turn_words(route, 350.0, wrap=True)
    assert turns == ("slightly right", "slightly left", "right")
    rail = lay_rail(route, 350.0, turns, drop_probability=0.0, generator=Random(0))
    assert [(place.actions["relative"], place.sentence) for place in rail] == [
        ("turn_direction(slightly right)", 0),
        *[("forward()", 1)] * 4,
        ("turn_direction(slightly left)", 2),
        ("turn_direction(right)", 4),
        *[("forward()", 5)] * 4,
        ("stop()", 5),
    ]
    assert [place.intersection for place in rail] == [False] * 5 + [True] * 2 + [False] * 5
    assert [place.heading for place in rail] == [350.0] + [0.0] * 6 + [90.0] * 5


def test_places_on_the_way_are_dropped_by_chance(tmp_path: Path) -> None:
    (route,) = _load(_write(tmp_path, [ROUTE])).routes
    turns = turn_words(route, 0.0, wrap=True)

    def num_places(drop_probability: float, seed: int) -> int:
        return len(lay_rail(route, 0.0, turns, drop_probability=drop_probability, generator=Random(seed)))

    assert num_places(1.0, 0) == 4
    assert {num_places(0.5, seed) for seed in range(100)} >= set(range(6, 11))


def test_the_identity_of_a_route_is_its_way_and_not_its_place_in_the_file(tmp_path: Path) -> None:
    other = deepcopy(ROUTE)
    other["start_place"]["relocated_geocode"] = (40.0 + 16 * METRE, -30.0)
    first, second = _load(_write(tmp_path / "a", [ROUTE, other])).routes
    assert [route.identity for route in _load(_write(tmp_path / "b", [other, ROUTE])).routes] == [
        second.identity,
        first.identity,
    ]
    assert first.identity != second.identity


def test_noise_in_the_last_bits_changes_nothing(tmp_path: Path) -> None:
    noisy = deepcopy(ROUTE)
    noisy["init_heading"] = 1e-12
    noisy["route_results"]["geocode_list"][0] = (CORNER[0] + 1e-11, CORNER[1] - 1e-11)
    (route,) = _load(_write(tmp_path / "a", [ROUTE])).routes
    (same,) = _load(_write(tmp_path / "b", [noisy])).routes
    assert same == route


def test_a_stored_heading_is_kept(tmp_path: Path) -> None:
    (route,) = _load(_write(tmp_path, [ROUTE | {"init_heading": 370}])).routes
    assert route.initial_heading == 10


def test_a_data_set_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    first = _load(_write(tmp_path, [ROUTE]))
    assert _load(tmp_path) is first
    _write(tmp_path, [ROUTE, ROUTE])
    os.utime(tmp_path / "route_infos.json", ns=(1, 1))
    assert len(_load(tmp_path).routes) == 2


def test_pictures_are_found_with_how_they_are_turned(tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE])
    _write_pictures(folder, list(PANORAMAS.values()))
    routes = _load(folder, pictures=True)
    assert routes.rotations["n16"] == 12.5
    assert routes.picture("n16") == folder.resolve() / "street_views" / "n16.jpg"


def _without(*path: str) -> dict[str, Any]:
    return _with(*path, value=None, delete=True)


def _with(*path: Any, value: Any, delete: bool = False) -> dict[str, Any]:
    route = deepcopy(ROUTE)
    inner: Any = route
    for key in path[:-1]:
        inner = inner[key]
    if delete:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return route


def _telling(number: int, *changes: str) -> dict[str, Any]:
    told = list(TELLING)
    told[number] = tuple(new or old for new, old in zip(changes, told[number], strict=True))  # type: ignore[assignment]
    return ROUTE | {"milestone_info": _milestone_text(tuple(told))}


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (_without("start_place"), r"route 1, start_place: Field required"),
        (_without("start_place", "relocated_geocode"), r"route 1, start_place\.relocated_geocode: Field required"),
        (_without("init_heading"), r"route 1, init_heading: Field required"),
        (_with("init_heading", value="up"), r"route 1, init_heading is 'up': .*number"),
        (_with("route_results", "geocode_list", value=[]), r"route 1, route_results\.geocode_list is \[\]: "),
        (_with("route_results", "geocode_list", value=5), r"route 1, route_results\.geocode_list is 5: "),
        (
            _with("route_results", "geocode_list", 1, value=[95.0, 0]),
            r"route 1, route_results\.geocode_list\.1\.0 is 95\.0: .*90",
        ),
        (_with("route_results", "geocode_list", 1, 1, value=float("nan")), r"geocode_list\.1\.1 is nan: .*finite"),
        (
            _with("route_results", "geocode_list", 2, value=[41.0, -30.0]),
            r"route 1, route_results\.geocode_list\.2 is \(41\.0, -30\.0\): .*no panorama within 20 metres; ",
        ),
        (_with("start_place", "relocated_geocode", value=[0, 0]), r"start_place\.relocated_geocode is \(0\.0, 0\.0\)"),
        (_with("milestone_info", value=None), r"route 1, milestone_info: .*string"),
        (_with("milestone_info", value=""), r"route 1, milestone_info is '0 blocks': .*3 points"),
        (_telling(1, "7", "", ""), r"route 1, milestone_info block 2, intersection_idx is '7': must be 2; "),
        (_telling(1, "", "", "90"), r"block 2, to_next_intersection_heading is '90': must be degrees and a compass"),
        (_telling(1, "", "", "90 (up)"), r"to_next_intersection_heading is '90 \(up\)': "),
        (_telling(1, "", "", "90 (west)"), r"'90 \(west\)': the word for 90 degrees is east; "),
        (_telling(0, "", "Joe's Pizza", ""), r"block 1, landmarks is \"Joe's Pizza\": must be "),
        (_telling(0, "", "Joe's Pizza is on your roof", ""), r"block 1, landmarks is "),
        (_telling(2, "", "No landmark nearby", ""), r"block 3, landmarks is 'No landmark nearby': .*destination"),
        (_telling(2, "", "Blue Cafe is on your left", ""), r"block 3, landmarks is .*The destination"),
        ("a route", r"route 1 is 'a route': must be an object"),
    ],
)
def test_a_broken_route_is_told_its_number_its_field_and_the_rule(route: Any, says: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE, route])
    with pytest.raises(RouteDataError, match=rf"route_infos\.json: .*{says}") as error:
        _load(folder)
    assert "; " in str(error.value)
    assert pickle.loads(pickle.dumps(error.value)).args == error.value.args


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "[{}]", "[[], 0]", "[" * 100_000])
def test_a_file_that_holds_no_routes_is_refused(content: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [])
    (folder / "route_infos.json").write_text(content)
    with pytest.raises(RouteDataError, match=r"route_infos\.json: .+; "):
        _load(folder)


@pytest.mark.parametrize("name", ["route_infos.json", "gps_pano_mapping.pkl"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE])
    (folder / name).unlink()
    with pytest.raises(RouteDataError, match=name):
        _load(folder)


@pytest.mark.parametrize(
    ("missing", "metadata", "says"),
    [
        ("n16.jpg", None, r"n16\.jpg: route 0 .*not there; .*modality: text"),
        ("e40.metadata.json", None, r"e40\.metadata\.json: route 0 .*not there; "),
        (None, "{}", r"n16\.metadata\.json: route 0, rotation: Field required; "),
        (None, '{"rotation": "left"}', r"n16\.metadata\.json: route 0, rotation is 'left': .*number"),
        (None, "rotation", r"n16\.metadata\.json: route 0 is b'rotation': .*JSON"),
    ],
)
def test_a_place_that_cannot_be_shown_is_named(
    missing: str | None, metadata: str | None, says: str, tmp_path: Path
) -> None:
    folder = _write(tmp_path, [ROUTE])
    _write_pictures(folder, list(PANORAMAS.values()))
    if missing:
        (folder / "street_views" / missing).unlink()
    if metadata:
        (folder / "street_views" / "n16.metadata.json").write_text(metadata)
    _load(folder)
    with pytest.raises(RouteDataError, match=says):
        _load(folder, pictures=True)


def test_a_data_set_without_any_pictures_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RouteDataError, match=r"street_views/.*not there"):
        _load(_write(tmp_path, [ROUTE]), pictures=True)


def test_a_long_value_is_shortened_in_the_error() -> None:
    assert len(str(broken(Path("f"), "rule", "fix", field="x", value="v" * 10_000))) < 200
