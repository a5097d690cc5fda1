"""What playing and imitation count for in an update, by schedules and gates."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learner.config import LearnerConfig
from learner.hybrid import Weights, entropy_of, weights_of
from learner.loss_config import GateConfig
from learner.sequence import TrainingSequence
from tests.support.sequences import random_sequence


def played(*num_turns: int) -> list[TrainingSequence]:
    return [random_sequence(Random(seed), 100, seed=seed, num_turns=num) for seed, num in enumerate(num_turns)]


DEMONSTRATION = random_sequence(Random(9), 100, seed=9, num_turns=2, is_demonstration=True)


def weights(options: dict[str, Any], version: int = 0, **measured: float | None) -> Weights:
    success, entropy = measured.get("success"), measured.get("entropy")
    return weights_of(LearnerConfig.model_validate(options), version, success, entropy)


@pytest.mark.parametrize(
    ("gate", "success", "is_open"),
    [
        ({}, 0.0, True),
        ({"below": 0.5}, 0.4, True),
        ({"below": 0.5}, 0.5, False),
        ({"above": 0.3}, 0.4, True),
        ({"above": 0.3}, 0.3, False),
        ({"above": 0.3, "below": 0.5}, 0.6, False),
        ({"above": 0.3, "below": 0.5}, 0.4, True),
        ({"below": 0.5}, None, True),
    ],
)
def test_a_gate_is_open_between_its_bounds(gate: dict[str, float], success: float | None, is_open: bool) -> None:
    found = weights({"sft_weight": 0.7, "sft_schedule": {"gate": gate}}, success=success, entropy=99.0)
    assert (found.play, found.imitation) == (1.0, 0.7 * is_open)


def test_each_gate_goes_by_its_own_measure_and_a_schedule_goes_on_behind_it() -> None:
    options = {
        "rl_schedule": {"gate": {"by": "entropy", "below": 0.5}},
        "sft_schedule": {"kind": "linear", "updates": 4, "gate": {"by": "success", "below": 0.5}},
    }
    assert weights(options, 1, success=0.2, entropy=0.6) == Weights(play=0.0, imitation=0.75)
    assert weights(options, 2, success=0.9, entropy=0.4) == Weights(play=1.0, imitation=0.0)
    assert weights(options, 3, success=0.2, entropy=0.4) == Weights(play=1.0, imitation=0.25)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), max_size=12))
def test_entropy_is_that_of_all_tokens_drawn_on_any_rank(episodes: list[tuple[int, int]]) -> None:
    ranks: list[list[TrainingSequence]] = [[], []]
    for seed, (rank, num) in enumerate(episodes):
        ranks[rank].append(random_sequence(Random(seed), 100, seed=seed, num_turns=num))
    sums: list[np.ndarray] = []
    for part in ranks:
        entropy_of([part, [DEMONSTRATION]], lambda local: sums.append(local) or local)
    drawn = np.concatenate([np.zeros(0), *(each.sampled_logprobs[each.is_sampled] for part in ranks for each in part)])
    found = entropy_of([[]], lambda _: np.sum(sums, axis=0))
    assert found == (pytest.approx(-drawn.mean(), rel=1e-6) if len(drawn) else None)


def test_what_is_played_to_be_imitated_has_an_entropy_too() -> None:
    [one] = played(2)
    imitated = replace(one, is_demonstration=True, imitates="right")
    assert entropy_of([[one]], lambda sums: sums) == entropy_of([[imitated]], lambda sums: sums)


def test_what_counts_for_nothing_is_not_prepared() -> None:
    parts = [[*played(1), DEMONSTRATION], [DEMONSTRATION]]

    def count(play: float, imitation: float, is_taught: bool = False) -> list[list[bool]]:
        found = Weights(play=play, imitation=imitation).count(parts, is_taught=is_taught)
        return [[each.is_demonstration for each in part] for part in found]

    assert count(1.0, 0.5) == [[False, True], [True]]
    assert count(1.0, 0.0) == [[False], []]
    assert count(0.0, 1.0) == [[True], [True]]
    assert count(0.0, 0.0) == [[], []]
    assert count(0.0, 0.0, is_taught=True) == [[False], []]


def test_bounds_between_which_nothing_lies_are_told() -> None:
    with pytest.raises(ValidationError, match=r"nothing is above=0\.6 and below=0\.4"):
        GateConfig(above=0.6, below=0.4)
