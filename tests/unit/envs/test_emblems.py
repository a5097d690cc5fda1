"""Signs that a tiny model can read: what they show, where they stand, and what stays the same in another look."""

import cmath
import dataclasses
import hashlib
import json
import math
from functools import cache
from itertools import combinations, cycle, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from envs._city.build import build_city
from envs._city.cache import CityConfig
from envs._city.emblems import EMBLEMS, emblem_mask
from envs._city.landmarks import SignsOnTheWay, landmark_at
from envs._city.map import CityMap, Place, add_places, draw_map
from envs._city.names import names_of, pair_of
from envs._city.panorama import draw_panorama
from envs._city.routes import Leg, Route, find_routes, geocode_at
from envs._city.scene import Scene, build_scene
from envs._city.signs import EMBLEM_SHARE, board_of
from envs._city.styles import COLORS, FIRST_WORDS, KINDS, STYLES, Color
from envs._routes.compass import bearing, side_word
from envs._routes.street_views import four_views
from envs.route_navigation import Config, Environment
from verifier.config import VerifierConfig

WITH_EMBLEMS = [name for name, style in STYLES.items() if style.look.boards.emblems]
SIZES = (112, 168, 224)
SMALL = 12
"""Pixels across the emblem of a corner's sign in a picture of 112."""

every_look = pytest.mark.parametrize("style", WITH_EMBLEMS)


@cache
def drawn(style: str) -> tuple[CityMap, tuple[Place, ...], tuple[Route, ...], Scene]:
    generator = Random(3)
    city_map = draw_map(STYLES[style].layout, 6, generator)
    places = add_places(city_map, names_of(STYLES[style]), generator)
    routes = find_routes(
        city_map,
        places,
        num_routes=12,
        num_turns=(2, 6),
        generator=generator,
        accepts=SignsOnTheWay(city_map, places),
    )
    return city_map, places, tuple(routes), build_scene(city_map, places, STYLES[style].look, generator)


def landmarks(style: str) -> list[tuple[Leg, Place]]:
    """The turns of all routes that have a landmark, each by the leg that leads there."""
    _, places, routes, _ = drawn(style)
    turns = [(leg, landmark_at(leg.points[-1], places)) for route in routes for leg in route.legs[:-1]]
    return [(leg, place) for leg, place in turns if place]


def changed_columns(scene: Scene, other: Scene, eye: complex, width: int = 360) -> NDArray[np.intp]:
    pictures = (np.asarray(draw_panorama(each, eye, rotation=0.0, width=width)) for each in (scene, other))
    first, second = pictures
    return np.flatnonzero((first != second).any(axis=(0, 2)))


def near(pixels: NDArray[np.uint8], color: Color, distance: float = 60.0) -> NDArray[np.bool_]:
    return np.linalg.norm(pixels.astype(float) - color, axis=-1) < distance


def test_every_kind_has_an_emblem() -> None:
    assert list(EMBLEMS) == list(KINDS)


@pytest.mark.parametrize("size", [SMALL, 96])
def test_no_two_emblems_are_alike(size: int) -> None:
    masks = {kind: np.asarray(emblem_mask(kind, size), dtype=float) for kind in KINDS}
    for first, second in combinations(masks.values(), 2):
        overlap = np.minimum(first, second).sum() / np.maximum(first, second).sum()
        assert overlap < 0.72
    assert all(0.3 < mask.mean() / 255 < 0.8 for mask in masks.values())


def test_colours_are_first_words_and_clearly_distinct_from_each_other_and_from_every_board() -> None:
    assert set(COLORS) <= set(FIRST_WORDS)
    boards = [STYLES[style].look.boards for style in WITH_EMBLEMS]
    grounds = [ground for board in boards for ground in (board.ground, board.ink)]
    for first, second in combinations(COLORS.values(), 2):
        assert math.dist(first, second) > 85
    assert all(math.dist(color, ground) > 85 for color in COLORS.values() for ground in grounds)


@every_look
def test_a_board_is_painted_in_the_colour_of_the_name_in_the_shape_of_the_kind(style: str) -> None:
    board = STYLES[style].look.boards
    for kind, word in zip(KINDS, cycle(COLORS), strict=False):
        painted = board_of(f"{word} Otter {kind}", COLORS[word], board)
        picture = np.asarray(painted.resize((96, round(96 * board.aspect)), Image.Resampling.NEAREST))
        plain = near(picture, board.ground, 2) | near(picture, board.ink, 2)
        colors, counts = np.unique(picture[~plain], axis=0, return_counts=True)
        assert tuple(colors[counts.argmax()]) == COLORS[word]
        size = round(96 * EMBLEM_SHARE)
        corner = (96 - size) // 2
        shape = near(picture, COLORS[word], 5)[corner : corner + size, corner : corner + size]
        wanted = np.asarray(emblem_mask(kind, size)) > 127
        assert (shape & wanted).sum() / (shape | wanted).sum() > 0.9


@every_look
def test_a_sign_is_seen_on_the_side_that_the_text_says(style: str) -> None:
    _, _, _, scene = drawn(style)
    for leg, place in landmarks(style)[:12]:
        turn = leg.points[-1]
        (sign,) = (sign for sign in scene.signs if sign.name == place.name)
        alone, none = (dataclasses.replace(scene, signs=signs) for signs in ((sign,), ()))
        columns = changed_columns(alone, none, turn)
        middle = math.degrees(cmath.phase(np.exp(1j * np.radians(columns + 0.5)).mean()))
        stated = side_word(leg.heading, bearing(geocode_at(turn), geocode_at(place.point)))
        assert side_word(leg.heading, middle) == stated
        assert len(columns) >= 24  # degrees


@every_look
def test_a_sign_is_read_from_where_its_place_is_asked_about_and_from_no_other_viewpoint(style: str) -> None:
    city_map, places, _, scene = drawn(style)
    points = {point for block in city_map.street_names for point in city_map.viewpoints(*block)}
    for place, sign in list(zip(places, scene.signs, strict=True))[::12]:
        alone, none = (dataclasses.replace(scene, signs=signs) for signs in ((sign,), ()))
        around = [point for point in points if abs(point - place.point) < 40]
        assert place.seen_from in around
        assert [point for point in around if len(changed_columns(alone, none, point, 180))] == [place.seen_from]


@every_look
@pytest.mark.parametrize("size", SIZES)
def test_a_small_picture_shows_the_colour_of_the_landmark_in_one_view_large(style: str, size: int) -> None:
    """Even with the JPEG's and the views' blur, hundreds of pixels have the colour that the name says."""
    _, _, _, scene = drawn(style)
    for leg, place in landmarks(style)[:6]:
        (sign,) = (sign for sign in scene.signs if sign.name == place.name)
        panorama = draw_panorama(dataclasses.replace(scene, signs=(sign,)), leg.points[-1], rotation=70.0, width=528)
        picture = np.asarray(four_views(panorama, heading=leg.heading, rotation=70.0, size=size))
        half = size // 2
        views = [picture[top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
        counts = [int(near(view, COLORS[pair_of(place.name)[0]]).sum()) for view in views]
        side = side_word(leg.heading, bearing(geocode_at(leg.points[-1]), geocode_at(place.point)))
        allowed = {"front": 0, "right": 1, "behind": 2, "left": 3}
        assert max(counts) > (size / 14) ** 2 / 3
        assert counts.index(max(counts)) in {allowed[word] for word in side.split()}


def bars_by_view(scene: Scene, eye: complex, heading: float) -> list[float]:
    """The share of each view that shows bars of zebra crossings."""
    bare = dataclasses.replace(scene, zebras=())
    with_bars, without = (
        np.asarray(
            four_views(draw_panorama(each, eye, rotation=0.0, width=352), heading=heading, rotation=0.0, size=112)
        )
        for each in (scene, bare)
    )
    changed = (with_bars != without).any(axis=-1)
    return [float(part.mean()) for half in np.split(changed, 2) for part in np.split(half, 2, axis=1)]


@every_look
def test_bars_on_all_sides_tell_an_intersection_and_only_it(style: str) -> None:
    city_map, _, routes, scene = drawn(style)
    for route in routes[:2]:
        for before, leg in pairwise(route.legs):
            assert sum(share > 0.03 for share in bars_by_view(scene, leg.points[0], before.heading)) >= 3
            for point in city_map.viewpoints(*leg.blocks[0])[1:-1]:
                assert sum(share > 0.03 for share in bars_by_view(scene, point, leg.heading)) <= 1


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One city in three looks."""
    folder = tmp_path_factory.mktemp("looks")
    for look in WITH_EMBLEMS:
        build_city(folder / look, style="emblem", look=look, num_routes=2, seed=4, num_turns=(2, 3), panorama_width=264)
    return {look: folder / look for look in WITH_EMBLEMS}


def test_another_look_changes_pictures_and_nothing_else(looks: dict[str, Path]) -> None:
    def played(folder: Path) -> tuple[list[object], list[bytes]]:
        environment = Environment(
            Config(
                name="route_navigation",
                dataset=folder,
                modality="pictures",
                image_size=112,
                splits="none",
                route_order="sequential",
            ),
            VerifierConfig(),
        )
        words: list[object] = []
        pictures: list[bytes] = []
        for seed in range(2):
            episode = environment.open(seed, "train")
            question = episode.first_question()
            while question is not None:
                words.append((question.text, question.reference, question.expert_answer))
                pictures.append(question.images[0].tobytes())
                verdict = environment.verifier.judge(question.expert_answer, question.reference)
                question = episode.next_question(question.expert_answer, verdict)
        return words, pictures

    found = {look: played(folder) for look, folder in looks.items()}
    assert len({repr(words) for words, _ in found.values()}) == 1
    for shown in zip(*(pictures for _, pictures in found.values()), strict=True):
        assert len(set(shown)) == len(WITH_EMBLEMS)


def test_seen_and_unseen_pairs_share_none_and_each_kind_and_colour_has_both() -> None:
    style = STYLES["emblem"]
    seen, unseen = ({pair_of(name) for name in names_of(style, pairs)} for pairs in ("seen", "unseen"))
    assert seen.isdisjoint(unseen)
    assert seen | unseen == {pair_of(name) for name in names_of(style)}
    assert len(seen) == 3 * len(unseen)
    for pairs in (seen, unseen):
        assert {color for color, _ in pairs} == set(COLORS)
        assert {kind for _, kind in pairs} == set(KINDS)


@every_look
@pytest.mark.parametrize("pairs", ["all", "seen", "unseen"])
def test_no_sign_on_the_way_looks_like_a_landmark_of_the_route(style: str, pairs: str, tmp_path: Path) -> None:
    config = CityConfig.model_validate({"style": style, "pairs": pairs})
    build_city(tmp_path / "city", style=style, num_routes=60, seed=2, pictures=False, pairs=config.pairs)
    shown: set[tuple[str, str]] = set()
    for route in json.loads((tmp_path / "city" / "route_infos.json").read_text())[0]:
        names = [place["name"] for place in (*route["route_results"]["landmark_list"], route["dest_place"]) if place]
        landmark_pairs = [pair_of(name) for name in names]
        assert len(set(landmark_pairs)) == len(landmark_pairs)
        assert pair_of(route["start_place"]["name"]) not in landmark_pairs
        shown |= set(landmark_pairs)
    assert shown <= {pair_of(name) for name in names_of(STYLES[style], config.pairs)}


# What the four ordinary styles said and showed before there were emblems.
ORDINARY = {
    "manhattan": (
        "85f58d70f426cf38",
        "5b86c15683c05b8aca718aad79899c67768c53576b57647e777d8c6472847e899b757c6889877d736b624e3d3b5d58484e4e514f50545051"
        "545054545d60626161635555585350514a4b504a4b504a4b504a4b504a4b504a4b504a4b504a4b50",
    ),
    "oldtown": (
        "5718225008e315c8",
        "7aa0c67aa0c67aa0c67d9abc7d99ba7b9ec27c9bbe7a9fc59ba0a78d8075959fa88776658f7763957e73977f65917c7591816e8f7e6b8f80"
        "6f907f6c8f7c69978573917e69907e6e8e80708e80708e80708e80708e80708e80708e80708e8070",
    ),
    "garden": (
        "75ecd2185efa702e",
        "6cb0e86cb0e86cb0e86cb0e86cb0e86cb0e86cb0e86cb0e87db0c87ca8c280adc678a7bd86afd47aa6be7daec876a6bb7d857c767f747d83"
        "7a767e737a7e7a777f747d837b788175707074707074707074707074707074707074707074707074",
    ),
    "harbour": (
        "0ec5a2a23f08b98b",
        "8d94a18e98a68e98a68e98a68e959e919aa683909b80868c5d5659898f9d7b8f908a897cbaa36bb9b9b550696c564f405e5c5f5c60685d61"
        "686163666d665d6b696b5f60635957575c60685c60685c60685c60685c60685c60685c60685c6068",
    ),
}


@pytest.mark.parametrize("style", ORDINARY)
def test_the_ordinary_styles_ask_and_show_what_they_did_before(style: str, tmp_path: Path) -> None:
    said, shown = ORDINARY[style]
    build_city(tmp_path / "city", style=style, num_routes=5, seed=5, pictures=False)
    asked = [
        [
            route["start_place"]["name"],
            route["instruction"],
            route["milestone_info"],
            route["route_results"]["geocode_list"],
        ]
        for route in json.loads((tmp_path / "city" / "route_infos.json").read_text())[0]
    ]
    assert hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16] == said
    generator = Random(3)
    city_map = draw_map(STYLES[style].layout, 4, generator)
    places = add_places(city_map, names_of(STYLES[style]), generator)
    scene = build_scene(city_map, places, STYLES[style].look, generator)
    thumbnail = draw_panorama(scene, city_map.crossings[0], rotation=0.0, width=128)
    pixels = thumbnail.resize((8, 4), Image.Resampling.BOX).tobytes()
    # Other processors may round an angle otherwise, which moves a pixel at an edge.
    assert np.abs(np.frombuffer(pixels, np.uint8).astype(int) - list(bytes.fromhex(shown))).max() <= 2
