"""An update is the same whatever the number of ranks, the ZeRO stage, the micro-batch and the layout."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import ray

from learner.batch import balance
from learner.config import LearnerConfig
from learner.learner import FutureEpisode, Learner
from learner.ppo import weigh
from learner.sequence import TrainingSequence, Trajectory, sequences_of
from learner.token_table import TokenTable
from learner.worker import Item, LearnerWorker
from rollout.scripted_engine import ScriptedEngine, Suboptimal
from rollout.transcript import ChatTokens
from tests.support.episodes import episode, right, wrong
from tests.support.ranks import run_ranks, start_ranks
from tests.support.sequences import play, random_sequence
from tests.support.tiny_models import make_picture_model, make_text_model
from tests.support.whole_state import whole_state_dict

TOLERANCE = 2e-5
"""After five steps of AdamW at a learning rate of 1e-3: steps of 5e-3 in all, in float32."""
NUM_UPDATES = 5
BASE: dict[str, Any] = {
    "optimizer": {"learning_rate": 1e-3, "max_gradient_norm": 0.5, "weight_decay": 0.01, "epsilon": 1e-4},
    "advantage": {"kind": "bi_level", "normalise": "mean_std"},
    "loss": {"entropy_coefficient": 0.01, "value_clip": 0.2, "kl_coefficient": 0.1, "clip": 0.1},
    "value_head": {"hidden_sizes": (8,)},
    "micro_batch_tokens": 4096,
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=True)


def sequences_for(update: int) -> list[TrainingSequence]:
    random = Random(update)
    return [
        random_sequence(
            random, 200, seed=seed // 2, num_turns=random.randint(1, 4), sample=seed % 2, is_demonstration=seed % 5 == 0
        )
        for seed in range(21)
    ]


def train(
    rank: int, num_ranks: int, model: str, options: dict[str, Any], planted: str | None = None
) -> tuple[dict[str, np.ndarray] | None, list[dict[str, float]]]:
    """Parameters and metrics after five updates, of which each has two optimizer steps."""
    config = LearnerConfig.model_validate({**BASE, "model": model, "num_ranks": num_ranks, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    if planted == "counts of one rank":
        learner.engine.sum = lambda values: values
    metrics = []
    for update in range(NUM_UPDATES):
        sequences = sequences_for(update)
        parts = []
        for start in range(2):
            part = sequences[start::2]
            mine = balance([each.num_tokens for each in part], num_ranks)[rank]
            parts.append([part[index] for index in mine])
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences}
        report = learner.update(parts, groups)
        metrics.append(dict(report.metrics))
    state = whole_state_dict(learner.engine)
    learner.engine.close()
    return None if state is None else {name: tensor.numpy() for name, tensor in state.items()}, metrics


def largest_gap(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


@pytest.fixture(scope="module")
def expected(model: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    [(state, metrics)] = run_ranks(1, train, str(model), {})
    assert state is not None
    return state, metrics


VARIANTS = [
    (1, {"micro_batch_tokens": 64}),
    (1, {"layout": "rows", "micro_batch_tokens": 200}),
    (1, {"layout": "flat", "micro_batch_tokens": 150}),
    (1, {"deepspeed": {"zero_stage": 3, "gradient_checkpointing": True}}),
    (2, {}),
    (2, {"deepspeed": {"zero_stage": 1}, "micro_batch_tokens": 100}),
    (2, {"deepspeed": {"zero_stage": 2}, "layout": "rows"}),
    (2, {"deepspeed": {"zero_stage": 3}, "micro_batch_tokens": 64}),
]


@pytest.mark.parametrize(("num_ranks", "options"), VARIANTS, ids=str)
def test_the_same_update(model: Path, expected: Any, num_ranks: int, options: dict[str, Any]) -> None:
    state, metrics = run_ranks(num_ranks, train, str(model), options)[0]
    assert largest_gap(state, expected[0]) < TOLERANCE
    for measured, wanted in zip(metrics, expected[1], strict=True):
        for name in wanted.keys() - {"padding_waste", "tokens_per_second"}:
            assert measured[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name


def test_an_error_of_normalisation_would_show(model: Path, expected: Any) -> None:
    state, _ = run_ranks(2, train, str(model), {}, "counts of one rank")[0]
    assert largest_gap(state, expected[0]) > 10 * TOLERANCE


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


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_picture_model(tmp_path_factory.mktemp("pictures"))


def seen_sequences(model: str, update: int, kind: str) -> list[TrainingSequence]:
    """Of hands as pictures, of hands in words, or of both, some with a second attempt."""
    chat = ChatTokens.load(Path(model))
    wanted = {"pictures": ["pictures"], "text": ["text"], "mixed": ["pictures", "text", "text"]}[kind]
    played = []
    for number, modality in enumerate(wanted):
        seeds = range(10 * update + 5 * number, 10 * update + 5 * number + (3 if modality == "pictures" else 5))
        options = {"look": {"size": 112}} if modality == "pictures" else {}
        engine = ScriptedEngine(chat, Suboptimal(number % 2))
        played += play(chat, engine, seeds, "general_points", modality=modality, max_attempts=3, **options)
    return [sequence for one in played for sequence in sequences_of(one, chat)]


def train_with_pictures(
    rank: int, num_ranks: int, model: str, options: dict[str, Any], kind: str, planted: bool = False
) -> tuple[dict[str, np.ndarray] | None, list[dict[str, float]]]:
    """Three updates from all sequences, which ranks share as they are balanced; unequal numbers of micro-batches."""
    config = LearnerConfig.model_validate({**BASE, "model": model, "num_ranks": num_ranks, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    if planted:
        learner.engine.sum = lambda values: values
    metrics = []
    for update in range(3):
        sequences = seen_sequences(model, update, kind)
        # The first rank has one long sequence, the other all the rest.
        mine = sequences if num_ranks == 1 else sequences[:1] if rank == 0 else sequences[1:]
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences}
        metrics.append(dict(learner.update([mine], groups).metrics))
    state = whole_state_dict(learner.engine)
    learner.engine.close()
    return (None if state is None else {name: tensor.numpy() for name, tensor in state.items()}), metrics


@pytest.fixture(scope="module")
def alone(picture_model: Path) -> Callable[[str], tuple[dict[str, np.ndarray], list[dict[str, float]]]]:
    """What one rank comes to, with all sequences in one micro-batch."""
    options = {"micro_batch_tokens": 8192}
    return cache(lambda kind: run_ranks(1, train_with_pictures, str(picture_model), options, kind)[0])


@pytest.mark.parametrize(
    ("kind", "stage"), [("pictures", 2), ("pictures", 3), *(("mixed", stage) for stage in range(4)), ("text", 3)]
)
def test_the_same_update_of_a_model_with_eyes(picture_model: Path, alone: Any, kind: str, stage: int) -> None:
    """On two ranks of which one has fewer micro-batches, or none with a picture."""
    options = {"deepspeed": {"zero_stage": stage}, "micro_batch_tokens": 700}
    shared, metrics = run_ranks(2, train_with_pictures, str(picture_model), options, kind)[0]
    state, expected = alone(kind)
    assert largest_gap(shared, state) < TOLERANCE
    for measured, wanted in zip(metrics, expected, strict=True):
        for name in wanted.keys() - {"padding_waste", "tokens_per_second"}:
            assert measured[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name


def test_an_error_of_normalisation_would_show_with_pictures_too(picture_model: Path, alone: Any) -> None:
    state, _ = run_ranks(2, train_with_pictures, str(picture_model), {"micro_batch_tokens": 700}, "mixed", True)[0]
    assert largest_gap(state, alone("mixed")[0]) > 10 * TOLERANCE
