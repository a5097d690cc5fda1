"""Street views: what stands at a compass heading is drawn there, and cut out from there, whatever the rotation."""

import dataclasses
import math
import os
import subprocess
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from envs._city.build import STYLES
from envs._city.map import CityMap, Place, add_places, draw_map
from envs._city.names import names_of
from envs._city.panorama import draw_panorama
from envs._city.scene import Scene, build_scene
from envs._routes.faults import RouteDataError
from envs._routes.street_views import column_at_heading, cut_view, four_views, load_panorama

WIDTH, HEIGHT = 720, 360
GREY, RED, NORTH, EAST, SOUTH, WEST = (
    (90, 90, 90),
    (250, 20, 20),
    (200, 0, 0),
    (0, 200, 0),
    (0, 0, 200),
    (200, 200, 0),
)
COMPASS = {0: NORTH, 90: EAST, 180: SOUTH, 270: WEST}

Color = tuple[int, int, int]


def original_column(heading: float, rotation: float) -> float:
    """Written from the original renderer's formula: yaw 0 is the middle of the picture."""
    yaw = (heading - 180) % 360 + rotation
    return (yaw / 360 + 0.5) * WIDTH % WIDTH


def panorama_with_stripe(heading: float, rotation: float) -> Image.Image:
    pixels = np.full((HEIGHT, WIDTH, 3), GREY, dtype=np.uint8)
    middle = round(original_column(heading, rotation))
    for column in range(middle - 4, middle + 4):
        pixels[:, column % WIDTH] = RED
    return Image.fromarray(pixels)


def panorama_by_direction(rotation: float) -> Image.Image:
    """Each quarter of the horizon has the colour of its compass direction."""
    pixels = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for column in range(WIDTH):
        heading = (column + 0.5) / WIDTH * 360 - rotation
        pixels[:, column] = COMPASS[round(heading / 90) % 4 * 90]
    return Image.fromarray(pixels)


def color_at(image: Image.Image, right: float, down: float) -> Color:
    """The colour at a fraction of the width and height."""
    pixel = image.getpixel((int(right * image.width), int(down * image.height)))
    assert isinstance(pixel, tuple)
    return (int(pixel[0]), int(pixel[1]), int(pixel[2]))


def red_columns(image: Image.Image) -> np.ndarray:
    middle_row = np.asarray(image)[image.height // 2].astype(int)
    return np.flatnonzero(middle_row[:, 0] - middle_row[:, 1] > 100)


@cache
def scene_of(style: str) -> tuple[CityMap, tuple[Place, ...], Scene]:
    generator = Random(3)
    city_map = draw_map(STYLES[style].layout, 4, generator)
    places = add_places(city_map, names_of(STYLES[style]), generator)
    return city_map, places, build_scene(city_map, places, STYLES[style].look, generator)


@given(heading=st.floats(-720, 720), rotation=st.floats(-360, 360))
def test_the_column_of_a_heading_is_the_original_renderers(heading: float, rotation: float) -> None:
    column = column_at_heading(heading, rotation=rotation, width=WIDTH)
    gap = abs(column - original_column(heading, rotation))
    assert min(gap, WIDTH - gap) < 1e-6
    assert 0 <= column < WIDTH


@pytest.mark.parametrize("rotation", [0.0, 17.3, 123.0, 200.5, 359.0, -40.0])
@pytest.mark.parametrize("heading", [0.0, 45.0, 91.0, 180.0, 270.0, 359.0])
def test_what_stands_at_a_heading_is_in_the_middle_of_the_view_that_way(heading: float, rotation: float) -> None:
    panorama = panorama_with_stripe(heading, rotation)
    columns = red_columns(cut_view(panorama, heading=heading, rotation=rotation, size=200))
    assert len(columns) > 0
    assert abs(columns.mean() - 99.5) < 2


def test_what_stands_to_the_right_of_the_heading_is_in_the_right_half() -> None:
    columns = red_columns(cut_view(panorama_with_stripe(30, 80), heading=0, rotation=80, size=200))
    assert abs(columns.mean() - (100 + 100 * np.tan(np.radians(30)))) < 3


def test_what_stands_behind_is_not_seen() -> None:
    assert len(red_columns(cut_view(panorama_with_stripe(180, 80), heading=0, rotation=80, size=200))) == 0


@pytest.mark.parametrize("field_of_view", [60.0, 90.0, 110.0])
def test_the_field_of_view_ends_at_the_edges_of_the_view(field_of_view: float) -> None:
    inside, outside = (
        cut_view(
            panorama_with_stripe(field_of_view / 2 + gap, 12),
            heading=0,
            rotation=12,
            field_of_view=field_of_view,
            size=200,
        )
        for gap in (-3, 3)
    )
    assert len(red_columns(inside)) > 0
    assert len(red_columns(outside)) == 0


def test_a_positive_pitch_looks_up() -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), 250, dtype=np.uint8)
    pixels[HEIGHT // 2 :] = 10
    panorama = Image.fromarray(pixels)
    up, level, down = (
        np.asarray(cut_view(panorama, heading=33, rotation=50, pitch=pitch, size=100)).mean() for pitch in (50, 0, -50)
    )
    assert up > 245
    assert 125 < level < 135
    assert down < 15


def test_a_view_across_the_edge_of_the_panorama_has_no_seam() -> None:
    # A smooth wave around the horizon: any seam would be a jump from one column to the next.
    wave = 128 + 100 * np.sin(np.arange(WIDTH) / WIDTH * 2 * np.pi)
    panorama = Image.fromarray(np.repeat(np.tile(wave, (HEIGHT, 1))[..., None], 3, axis=2).astype(np.uint8))
    row = np.asarray(cut_view(panorama, heading=0, rotation=0, size=300))[150, :, 0].astype(int)
    assert np.abs(np.diff(row)).max() <= 2


def test_a_panorama_finer_than_the_view_is_averaged_rather_than_skipped() -> None:
    pixels = np.zeros((1000, 2000, 3), dtype=np.uint8)
    pixels[:, ::2] = 200
    view = np.asarray(cut_view(Image.fromarray(pixels), heading=10, rotation=0, size=64))
    assert view.min() > 70
    assert view.max() < 130


@pytest.mark.parametrize("rotation", [0.0, 222.0])
@pytest.mark.parametrize("heading", [0, 90, 180, 270])
def test_the_corrected_tile_shows_front_right_back_left(heading: int, rotation: float) -> None:
    tile = four_views(panorama_by_direction(rotation), heading=heading, rotation=rotation, size=300)
    seen = [color_at(tile, right, down) for down in (0.25, 0.75) for right in (0.25, 0.75)]
    assert seen == [COMPASS[(heading + turn) % 360] for turn in (0, 90, 180, 270)]


@pytest.mark.parametrize("rotation", [0.0, 222.0])
def test_the_paper_tile_looks_between_those_directions(rotation: float) -> None:
    # Its views look towards -135, -45, 45 and 135 degrees, so each is half one direction and half the next.
    tile = four_views(panorama_by_direction(rotation), heading=90, rotation=rotation, size=300, preset="paper")
    halves = [
        (color_at(tile, left + 0.1, down), color_at(tile, left + 0.4, down))
        for down in (0.25, 0.75)
        for left in (0, 0.5)
    ]
    assert halves == [(WEST, NORTH), (NORTH, EAST), (EAST, SOUTH), (SOUTH, WEST)]


def test_the_tile_at_the_original_size_has_the_original_lines() -> None:
    tile = np.asarray(four_views(panorama_by_direction(0), heading=0, rotation=0, size=2405))
    assert tile.shape == (2405, 2405, 3)
    dark = np.flatnonzero(tile[600].max(axis=1) == 0)
    assert dark.tolist() == [1200, 1201, 1202, 1203, 1204]


@pytest.mark.parametrize("size", [64, 101, 448, 449])
def test_the_tile_has_the_asked_size_and_equal_views(size: int) -> None:
    tile = np.asarray(four_views(panorama_by_direction(0), heading=0, rotation=0, size=size))
    assert tile.shape == (size, size, 3)
    dark = np.flatnonzero(tile[size // 4].max(axis=1) == 0)
    assert 1 <= len(dark) <= 2
    assert dark[0] == size - 1 - dark[-1]


def test_a_panorama_is_read_again_only_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "panorama.jpg"
    Image.new("RGB", (8, 4), RED).save(path)
    first = load_panorama(path)
    assert load_panorama(path) is first
    Image.new("RGB", (8, 4), GREY).save(path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    assert load_panorama(path).getpixel((0, 0)) == GREY


def _in_format(name: str, size: tuple[int, int] = (64, 32)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, RED).save(file, name)
    return file.getvalue()


def _with_size(width: int, height: int) -> bytes:
    data = _in_format("JPEG")
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[start + 4 :]


def _in_scans(number: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 32), RED).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * number + data[-2:]


NO_PICTURES = {
    "EPS": _in_format("EPS"),
    "GIF": _in_format("GIF"),
    "PNG": _in_format("PNG"),
    "TIFF": _in_format("TIFF"),
    "nothing": b"",
    "half a JPEG": _in_format("JPEG")[:300],
    "a JPEG without lines": _with_size(64, 0),
    "a JPEG of four thousand million pixels": _with_size(65_535, 65_535),
    "a JPEG of a thousand passes": _in_scans(1000),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_no_ordinary_jpeg_is_refused_and_starts_no_program(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "panorama.jpg"
    path.write_bytes(NO_PICTURES[kind])
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    with pytest.raises(RouteDataError, match=r"panorama\.jpg.*: .+; "):
        load_panorama(path)
    assert started == []


def test_a_picture_of_one_line_has_views(tmp_path: Path) -> None:
    path = tmp_path / "panorama.jpg"
    path.write_bytes(_in_format("JPEG", (3000, 1)))
    assert four_views(load_panorama(path), heading=0, rotation=0, size=64).size == (64, 64)


def test_a_picture_that_is_gone_is_a_fault_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(RouteDataError, match=r"panorama\.jpg: cannot be read as a picture .*; "):
        load_panorama(tmp_path / "panorama.jpg")


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("rotation", [0.0, 77.7, 300.0])
def test_streets_leave_a_crossing_in_their_true_directions(style: str, rotation: float) -> None:
    city_map, _, scene = scene_of(style)
    crossing = max(range(len(city_map.crossings)), key=lambda number: len(city_map.around[number]))
    bare = dataclasses.replace(scene, uprights=(), signs=(), zebras=())
    panorama = draw_panorama(bare, city_map.crossings[crossing], rotation=rotation, width=720)
    row = round((0.5 + 7 / 180) * panorama.height)  # 7 degrees down: the ground some twenty metres away
    ways = [city_map.vector(crossing, end) for end in city_map.around[crossing]]
    streets = [math.degrees(math.atan2(way.real, way.imag)) for way in ways]
    for before, after in zip(streets, streets[1:] + streets[:1], strict=True):
        between = before - (before - after) % 360 / 2  # neighbours go counterclockwise
        on_street, beside = (
            panorama.getpixel((int(column_at_heading(heading + 1, rotation=rotation, width=720)), row))
            for heading in (before, between)
        )
        assert on_street == STYLES[style].look.road
        assert beside != STYLES[style].look.road


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("rotation", [0.0, 200.0])
def test_a_sign_stands_in_the_true_direction_of_its_place(style: str, rotation: float) -> None:
    city_map, places, scene = scene_of(style)
    start, end = places[0].street
    crossing = city_map.crossings[start]
    only = next(sign for sign in scene.signs if sign.name == places[0].name)
    with_sign, without = (
        np.asarray(draw_panorama(dataclasses.replace(scene, signs=signs), crossing, rotation=rotation, width=720))
        for signs in ((only,), ())
    )
    changed = np.flatnonzero((with_sign != without).any(axis=(0, 2)))
    assert len(changed) > 20, f"{places[0].name} on the way from {start} to {end} is out of sight"
    way = places[0].point - crossing
    column = column_at_heading(math.degrees(math.atan2(way.real, way.imag)), rotation=rotation, width=720)
    middle = np.angle(np.exp(2j * np.pi * (changed + 0.5) / 720).mean()) / (2 * np.pi) * 720
    assert abs((middle - column + 360) % 720 - 360) < 6
