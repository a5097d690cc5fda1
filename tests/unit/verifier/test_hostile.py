"""No text costs a verifier more than a long answer does, under any preset."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from verifier.config import Preset, VerifierConfig
from verifier.equation import EquationVerifier
from verifier.exact_value import ExactValueVerifier, Expected
from verifier.hand import Hand
from verifier.hostile import hostile_texts
from verifier.navigation import NavigationVerifier, Position
from verifier.protocol import Verdict

MEGABYTE, QUARTER = 10**6, 250_000

REFERENCES: dict[str, tuple[type[Any], Any]] = {
    "a hand": (
        EquationVerifier,
        Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, training_numbers=(7, 5, 13, 4)),
    ),
    "a picture": (
        EquationVerifier,
        Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, cards_are_shown=True),
    ),
    "cards alone": (
        EquationVerifier,
        Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24, cards_are_shown=True, asks="cards"),
    ),
    "a place": (
        NavigationVerifier,
        Position(
            action="turn_direction(north)",
            intersection=True,
            landmark="Joe's Pizza",
            landmark_text="Joe's Pizza is on your left",
            instruction="Turn right, to face north.",
            other_landmarks=tuple(f"The Place No {number}" for number in range(20)),
            choices=("forward()", "stop()", *(f"turn_direction({way})" for way in ("north", "east", "south", "west"))),
            training_action="turn_direction(right)",
        ),
    ),
    "a value": (ExactValueVerifier, Expected(field="formula", value="42")),
}


def judges(preset: Preset, given: str) -> Callable[[str], Verdict]:
    kind, reference = REFERENCES[given]
    verifier = kind(VerifierConfig(preset=preset))
    return lambda text: verifier.judge(text, reference)


def seconds(judge: Callable[[str], Verdict], text: str, enough: float) -> float:
    """The processor's time for one judgement: the least of three, or the first that is little enough."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        judge(text)
        best = min(best, time.process_time() - start)
        if best < enough:
            break
    return best


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str, str]]:
    """Name, a quarter of a megabyte and a megabyte of each."""
    pairs = zip(hostile_texts(QUARTER), hostile_texts(MEGABYTE), strict=True)
    return [(name, short, long) for (name, short), (_, long) in pairs]


@pytest.mark.parametrize("preset", ["corrected", "paper"])
@pytest.mark.parametrize("given", ["a hand", "a picture", "a place", "a value"])
def test_a_megabyte_of_hostile_text_is_judged_at_once(
    preset: Preset, given: str, texts: list[tuple[str, str, str]]
) -> None:
    """Measured at 40 ms and less on a slow core; the bounds are generous, so that a busy machine fails nobody.
    What costs less than 20 ms as a megabyte is too quick to compare with a quarter of it."""
    judge = judges(preset, given)
    slow, grown = {}, {}
    for name, short, long in texts:
        cost = seconds(judge, long, enough=0.02)
        if cost > 0.25:
            slow[name] = cost
        if cost > 0.02 and cost > 8 * seconds(judge, short, enough=cost / 8):
            grown[name] = cost
    assert (slow, grown) == ({}, {})


@pytest.mark.parametrize("preset", ["corrected", "paper"])
@pytest.mark.parametrize("given", REFERENCES)
@pytest.mark.parametrize("num_characters", [400, 5_000])
def test_hostile_text_is_never_right_and_is_answered_shortly(preset: Preset, given: str, num_characters: int) -> None:
    judge = judges(preset, given)
    for name, text in hostile_texts(num_characters):
        assert len(text) == num_characters, name
        verdict = judge(text)
        assert not verdict.correct, name
        assert len(verdict.feedback) < 400, name


def test_a_hand_that_was_never_met_costs_no_more() -> None:
    """What the original's solver lists is worked out when a formula is first held against it."""
    verifier = EquationVerifier(VerifierConfig(preset="paper"))
    costs = []
    for last in range(1, 14):
        hand = Hand(labels=("2", "3", "5", str(last)), numbers=(2, 3, 5, last), target=30)
        start = time.process_time()
        verifier.judge(f'{{"formula": "2+3+5+{last}"}}', hand)
        costs.append(time.process_time() - start)
    assert min(costs) < 0.1
