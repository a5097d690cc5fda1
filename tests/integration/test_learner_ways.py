"""Every way to learn makes the same update on one rank and on two, at every ZeRO stage, and does what it is for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from learner.config import LearnerConfig
from learner.learner import Learner
from rollout.transcript import ChatTokens
from tests.support.ranks import run_ranks
from tests.support.sequences import random_sequence
from tests.support.tiny_models import make_text_model
from tests.support.updates import BASE, TOLERANCE, largest_gap, require_same_metrics, train

pytestmark = pytest.mark.timeout(300)

TEACHER = "a teacher"
"""Stands for the folder of another model."""


def loss(**options: Any) -> dict[str, Any]:
    return {"loss": {**BASE["loss"], **options}}


WAYS: dict[str, dict[str, Any]] = {
    "rejection sampling": {"imitate_successes": True},
    "dynamic fine-tuning": {"sft": {"weighting": "dft"}},
    "pulled to the start": {"optimizer": {**BASE["optimizer"], "pull_to_start": 50.0}},
    "divergence in the reward": loss(kl_coefficient=0.0, reward_kl={"coefficient": 0.2, "target": 3.0, "horizon": 20}),
    "imitation near the start": {"sft": {"kl_coefficient": 0.3}},
    "until it has moved": {"epochs": 4, **loss(target_kl=0.01)},
    "distillation": {"distillation": {"teacher": TEACHER, "coefficient": 0.5}, "rl_weight": 0.2},
    "told the rule": {"distillation": {"teacher": "itself", "context": "A rule."}},
    "schedules": {
        "sft_schedule": {"kind": "linear", "updates": 4},
        "rl_schedule": {"kind": "cosine", "updates": 8, "end": 0.1},
    },
    "gated by success": {"sft_schedule": {"gate": {"by": "success", "above": 0.45}}},
    "gated by entropy": {"rl_schedule": {"gate": {"by": "entropy", "above": 0.5}}, "sft_weight": 2.0},
    "the paper's": {"preset": "paper", "value_head": {"hidden_sizes": (8,)}, "epochs": 2},
    "low rank": {"lora": {"rank": 4}, "distillation": {"teacher": TEACHER}},
    "grpo": {"advantage": {"kind": "grpo"}},
    "rloo": {"advantage": {"kind": "rloo"}},
    "dpo": {"advantage": {"kind": "dpo"}, "loss": {"preference_beta": 0.5}},
}
OFFLOADED = "offloaded"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=True)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("teacher"), tied=True, seed=1)


@pytest.fixture(scope="module")
def alone(model: Path, teacher: Path) -> Callable[[str], Any]:
    return cache(lambda way: run_ranks(1, train, str(model), options_of(way, teacher))[0])


def options_of(way: str, teacher: Path, **more: Any) -> dict[str, Any]:
    options = {**WAYS[way], **more}
    taught = options.get("distillation")
    if taught and taught["teacher"] == TEACHER:
        return {**options, "distillation": {**taught, "teacher": str(teacher)}}
    return options


CASES = [
    *((way, 2, {"zero_stage": stage}) for way in WAYS for stage in (2, 3)),
    ("grpo", 2, {"zero_stage": 2, "offload_optimizer": True}),
    ("pulled to the start", 2, {"zero_stage": 0}),
    ("pulled to the start", 2, {"zero_stage": 1}),
    ("pulled to the start", 1, {"zero_stage": 3}),
]


@pytest.mark.parametrize(("way", "num_ranks", "sharing"), CASES, ids=str)
def test_the_same_update_of_every_way_to_learn(
    model: Path, teacher: Path, alone: Any, way: str, num_ranks: int, sharing: dict[str, Any]
) -> None:
    options = options_of(way, teacher, deepspeed=sharing, micro_batch_tokens=100)
    state, metrics = run_ranks(num_ranks, train, str(model), options)[0]
    expected, wanted = alone(way)
    assert largest_gap(state, expected) < TOLERANCE
    require_same_metrics(metrics, wanted)


def test_a_shared_reference_is_asked_as_often_as_each_rank_likes(model: Path, alone: Any) -> None:
    """The weights that its logits are made with are put together once for all parts that the ranks' tokens are cut
    into, which are unequally many."""
    options = {**WAYS["imitation near the start"], "deepspeed": {"zero_stage": 3}, "micro_batch_tokens": 100}
    state, _ = run_ranks(2, train, str(model), options, None, 4096)[0]
    assert largest_gap(state, alone("imitation near the start")[0]) < TOLERANCE


# Ranks that do not know of each other would end an update at different steps, or learn from different things, and wait
# for ever.
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("until it has moved", "gated by entropy")])
def test_an_error_of_normalisation_would_show(model: Path, teacher: Path, alone: Any, way: str) -> None:
    state, _ = run_ranks(2, train, str(model), options_of(way, teacher), "counts of one rank")[0]
    assert largest_gap(state, alone(way)[0]) > 10 * TOLERANCE


@cache
def plainly(model: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    return run_ranks(1, train, str(model), {})[0]


def prefer_nothing(rank: int, num_ranks: int, model: str, of_rank: dict[int, int]) -> tuple[float, float]:
    """An update from dialogues of so many answers on each rank, of which every second is right: how many pairs, and
    how many steps were made of them."""
    config = LearnerConfig.model_validate({**BASE, **WAYS["dpo"], "model": model, "num_ranks": num_ranks})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    sequences = [random_sequence(Random(rank), 200, seed=rank, num_turns=of_rank[rank])]
    metrics = learner.update([sequences], {each.trajectory: 0 for each in sequences}).metrics
    learner.engine.close()
    assert "rollout_gap_max" not in metrics
    return metrics.get("pairs", 0.0), metrics["optimizer_steps"]


def test_who_has_no_pair_waits_for_those_who_have(model: Path) -> None:
    assert run_ranks(1, prefer_nothing, str(model), {0: 1}) == [(0, 0)]
    assert run_ranks(2, prefer_nothing, str(model), {0: 1, 1: 1}) == [(0, 0)] * 2
    assert run_ranks(2, prefer_nothing, str(model), {0: 1, 1: 4}) == [(2, 1)] * 2


@pytest.mark.parametrize("way", [way for way in WAYS if way != "low rank"])
def test_every_way_is_another(model: Path, alone: Any, way: str) -> None:
    assert largest_gap(alone(way)[0], plainly(model)[0]) > 10 * TOLERANCE


def test_what_each_way_is_for(model: Path, alone: Any) -> None:
    plain = plainly(model)[1]
    rejected = alone("rejection sampling")[1]
    assert "policy_loss" not in rejected[0] and rejected[0]["sft_loss"] > 0
    moved = alone("until it has moved")[1]
    assert all(2 <= row["optimizer_steps"] <= 8 for row in moved) and {row["optimizer_steps"] for row in moved} != {8}
    preferred = alone("dpo")[1]
    assert preferred[0]["dpo_loss"] == pytest.approx(np.log(2), abs=1e-6) and preferred[0]["pairs"] > 5
    assert preferred[-1]["dpo_loss"] != preferred[0]["dpo_loss"]
    kept = alone("divergence in the reward")[1]
    assert kept[0]["reward_kl"] == 0.2 and len({row["reward_kl"] for row in kept}) > 1
    assert plain[0].keys() - {"kl_reference"} <= kept[0].keys()


def test_gates_open_and_shut(model: Path, alone: Any) -> None:
    for way, name in (("gated by success", "sft_weight"), ("gated by entropy", "rl_weight")):
        weights = {row[name] for row in alone(way)[1]}
        assert len(weights) == 2 and 0 in weights
    assert [row["sft_weight"] for row in alone("gated by success")[1]] == [0, 0, 0, 1, 1]
    for way, name, loss in (
        ("gated by success", "sft_weight", "sft_loss"),
        ("gated by entropy", "rl_weight", "policy_loss"),
    ):
        assert all((loss in row) == bool(row[name]) for row in alone(way)[1])


def test_where_nothing_counts_there_is_no_step(model: Path) -> None:
    shut = {"gate": {"by": "success", "above": 2.0}}
    state, metrics = run_ranks(2, train, str(model), {"sft_schedule": shut, "rl_schedule": shut})[0]
    assert all(row["optimizer_steps"] == 0 and "sft_loss" not in row for row in metrics)
    assert all((state[name] == weight).all() for name, weight in weights_of(model).items() if name in state)


def weights_of(model: Path) -> dict[str, np.ndarray]:
    """As they were before any update, under the names of a learner's."""
    return {f"backbone.{name}": each.numpy() for name, each in load_file(model / "model.safetensors").items()}


@pytest.mark.parametrize("sharing", [{"zero_stage": 0}, {"zero_stage": 2}], ids=str)
def test_how_hard_losses_pull_is_told_and_changes_nothing(model: Path, sharing: dict[str, Any]) -> None:
    told = run_ranks(1, train, str(model), {"pulls_every": 2})[0]
    assert largest_gap(told[0], plainly(model)[0]) == 0
    pulls = {"pull_policy", "pull_value", "pull_entropy", "pull_kl", "pull_imitation"}
    for update, row in enumerate(told[1]):
        assert {name for name in row if name.startswith("pull_")} == (pulls if update % 2 == 0 else set())
    shared = run_ranks(2, train, str(model), {"pulls_every": 2, "deepspeed": sharing, "micro_batch_tokens": 100})[0]
    for update in (0, 2, 4):
        for name in pulls:
            assert shared[1][update][name] == pytest.approx(told[1][update][name], rel=1e-3), name
    assert all(told[1][2][name] > 0 for name in pulls)


def test_what_is_pulled_stays_nearer(model: Path, alone: Any) -> None:
    start = weights_of(model)

    def distance(state: dict[str, np.ndarray]) -> float:
        return sum(float(np.square(state[name] - start[name]).sum()) for name in start.keys() & state.keys())

    assert 0 < distance(alone("pulled to the start")[0]) < 0.9 * distance(plainly(model)[0])
