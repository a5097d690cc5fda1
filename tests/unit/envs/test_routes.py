"""Route data sets: milestones, rails, and what a broken data set is told."""

import json
import os
import pickle
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from envs._routes.dataset import Route, RouteSet, load_routes
from envs._routes.faults import RouteDataError, broken, read_file
from envs._routes.milestones import read_milestones
from envs._routes.rail import lay_rail, turn_words
from envs._routes.wording import RouteWords

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
        Image.new("RGB", (16, 8)).save(folder / "street_views" / f"{name}.jpg")
        (folder / "street_views" / f"{name}.metadata.json").write_text('{"rotation": 12.5, "more": 1}')


def _load(folder: Path, *, pictures: bool = False, strict: bool = False) -> RouteSet:
    return load_routes(folder, places_per_segment=5, pictures=pictures, strict=strict)


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
    assert route.initial_heading == 370
    assert turn_words(route, 370, wrap=True)[0] == "slightly left"
    assert turn_words(route, 370, wrap=False)[0] == "left"


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
        (_with("init_heading", value=None), r"route 1, init_heading: .*number"),
        (_with("init_heading", value=1e300), r"route 1, init_heading is 1e\+300: .*1000000"),
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
        (_telling(0, "", "\x1b[2JJoe's is on your left", ""), r"block 1, landmarks is \"\\x1b.* no terminal can show"),
        (_telling(0, "", "\ud800 is on your left", ""), r"block 1, landmarks is '\\ud800.* no terminal can show"),
        (_with("route_results", "geocode_list", value=[list(CORNER)] * 501), r"geocode_list is \[.*: .*at most 500"),
        (_telling(2, "", "No landmark nearby", ""), r"block 3, landmarks is 'No landmark nearby': .*destination"),
        (_with("milestone_info", value=_milestone_text(TELLING[:2])), r"milestone_info is '2 blocks': .*3 points"),
        (_with("milestone_info", value=_milestone_text((*TELLING, TELLING[2]))), r"is '4 blocks': .*3 points"),
        ("a route", r"route 1 is 'a route': must be an object"),
    ],
)
def test_a_broken_route_is_told_its_number_its_field_and_the_rule(route: Any, says: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE, route])
    (left_out,) = _load(folder).left_out
    assert left_out.number == 1
    assert re.search(rf"^route_infos\.json: .*{says}", left_out.reason)
    with pytest.raises(RouteDataError, match=rf"route_infos\.json: .*{says}") as error:
        _load(folder, strict=True)
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


def _played(route: Any, folder: Path) -> Route:
    (played,) = _load(_write(folder, [route])).routes
    return played


@pytest.mark.parametrize(
    "route",
    [
        _without("init_heading"),
        _with("milestone_info", value=_milestone_text(tuple((str(i), *told[1:]) for i, told in enumerate(TELLING)))),
        ROUTE | {"milestone_info": re.sub(r'"intersection_idx": "\d",\n', "", _milestone_text(TELLING))},
        ROUTE | {"milestone_info": re.sub('(?m)^"(.*?)": "(.*)",$', r"'\1': '\2',", _milestone_text(TELLING))},
        ROUTE | {"milestone_info": _milestone_text(TELLING).replace("\n}", "}").replace("{\n", "{")},
        ROUTE | {"milestone_info": _milestone_text(TELLING) + "{\n}\n\n"},
        ROUTE | {"milestone_info": _milestone_text(TELLING).replace('"landmarks": "No landmark nearby",\n', "")},
        ROUTE | {"milestone_info": _milestone_text(TELLING).replace("\n", "\r\n")},
        ROUTE | {"dest_place": {"name": None}, "start_place": ROUTE["start_place"] | {"name": None}},
    ],
    ids=[
        "no initial heading",
        "numbers from 0",
        "no numbers",
        "single quotes",
        "braces beside the words",
        "an empty block",
        "no word of landmarks",
        "lines of another system",
        "no names",
    ],
)
def test_what_is_written_in_another_way_is_the_same_route(route: Any, tmp_path: Path) -> None:
    assert _played(route, tmp_path / "other") == _played(ROUTE, tmp_path / "usual")


@pytest.mark.parametrize(
    ("text", "name", "side"),
    [
        ("Joe's Pizza is on your roof", "Joe's Pizza", "on your roof"),
        ("Joe's Pizza is to the left", "Joe's Pizza", "to the left"),
        ("Where is Joe is in front of you", "Where is Joe", "in front of you"),
    ],
)
def test_a_landmark_may_be_on_any_side_in_any_words(text: str, name: str, side: str, tmp_path: Path) -> None:
    landmark = _played(_telling(0, "", text, ""), tmp_path).segments[0].landmark
    assert landmark is not None
    assert (landmark.name, landmark.side, landmark.text) == (name, side, text)


def test_a_destination_that_is_not_called_one_is_called_so_in_the_instructions_only(tmp_path: Path) -> None:
    route = _played(_telling(2, "", "Blue Cafe is on your left", ""), tmp_path)
    landmark = route.segments[-1].landmark
    assert landmark is not None
    assert (landmark.name, landmark.text) == ("Blue Cafe", "Blue Cafe is on your left")
    words = RouteWords.draw("fixed", Random(0)).sentences(route, turn_words(route, 0.0, wrap=True))
    assert words[-1] == "Go forward until the destination Blue Cafe is on your left."


def test_headings_keep_their_turns_around_for_the_words_of_the_original(tmp_path: Path) -> None:
    route = _played(_telling(0, "", "", "-359 (north)"), tmp_path)
    assert turn_words(route, 0.0, wrap=True)[:2] == ("slightly right", "slightly left")
    assert turn_words(route, 0.0, wrap=False)[:2] == ("left", "right")


def _other_routes(num_routes: int) -> list[dict[str, Any]]:
    return [_with("start_place", "relocated_geocode", value=(40.0 + i * 1e-6, -30.0)) for i in range(num_routes)]


def test_one_odd_route_among_many_is_left_out_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    routes = _other_routes(20)
    whole = _load(_write(tmp_path / "whole", routes)).routes
    routes[7] = routes[7] | {"milestone_info": "odd"}
    found = _load(_write(tmp_path / "odd", routes))
    assert found.routes == whole[:7] + whole[8:]
    (left_out,) = found.left_out
    assert found.entries[7] is left_out
    assert (left_out.number, left_out.title) == (7, "Start → Blue Cafe")
    assert left_out.identity == whole[7].identity
    assert left_out.way == ((40.0 + 7e-6, -30.0), CORNER, SOON, GOAL)


def test_a_strict_reader_names_ten_faults_and_counts_the_others(tmp_path: Path) -> None:
    odd = [route | {"milestone_info": "odd"} for route in _other_routes(14)]
    folder = _write(tmp_path, [*odd, ROUTE])
    assert len(_load(folder).routes) == 1
    with pytest.raises(RouteDataError) as error:
        _load(folder, strict=True)
    first, *faults, last = str(error.value).splitlines()
    assert re.search(r"14 of 15 routes cannot be played; .*env\.strict_data: false", first)
    assert len(faults) == 10
    assert faults[9].startswith("  route_infos.json: route 9, milestone_info is '0 blocks'")
    assert last == "  … and 4 more"


def test_a_set_without_one_route_that_can_be_played_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RouteDataError, match=r"2 of 2 routes cannot be played; correct them:\n.*route 0 is \[\]"):
        _load(_write(tmp_path, [[], 5]))


def test_the_title_of_a_route_is_printable(tmp_path: Path) -> None:
    odd = _with("dest_place", value={"name": "\x1b]0;x\x07\ud800 Cafe\nBlue"}) | {"milestone_info": "odd"}
    (left_out,) = _load(_write(tmp_path, [ROUTE, odd])).left_out
    assert left_out.title == r"Start → \x1b]0;x\x07\ud800 Cafe Blue"


def test_one_missing_picture_leaves_out_the_routes_that_pass_it(tmp_path: Path) -> None:
    elsewhere = _with("start_place", "relocated_geocode", value=(40.0 + 16 * METRE, -30.0))
    folder = _write(tmp_path, [ROUTE, elsewhere])
    _write_pictures(folder, list(PANORAMAS.values()))
    assert len(_load(folder, pictures=True).routes) == 2
    (folder / "street_views" / "n0.jpg").unlink()
    found = _load(folder, pictures=True)
    assert [entry.number for entry in found.left_out] == [0]
    assert found.left_out[0].reason.startswith("street_views/n0.jpg: route 0 passes this panorama, ")
    assert len(_load(folder).routes) == 2


def test_a_panorama_without_a_name_can_be_told_of_and_not_shown(tmp_path: Path) -> None:
    elsewhere = _with("start_place", "relocated_geocode", value=(40.0 + 16 * METRE, -30.0))
    folder = _write(tmp_path, [ROUTE, elsewhere], PANORAMAS | {START: None})
    _write_pictures(folder, [name for name in PANORAMAS.values() if name != "n0"])
    assert len(_load(folder).routes) == 2
    (left_out,) = _load(folder, pictures=True).left_out
    assert "street_views: route 0 passes a place whose panorama has no name; " in left_out.reason


@pytest.mark.parametrize("file", ["n16.jpg", "n16.metadata.json"])
def test_a_file_of_street_views_that_changes_is_noticed(file: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE])
    _write_pictures(folder, list(PANORAMAS.values()))
    first = _load(folder, pictures=True)
    assert _load(folder, pictures=True) is first
    path = folder / "street_views" / file
    path.write_bytes(path.read_bytes() + b"\n")
    assert _load(folder, pictures=True) is not first
    path.unlink()
    with pytest.raises(RouteDataError, match=f"{file}.*not there"):
        _load(folder, pictures=True)


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [Path.mkdir, _make_pipe, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("file", ["street_views/n16.jpg", "street_views/n16.metadata.json", "route_infos.json"])
def test_what_is_no_plain_file_is_a_fault_of_the_data(make: Callable[[Path], None], file: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [ROUTE])
    _write_pictures(folder, list(PANORAMAS.values()))
    (folder / file).unlink()
    make(folder / file)
    with pytest.raises(RouteDataError, match=Path(file).name):
        _load(folder, pictures=True)
    with pytest.raises(RouteDataError, match=Path(file).name):
        read_file(folder / file, max_bytes=100)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[" + "[]," * 2_000_000 + "0], 1]", "brackets"),
        ("[[" + "0," * 100_000 + "0], 1]", "100001 routes"),
        ("[[" + "[" * 900 + "]" * 900 + "], 1]", "1 of 1 routes"),
    ],
)
def test_a_file_of_routes_that_would_fill_the_memory_is_refused(content: str, says: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, [])
    (folder / "route_infos.json").write_text(content)
    with pytest.raises(RouteDataError, match=says):
        _load(folder)


def test_a_data_set_without_any_pictures_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RouteDataError, match=r"street_views/.*not there"):
        _load(_write(tmp_path, [ROUTE]), pictures=True)


def test_a_long_value_is_shortened_in_the_error() -> None:
    assert len(str(broken(Path("f"), "rule", "fix", field="x", value="v" * 10_000))) < 200
