"""What environments say of themselves: what they are measured by, what they ask, and what a test of them shifts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.catalog import find_environment
from envs.mixture import shift_between
from envs.protocol import EnvConfig, Measures


def options(name: str, **changed: Any) -> EnvConfig:
    return find_environment(name).Config(name=name, **changed)


def names(measures: Measures, part: Any) -> list[str]:
    return [measure.name.removeprefix("checks_at_first_attempt/") for measure in measures.of(part)]


def test_an_environment_that_says_nothing_has_success() -> None:
    for name in ("add_up", "countdown"):
        assert options(name).measures() == Measures()
        assert options(name).measures().headline.name == "success"
    assert options("add_up").description().task == "add up"


def test_of_cards_what_the_rule_changes_is_told_from_what_it_does_not() -> None:
    in_words = options("general_points").measures()
    assert in_words.headline.name == "success"
    assert names(in_words, "rule") == ["numbers_used", "numbers_read"]
    assert names(in_words, "rest") == ["makes_target", "formula_legal"]
    assert names(in_words, "sight") == []
    shown = options("general_points", modality="pictures", target=30).measures()
    assert names(shown, "sight") == ["cards_recognised"]
    assert shown.of("rest")[0].title == "formulas that make 30, of any numbers"
    named = options("general_points", modality="pictures", asks="cards").measures()
    assert names(named, "sight") == ["success", "cards_recognised"] and named.of("rule") == ()


def test_of_routes_the_turns_are_the_headline_and_places_are_seen_in_pictures_alone() -> None:
    in_words = options("route_navigation").measures()
    assert in_words.headline.name == "per_step_accuracy/turn_direction"
    assert names(in_words, "whole") == ["per_step_accuracy", "success"]
    assert names(in_words, "rest") == [
        *("per_step_accuracy/forward", "per_step_accuracy/stop", "instruction_read", "place_recognised")
    ]
    assert names(in_words, "sight") == []
    shown = options("route_navigation", modality="pictures").measures()
    assert names(shown, "sight") == ["place_recognised", "landmark_recognised", "intersection_recognised"]
    seen = options("route_navigation", modality="pictures", asks="recognition").measures()
    assert seen.headline.name == "per_step_accuracy" and seen.of("rule") == ()


@pytest.mark.parametrize(
    ("name", "changed", "task", "rule", "look"),
    [
        ("general_points", {}, "cards in words", "J, Q and K count 10", ""),
        (
            *("general_points", {"modality": "pictures", "face_cards": {"J": 5, "Q": 6, "K": 7}, "suits": "red"}),
            *("cards in pictures", "J, Q and K count 5, 6 and 7", "red suits"),
        ),
        ("route_navigation", {"actions": "relative"}, "routes in words", "turns go left and right", ""),
        (
            *("route_navigation", {"modality": "pictures", "city": {"style": "harbour"}}),
            *("routes in pictures", "turns go by the compass", "harbour"),
        ),
        (
            *("route_navigation", {"modality": "pictures", "city": {"style": "emblem", "look": "emblem_dusk"}}),
            *("routes in pictures", "turns go by the compass", "emblem_dusk"),
        ),
        (
            *("route_navigation", {"modality": "pictures", "dataset": "/data/york"}),
            *("routes in pictures", "turns go by the compass", "york"),
        ),
    ],
)
def test_what_is_asked_is_told_in_words(name: str, changed: dict[str, Any], task: str, rule: str, look: str) -> None:
    told = options(name, **changed).description()
    assert (told.task, told.rule, told.look) == (task, rule, look)


PICTURES = {"modality": "pictures"}


@pytest.mark.parametrize(
    ("name", "training", "test", "shift"),
    [
        ("general_points", {}, {}, "none"),
        ("general_points", {}, {"max_attempts": 1, "split_by": "hand", "at_least_one_face_card": True}, "none"),
        ("general_points", {}, {"face_cards": "eleven_twelve_thirteen"}, "rule"),
        ("general_points", {}, {"face_cards": "eleven_twelve_thirteen", "training_face_cards": "ten"}, "rule"),
        # Whoever was trained with the other rule from the start meets nothing new.
        ("general_points", {"face_cards": "eleven_twelve_thirteen"}, {"face_cards": "eleven_twelve_thirteen"}, "none"),
        ("general_points", {"face_cards": "eleven_twelve_thirteen"}, {"training_face_cards": "ten"}, "none"),
        ("general_points", PICTURES, {**PICTURES, "suits": "red"}, "look"),
        ("general_points", PICTURES, {**PICTURES, "look": {"layout": "scattered"}}, "look"),
        ("general_points", {}, {"suits": "red"}, "other"),
        ("general_points", {}, PICTURES, "other"),
        ("general_points", {}, {"target": 30}, "other"),
        ("general_points", {}, {"wording": "diverse"}, "other"),
        ("general_points", PICTURES, {**PICTURES, "suits": "red", "face_cards": "eleven_twelve_thirteen"}, "other"),
        ("route_navigation", {}, {"teacher_forced": True, "route_order": "sequential"}, "none"),
        ("route_navigation", {}, {"actions": "relative"}, "rule"),
        ("route_navigation", {}, {"city": {"style": "oldtown"}}, "other"),
        ("route_navigation", PICTURES, {**PICTURES, "city": {"style": "oldtown"}}, "look"),
        ("route_navigation", PICTURES, {**PICTURES, "city": {"seed": 3}}, "look"),
        ("route_navigation", PICTURES, {**PICTURES, "city": {"look": "oldtown"}}, "look"),
        (
            *("route_navigation", {**PICTURES, "city": {"style": "emblem", "pairs": "seen"}}),
            *({**PICTURES, "city": {"style": "emblem", "pairs": "unseen"}}, "look"),
        ),
        ("route_navigation", PICTURES, {**PICTURES, "city": {"num_routes": 90}}, "none"),
        ("route_navigation", {**PICTURES, "dataset": "/a"}, {**PICTURES, "dataset": "/b"}, "look"),
        ("countdown", {}, {"largest_number": 20}, "other"),
        ("countdown", {}, {"max_attempts": 2}, "none"),
    ],
)
def test_a_test_shifts_what_its_options_have_otherwise(
    name: str, training: dict[str, Any], test: dict[str, Any], shift: str
) -> None:
    assert options(name, **test).shift_from(options(name, **training)) == shift


def test_another_environment_is_another_task() -> None:
    assert options("countdown").shift_from(options("general_points")) == "other"


CARDS = {"name": "general_points"}
STREETS = {"name": "route_navigation"}
SHIFTED = {**CARDS, "face_cards": "eleven_twelve_thirteen"}
TURNED = {**STREETS, "actions": "relative"}


@pytest.mark.parametrize(
    ("training", "test", "shift"),
    [
        ([CARDS, STREETS], [STREETS], "none"),
        ([CARDS, STREETS], [SHIFTED], "rule"),
        ([CARDS, SHIFTED], [SHIFTED], "none"),
        ([CARDS, STREETS], [{"name": "countdown"}], "other"),
        ([CARDS, STREETS], [CARDS, STREETS], "none"),
        ([CARDS, STREETS], [SHIFTED, TURNED], "rule"),
        ([CARDS, STREETS], [SHIFTED, {**STREETS, "modality": "pictures"}], "other"),
        ([CARDS], [CARDS, STREETS], "other"),
    ],
)
def test_of_a_mixture_each_part_is_held_against_the_nearest(
    training: list[dict[str, Any]], test: list[dict[str, Any]], shift: str
) -> None:
    def asked(parts: list[dict[str, Any]]) -> EnvConfig:
        alone = [options(part["name"], **{key: part[key] for key in part if key != "name"}) for part in parts]
        named = {f"part{number}": {"env": env} for number, env in enumerate(alone)}
        return alone[0] if len(alone) == 1 else options("mixture", parts=named)

    assert shift_between(asked(test), asked(training)) == shift


rules = st.builds(lambda *counts: dict(zip("JQK", counts, strict=True)), *[st.integers(1, 20)] * 3)


@given(rules, rules)
def test_a_rule_is_shifted_where_it_differs_and_nowhere_else(first: dict[str, int], second: dict[str, int]) -> None:
    trained, tested = (options("general_points", face_cards=rule) for rule in (first, second))
    assert tested.shift_from(trained) == ("none" if first == second else "rule")
    assert trained.shift_from(tested) == tested.shift_from(trained)
    told = options("general_points", face_cards=second, training_face_cards=first)
    assert told.shift_from(tested) == tested.shift_from(trained)
