"""An update is the same whatever the number of ranks, the ZeRO stage, the micro-batch and the layout."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import pytest
import ray
import torch

from learner import token_scorer, vocabulary_tiles
from learner.config import LearnerConfig
from learner.hybrid import Weights
from learner.learner import FutureEpisode, Learner
from learner.limits import FEW_LOGITS, TILE_LOGITS
from learner.ppo import weigh
from learner.sequence import Trajectory
from learner.stepping import Stepped, Stepping
from learner.token_table import TokenTable
from learner.work import Work
from learner.worker import Item, LearnerWorker
from rollout.transcript import ChatTokens
from tests.support.episodes import episode, right, wrong
from tests.support.ranks import run_ranks, start_ranks
from tests.support.sequences import random_sequence
from tests.support.tiny_models import make_text_model
from tests.support.updates import BASE, TOLERANCE, largest_gap, require_same_metrics, sequences_for, train
from tests.support.whole_state import whole_state_dict

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=True)


@pytest.fixture(scope="module")
def expected(model: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    [(state, metrics)] = run_ranks(1, train, str(model), {})
    assert state is not None
    return state, metrics


VARIANTS = [
    (1, {"micro_batch_tokens": 64}),
    (1, {"layout": "padded", "micro_batch_tokens": 200}),
    (1, {"layout": "packed", "micro_batch_tokens": 150}),
    (1, {"deepspeed": {"zero_stage": 3, "gradient_checkpointing": True}}),
    (2, {}),
    (2, {"deepspeed": {"zero_stage": 1}, "micro_batch_tokens": 100}),
    (2, {"deepspeed": {"zero_stage": 2}, "layout": "padded"}),
    (2, {"deepspeed": {"zero_stage": 3}, "micro_batch_tokens": 64}),
]


@pytest.mark.parametrize(("num_ranks", "options"), VARIANTS, ids=str)
def test_the_same_update(model: Path, expected: Any, num_ranks: int, options: dict[str, Any]) -> None:
    state, metrics = run_ranks(num_ranks, train, str(model), options)[0]
    assert largest_gap(state, expected[0]) < TOLERANCE
    require_same_metrics(metrics, expected[1])


def test_an_update_says_how_much_of_the_device_it_used(expected: Any) -> None:
    for row in expected[1]:
        assert 0 < row["mfu"] < 1
        assert 0.1 < row["peak_memory_gib"] < 100


def test_an_error_of_normalisation_would_show(model: Path, expected: Any) -> None:
    state, _ = run_ranks(2, train, str(model), {}, "counts of one rank")[0]
    assert largest_gap(state, expected[0]) > 10 * TOLERANCE


LOSSES: dict[str, dict[str, Any]] = {
    "entropies learned": {},
    "entropies told": {"loss": {**BASE["loss"], "entropy_coefficient": 0.0}},
    "held against the start": {"sft": {"kl_coefficient": 0.1}},
    "held against the start, low rank": {"sft": {"kl_coefficient": 0.1}, "lora": {"rank": 2}},
    "low rank in the output layer too": {
        "sft": {"kl_coefficient": 0.1},
        "lora": {"rank": 2, "target_modules": ["lm_head", "q_proj"]},
    },
}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="module")
def with_all_logits(untied: Path) -> Callable[[str], Any]:
    return cache(lambda kind: run_ranks(1, train, str(untied), LOSSES[kind])[0])


@pytest.mark.parametrize(
    ("kind", "num_ranks", "stage"),
    [
        (kind, num_ranks, stage)
        for kind in LOSSES
        for num_ranks, stage in ((1, 0), (2, 2), (2, 3))
        if (kind, stage) != ("low rank in the output layer too", 3)
    ],
)
def test_the_same_update_where_no_logits_are_kept(
    untied: Path, with_all_logits: Any, kind: str, num_ranks: int, stage: int
) -> None:
    options = {**LOSSES[kind], "deepspeed": {"zero_stage": stage}}
    state, metrics = run_ranks(num_ranks, train, str(untied), options, None, 1)[0]
    expected, wanted = with_all_logits(kind)
    assert largest_gap(state, expected) < TOLERANCE
    require_same_metrics(metrics[-1:], wanted[-1:])


def held_behind_the_output_layer(rank: int, num_ranks: int, model: str) -> tuple[set[int], set[int]]:
    """How many values of the output layer's weight a rank holds at ZeRO 3 while that layer goes back, and behind it."""
    options = {"model": model, "num_ranks": num_ranks, "deepspeed": {"zero_stage": 3}, "loss": {"kl_coefficient": 0}}
    vocabulary_tiles.TILE_LOGITS, token_scorer.FEW_LOGITS = {"cpu": 1000}, 1
    chat = ChatTokens.load(Path(model))
    learner = Learner(Path(model), LearnerConfig.model_validate(options), temperature=1.0, chat=chat)
    weight: Any = learner.policy.output_layer.weight
    tiles, states = vocabulary_tiles._logits, learner.policy.hidden_states
    during, behind = set[int](), set[int]()

    def making(*args: Any) -> torch.Tensor:
        during.add(weight.numel())
        return tiles(*args)

    def watched(batch: Any) -> torch.Tensor:
        hidden = states(batch)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: behind.add(weight.numel()))
        return hidden

    vocabulary_tiles._logits, learner.policy.hidden_states = making, watched
    try:
        sequences = sequences_for(0)[rank::num_ranks]
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences_for(0)}
        learner.update([sequences], groups)
    finally:
        vocabulary_tiles._logits, vocabulary_tiles.TILE_LOGITS = tiles, TILE_LOGITS
        token_scorer.FEW_LOGITS = FEW_LOGITS
        learner.engine.close()
    return during, behind


def test_a_shared_output_layer_is_let_go_when_it_has_been_back(untied: Path) -> None:
    for during, behind in run_ranks(2, held_behind_the_output_layer, str(untied)):
        assert min(during) > 10_000 and behind == {0}


def learn_worth(rank: int, num_ranks: int, model: str, options: dict[str, Any], num_updates: int) -> dict[str, Any]:
    """What the critic says of episodes that are all worth 3, and how far the policy has moved, update by update."""
    config = LearnerConfig.model_validate(
        {"model": model, "num_ranks": num_ranks, "advantage": {"kind": "turn", "turn_gamma": 1.0}, **options}
    )
    learner = Learner(Path(model), config, temperature=1.0, chat=ChatTokens.load(Path(model)))
    before = {name: tensor.clone() for name, tensor in (whole_state_dict(learner.engine) or {}).items()}
    found: dict[str, Any] = {"worth": [], "moved": [], "imitated": []}
    for update in range(num_updates):
        sequences = []
        for seed in range(rank, 8, num_ranks):
            sequence = random_sequence(Random(10 * update + seed), 200, seed=seed, num_turns=1)
            rewards = np.where(sequence.rewards != 0, 3.0, 0.0).astype(np.float32)
            sequences.append(dataclasses.replace(sequence, rewards=rewards, is_truncated=False))
        if rank == 0:
            sequences.append(random_sequence(Random(update), 200, seed=99, is_demonstration=True))
        report = learner.update([sequences], {each.trajectory: each.trajectory.seed for each in sequences})
        # With rewards of 3 the error is 3 less the worth, and the loss half its square.
        found["worth"].append(3 - (2 * report.metrics["value_loss"]) ** 0.5)
        after = whole_state_dict(learner.engine) or {}
        distances = {name: float((after[name] - before[name]).abs().max()) for name in after}
        policy = [distance for name, distance in distances.items() if not name.startswith("value_head.")]
        found["moved"].append(max(policy, default=0.0))
        found["imitated"].append("sft_loss" in report.metrics)
    learner.engine.close()
    return found


CRITIC = {"hidden_sizes": (16,), "learning_rate": 3e-2}


def test_a_critic_with_the_models_rate_hardly_learns_and_one_with_its_own_does(model: Path) -> None:
    """At the paper's rates: the model's is 1e-6."""
    slow = {"optimizer": {"learning_rate": 1e-6}, "value_head": {"hidden_sizes": (16,)}}
    [found] = run_ranks(1, learn_worth, str(model), slow, 30)
    assert abs(found["worth"][-1]) < 0.1
    [found] = run_ranks(1, learn_worth, str(model), {**slow, "value_head": CRITIC}, 30)
    assert found["worth"][-1] > 1.5


@pytest.mark.parametrize(("num_ranks", "stage"), [(1, 0), (1, 3), (2, 1), (2, 2), (2, 3)])
def test_a_critic_that_warms_up_leaves_the_policy_as_it_is(model: Path, num_ranks: int, stage: int) -> None:
    options = {
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1},
        "value_head": {**CRITIC, "warmup_updates": 2},
        "deepspeed": {"zero_stage": stage},
    }
    found = run_ranks(num_ranks, learn_worth, str(model), options, 3)[0]
    assert found["moved"][:2] == [0, 0]
    assert found["moved"][2] > 1e-4
    assert found["worth"][1] > found["worth"][0]
    assert found["imitated"] == [False, False, True]


def imitate(rank: int, num_ranks: int, model: str) -> float:
    """How far one step of imitation moves the policy, while a critic would warm up."""
    options = {"model": model, "optimizer": {"learning_rate": 1e-3}, "value_head": {"warmup_updates": 5}}
    config = LearnerConfig.model_validate(options)
    learner = Learner(Path(model), config, temperature=1.0, chat=ChatTokens.load(Path(model)))
    before = {name: tensor.clone() for name, tensor in (whole_state_dict(learner.engine) or {}).items()}
    learner.update([[random_sequence(Random(1), 200, is_demonstration=True)]], {})
    after = whole_state_dict(learner.engine) or {}
    learner.engine.close()
    return max(float((after[name] - before[name]).abs().max()) for name in after)


def test_imitation_waits_for_no_critic(model: Path) -> None:
    assert run_ranks(1, imitate, str(model))[0] > 1e-4


def look_for_values(rank: int, num_ranks: int, model: str, old_logprobs: str) -> tuple[int, int]:
    config = LearnerConfig.model_validate({"model": model, "old_logprobs": old_logprobs})
    learner = Learner(Path(model), config, temperature=1.0, chat=ChatTokens.load(Path(model)))
    sequences = [random_sequence(Random(seed), 200, seed=seed) for seed in range(2)]
    report = learner.update([[each] for each in sequences], {each.trajectory: 0 for each in sequences})
    learner.engine.close()
    return report.looked.scored, report.looked.valued


def test_the_output_layer_is_not_charged_where_only_values_are_asked_for(model: Path) -> None:
    scored, valued = run_ranks(1, look_for_values, str(model), "learner")[0]
    assert run_ranks(1, look_for_values, str(model), "rollout")[0] == (0, valued)
    assert valued == scored + 2


def refuse_future(rank: int, num_ranks: int, model: str) -> str:
    config = LearnerConfig(model=model)
    learner = Learner(Path(model), config, temperature=1.0, chat=ChatTokens.load(Path(model)))
    sequence = random_sequence(Random(1), 200)
    sequence.versions[sequence.is_sampled] = 4
    try:
        with pytest.raises(
            FutureEpisode, match="played by version 4 of the policy, but the learner is at version 0"
        ) as error:
            learner.update([[sequence]], {sequence.trajectory: 0})
    finally:
        learner.engine.close()
    return str(error.value)


def update_once(rank: int, num_ranks: int, model: str, options: dict[str, Any], looks: bool) -> Any:
    """One update of one step from episodes and demonstrations: parameters, metrics, and what went through the model."""
    config = LearnerConfig.model_validate({**BASE, "model": model, "num_ranks": num_ranks, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    mine = sequences_for(0)[rank::num_ranks]
    if looks:
        object.__setattr__(config, "looks_for_logprobs", lambda num_steps: True)
        learner._stepping = cast(Stepping, Comparing(learner._stepping))
    groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences_for(0)}
    report = learner.update([mine], groups)
    state = whole_state_dict(learner.engine) or {}
    learner.engine.close()
    return {name: tensor.numpy() for name, tensor in state.items()}, dict(report.metrics), report


class Comparing:
    """Steps as where a step is not the only one: from what was looked at."""

    def __init__(self, stepping: Stepping) -> None:
        self._stepping = stepping

    def steps(self, work: Work, weights: Weights, version: int) -> Stepped:
        old = work.table.old_logprobs.clone()
        found = self._stepping.steps(work, weights, version)
        played = ~work.table.is_demonstration
        apart = (work.table.old_logprobs - old)[played].abs().max()
        assert apart < 1e-5, "what it computes itself is what a look has said"
        return found


@pytest.mark.parametrize("kind", ["bi_level", "turn", "grpo", "reinforce"])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_an_update_of_one_step_is_the_same_without_a_look(model: Path, num_ranks: int, kind: str) -> None:
    options = {"advantage": {"kind": kind}, "loss": {"clip": 0.1, "importance_cap": 2.0}, "sft_weight": 0.5}
    looked = run_ranks(num_ranks, update_once, str(model), options, True)[0]
    found = run_ranks(num_ranks, update_once, str(model), options, False)[0]
    assert largest_gap(found[0], looked[0]) < TOLERANCE
    require_same_metrics([found[1]], [looked[1]])
    assert found[1]["rollout_gap_max"] > 0
    played = [each for each in sequences_for(0) if not each.is_demonstration]
    needs_values = kind in ("bi_level", "turn")
    assert looked[2].looked.tokens == sum(each.num_tokens for each in played), "demonstrations are not looked at"
    assert found[2].looked.tokens == (looked[2].looked.tokens if needs_values else 0)
    assert found[2].looked.scored == 0, "where only values are wanted, the output layer does not run"


def test_an_episode_from_the_future_is_refused(model: Path) -> None:
    assert "restore the checkpoint" in run_ranks(1, refuse_future, str(model))[0]


def test_a_demonstration_of_a_task_that_is_played_too_leaves_its_group_alone(model: Path) -> None:
    """Four samples of one task, one solved, and a demonstration of the same task, as a hybrid has them."""
    start_ranks(1)  # and Ray, if no test before has
    played = [episode(right() if sample == 0 else wrong(), seed=0, sample=sample) for sample in range(4)]
    items = [Item(episode=ray.put(one), num_tokens=15, group=0) for one in played]
    shown = Item(episode=ray.put(episode(right(), seed=0)), num_tokens=15, group=1, is_demonstration=True)
    config = LearnerConfig.model_validate({"model": str(model), "advantage": {"kind": "grpo", "normalise": "none"}})
    found = []
    for chosen in (items, [*items, shown]):
        groups: dict[Trajectory, int] = {}
        sequences = LearnerWorker(0, config, 1.0)._fetch(chosen, groups)
        table = TokenTable.of(sequences, config)
        found.append(weigh(table, sequences, groups, config, lambda rows: rows).advantages)
        assert set(groups.values()) == {0}
    assert np.array_equal(found[0], found[1])
    assert found[0][::5] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], abs=1e-5)
