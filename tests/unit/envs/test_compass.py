"""Angles, distances and the words for them, against tables worked out by hand."""

import pytest

from envs._routes.compass import (
    COMPASS_WORDS,
    TURN_WORDS,
    bearing,
    compass_word,
    distance_metres,
    side_word,
    turn_word,
    wrap_degrees,
)


@pytest.mark.parametrize(
    ("before", "after", "wrapped", "unwrapped"),
    [
        (350, 10, "slightly right", "left"),
        (10, 350, "slightly left", "right"),
        (350, 80, "right", "left"),
        (0, 90, "right", "right"),
        (0, 45, "slightly right", "slightly right"),
        (0, 45.0000001, "slightly right", "slightly right"),
        (0, 46, "right", "right"),
        (90, 45, "slightly left", "slightly left"),
        (90, 44, "left", "left"),
        (90, 90, "slightly left", "slightly left"),
        (0, 1e-9, "slightly left", "slightly left"),
        (0, 180, "right", "right"),
        (180, 0, "right", "left"),
        (0, 180.0000001, "right", "right"),
        (300, 60, "right", "left"),
    ],
)
def test_the_word_for_a_turn(before: float, after: float, wrapped: str, unwrapped: str) -> None:
    assert turn_word(before, after) == wrapped
    assert turn_word(before, after, wrap=False) == unwrapped


@pytest.mark.parametrize(
    ("angle", "wrapped"), [(0, 0), (180, 180), (-180, 180), (181, -179), (540, 180), (-340, 20), (-1e-9, 0)]
)
def test_angles_are_wrapped_to_the_half_open_circle(angle: float, wrapped: float) -> None:
    assert wrap_degrees(angle) == wrapped


@pytest.mark.parametrize(
    ("heading", "word"),
    [
        (0, "north"),
        (22.4, "north"),
        (22.5, "northeast"),
        (259, "west"),
        (337.5, "north"),
        (359.9, "north"),
        (-90, "west"),
    ],
)
def test_the_word_for_a_heading(heading: float, word: str) -> None:
    assert compass_word(heading) == word


@pytest.mark.parametrize(
    ("direction", "word"), [(350, "front"), (35, "right front"), (80, "right"), (170, "behind"), (215, "left behind")]
)
def test_the_word_for_a_side(direction: float, word: str) -> None:
    assert side_word(350, direction) == word


def test_bearings_and_distances_agree_with_known_ones() -> None:
    assert bearing((40.0, -74.0), (41.0, -74.0)) == 0
    assert bearing((0.0, 0.0), (0.0, 1.0)) == 90
    # From the survey of a real route: a block of 50 metres on Sutter Street, San Francisco.
    start, corner = (37.78950378406966, -122.4064316195797), (37.78942451809297, -122.4069914863775)
    assert 259 <= bearing(start, corner) < 260
    assert 49 < distance_metres(start, corner) < 51


def test_every_compass_and_turn_word_is_reached() -> None:
    assert {compass_word(heading) for heading in range(360)} == set(COMPASS_WORDS)
    assert {turn_word(0, heading) for heading in range(360)} == set(TURN_WORDS)
