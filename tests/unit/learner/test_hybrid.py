"""What playing and imitation count for in an update, by schedules and gates."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learner.config import LearnerConfig
from learner.hybrid import Mixing
from learner.loss_config import GateConfig
from learner.sequence import TrainingSequence
from tests.support.sequences import random_sequence


def played(*num_turns: int) -> list[TrainingSequence]:
    """Of so many answers each, the second and fourth of which are right."""
    return [random_sequence(Random(seed), 100, seed=seed, num_turns=num) for seed, num in enumerate(num_turns)]


DEMONSTRATION = random_sequence(Random(9), 100, seed=9, num_turns=2, is_demonstration=True)


def mixing(**options: Any) -> Mixing:
    return Mixing(LearnerConfig.model_validate(options), lambda sums: sums)


def weighed(parts: Sequence[Sequence[TrainingSequence]], **gate: Any) -> float:
    found = mixing(sft_weight=0.7, sft_schedule={"gate": gate}).weights(parts, 0)
    assert found.play == 1.0
    return found.imitation


@pytest.mark.parametrize(
    ("gate", "weight"),
    [
        ({}, 0.7),
        ({"by": "success", "below": 0.5}, 0.7),
        ({"by": "success", "below": 1 / 3}, 0.0),
        ({"by": "success", "above": 0.3}, 0.7),
        ({"by": "success", "above": 0.3, "below": 0.33}, 0.0),
    ],
)
def test_imitation_counts_where_the_share_of_solved_episodes_says_so(gate: dict[str, Any], weight: float) -> None:
    one, two, three = played(1, 2, 3)
    assert weighed([[one, two], [three, DEMONSTRATION]], **gate) == weight


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_all_ranks_open_a_gate_or_none(episodes: list[tuple[int, int]], below: float) -> None:
    """However episodes lie over two ranks, each decides as one that had all of them."""
    ranks: list[list[TrainingSequence]] = [[], []]
    for seed, (rank, num) in enumerate(episodes):
        ranks[rank].append(random_sequence(Random(seed), 100, seed=seed, num_turns=num))
    sums = np.zeros(2)

    def keep(local: np.ndarray) -> np.ndarray:
        sums.__iadd__(local)
        return local

    config = LearnerConfig.model_validate({"sft_schedule": {"gate": {"by": "success", "below": below}}})
    for part in ranks:
        Mixing(config, keep).weights([part], 0)
    right = sum(num % 2 == 0 for _, num in episodes)
    assert sums.tolist() == [right, len(episodes)]
    decisions = {Mixing(config, lambda _: sums).weights([part], 0).imitation for part in ranks}
    assert decisions == {float(right / len(episodes) < below)}


def test_an_episode_of_several_contexts_ends_with_its_last() -> None:
    right, wrong = played(2, 1)
    wrong = replace(wrong, trajectory=right.trajectory)
    for contexts, solved in (((right, replace(wrong, context=1)), 0), ((replace(right, context=1), wrong), 1)):
        assert weighed([list(contexts)], by="success", above=0.5) == 0.7 * solved


def test_entropy_is_that_of_the_update_before_and_a_gate_without_one_is_open() -> None:
    mixed = mixing(rl_schedule={"gate": {"by": "entropy", "below": 0.5}})
    assert mixed.weights([played(1)], 0).play == 1.0
    mixed.entropy = 0.6
    assert mixed.weights([played(1)], 1).play == 0.0
    mixed.entropy = 0.4
    assert mixed.weights([played(1)], 2).play == 1.0
    assert weighed([[DEMONSTRATION]], by="success", above=0.9) == 0.7


def test_demonstrations_that_count_for_nothing_are_not_prepared() -> None:
    parts = [[*played(1), DEMONSTRATION], [DEMONSTRATION]]
    shut = mixing(sft_schedule={"gate": {"by": "success", "above": 0.5}}).weights(parts, 0)
    assert [len(part) for part in shut.count(parts)] == [1, 0]
    assert mixing().weights(parts, 0).count(parts) is parts


def test_bounds_between_which_nothing_lies_are_told() -> None:
    with pytest.raises(ValidationError, match=r"nothing is above=0.6 and below=0.4"):
        GateConfig(above=0.6, below=0.4)
