"""What is said of a folder of routes: numbers and words, every route that is left out, and a picture of them all."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from envs._city.build import build_city
from envs._routes.check import check_folder, length_metres
from envs._routes.dataset import read_routes
from envs._routes.faults import RouteDataError
from envs._routes.overview import DESTINATION, LEFT_OUT, ROUTE, START, WIDTH, draw_overview
from envs._routes.printable import is_printable

Color = tuple[int, int, int]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "city"
    build_city(folder, style="garden", num_routes=3, seed=1, num_turns=(1, 2), panorama_width=64)
    return folder


def _routes(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "route_infos.json").read_text())[0]


def _write(folder: Path, routes: list[Any], mapping: bytes) -> Path:
    folder.mkdir()
    (folder / "route_infos.json").write_text(json.dumps([routes, len(routes)]))
    (folder / "gps_pano_mapping.pkl").write_bytes(mapping)
    return folder


def _with_odd_route(city: Path, folder: Path) -> Path:
    routes = _routes(city)
    routes[1]["dest_place"]["name"] = "\x1b[2JCafe"
    routes[1]["milestone_info"] = "odd"
    return _write(folder, routes, (city / "gps_pano_mapping.pkl").read_bytes())


def test_a_folder_is_counted_as_it_is_played(drawn: Path) -> None:
    report = check_folder(drawn)
    routes = read_routes(drawn, places_per_segment=5, pictures=True).routes
    assert (report.num_routes, report.left_out, report.missing, report.pictures) == (3, (), (), "checked")
    assert report.num_positions == sum(len(route.stops) for route in routes)
    assert report.num_turns == sum(len(route.segments) for route in routes)
    assert report.lengths is not None
    assert report.lengths.least == min(map(length_metres, routes))
    recorded = [route["route_results"]["distance"] for route in _routes(drawn)]
    assert report.lengths.most == pytest.approx(max(recorded), rel=0.05)
    assert sum(report.landmarks.values()) == sum(report.sides.values())
    assert set(report.sides) <= {f"on your {side}" for side in ["left", "right", "left front", "right front"]} | {
        "on your left behind",
        "on your right behind",
        "on your front",
        "on your behind",
    }
    assert "all with picture and metadata" in report.describe()


def test_what_is_missing_is_named_with_the_routes_that_need_it(drawn: Path, tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", _routes(drawn), (drawn / "gps_pano_mapping.pkl").read_bytes())
    (folder / "street_views").mkdir()
    for file in (drawn / "street_views").iterdir():
        (folder / "street_views" / file.name).symlink_to(file)
    gone = read_routes(drawn, places_per_segment=5, pictures=False).routes[2].start.panorama
    (folder / "street_views" / f"{gone}.jpg").unlink()
    report = check_folder(folder)
    assert report.missing == (f"{gone}.jpg",)
    assert 2 in [entry.number for entry in report.left_out]
    assert f"{gone}.jpg: route 2 passes this panorama" in report.describe()
    in_words = check_folder(folder, pictures=False)
    assert (in_words.num_routes, in_words.missing, in_words.pictures) == (3, (), "not asked for")


def test_each_route_that_is_left_out_is_named_and_nothing_commands_the_terminal(drawn: Path, tmp_path: Path) -> None:
    report = check_folder(_with_odd_route(drawn, tmp_path / "x"))
    assert (report.num_routes, report.pictures) == (2, "none")
    text = report.describe()
    assert is_printable(text)
    start = _routes(drawn)[1]["start_place"]["name"]
    assert rf"  1  {start} → \x1b[2JCafe" in text
    assert "route_infos.json: route 1, milestone_info is '0 blocks'" in text
    assert "can be played in words only" in text


def test_a_folder_of_which_nothing_can_be_played_is_described(drawn: Path, tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", [{}, 5], (drawn / "gps_pano_mapping.pkl").read_bytes())
    report = check_folder(folder)
    assert (report.num_routes, report.positions, len(report.left_out)) == (0, None, 2)
    assert "0 can be played, 2 are left out" in report.describe()
    draw_overview(folder, tmp_path / "x.png")


def test_a_folder_that_is_wrong_as_a_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RouteDataError, match="no such file"):
        check_folder(tmp_path)


def _colors(path: Path) -> set[Color]:
    with Image.open(path) as picture:
        assert picture.width == WIDTH
        return {color for _, color in picture.convert("RGB").getcolors(2**24) or ()}  # type: ignore[misc]


def test_the_overview_shows_routes_and_those_left_out_in_their_colours(drawn: Path, tmp_path: Path) -> None:
    draw_overview(drawn, tmp_path / "all.png")
    assert {ROUTE, START, DESTINATION} <= _colors(tmp_path / "all.png")
    assert LEFT_OUT not in _colors(tmp_path / "all.png")
    draw_overview(_with_odd_route(drawn, tmp_path / "x"), tmp_path / "odd.png")
    assert {ROUTE, LEFT_OUT} <= _colors(tmp_path / "odd.png")


@pytest.mark.parametrize(("num_cities", "num_rows"), [(1, 1), (2, 1), (4, 2), (9, 3), (50, 6)])
def test_cities_far_apart_have_a_panel_each(num_cities: int, num_rows: int, tmp_path: Path) -> None:
    routes = [
        {
            "start_place": {"relocated_geocode": [city - 30.0, 3.0 * city]},
            "route_results": {"geocode_list": [[city - 29.999, 3.0 * city]]},
            "milestone_info": '"landmarks": "Cafe is on your left",\n"to_next_intersection_heading": "0 (north)"',
        }
        for city in range(num_cities)
    ]
    points = [(city - up, 3.0 * city) for city in range(num_cities) for up in (30.0, 29.999)]
    folder = _write(tmp_path / "x", routes, pickle.dumps({point: f"p{i}" for i, point in enumerate(points)}))
    draw_overview(folder, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        panel = min((picture.height - 76) / num_rows - 16, 820)
    assert panel > 150
    assert LEFT_OUT not in _colors(tmp_path / "x.png")
