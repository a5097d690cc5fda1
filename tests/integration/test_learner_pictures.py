"""An update of a model with eyes is the same whatever ranks, ZeRO stage, micro-batch and layout it is made with."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.config import LearnerConfig, ValueHeadConfig
from learner.learner import Learner
from learner.parts import part_of
from learner.policy_model import load_policy
from learner.sequence import TrainingSequence, sequences_of
from rollout.scripted_engine import ScriptedEngine, Suboptimal
from rollout.transcript import ChatTokens
from tests.support.ranks import run_ranks
from tests.support.sequences import play
from tests.support.tiny_families import FAMILIES
from tests.support.updates import BASE, TOLERANCE, largest_gap, require_same_metrics
from tests.support.whole_state import whole_state_dict

VALUE_HEAD = ValueHeadConfig(hidden_sizes=(8,))

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda family: FAMILIES[family](tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="module")
def picture_model(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("idefics3")


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
    rank: int,
    num_ranks: int,
    model: str,
    options: dict[str, Any],
    kind: str,
    planted: bool = False,
    num_updates: int = 5,
) -> tuple[dict[str, np.ndarray] | None, list[dict[str, float]]]:
    """Updates from all sequences, which ranks share as they are balanced; unequal numbers of micro-batches."""
    config = LearnerConfig.model_validate({**BASE, "model": model, "num_ranks": num_ranks, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    if planted:
        learner.engine.sum = lambda values: values
    metrics = []
    for update in range(num_updates):
        sequences = seen_sequences(model, update, kind)
        # The first rank has one long sequence, the other all the rest.
        mine = sequences if num_ranks == 1 else sequences[:1] if rank == 0 else sequences[1:]
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences}
        metrics.append(dict(learner.update([mine], groups).metrics))
    state = whole_state_dict(learner.engine)
    learner.engine.close()
    return (None if state is None else {name: tensor.numpy() for name, tensor in state.items()}), metrics


@pytest.fixture(scope="module")
def alone(
    folder_of: Callable[[str], Path],
) -> Callable[[str, str], tuple[dict[str, np.ndarray], list[dict[str, float]]]]:
    """What one rank comes to, with all sequences in one micro-batch, each in a row of its own."""
    options = {"micro_batch_tokens": 8192}
    return cache(lambda family, kind: run_ranks(1, train_with_pictures, str(folder_of(family)), options, kind)[0])


CASES = [
    *(("idefics3", "pictures", stage, "padded") for stage in (2, 3)),
    *(
        ("idefics3", "mixed", stage, layout)
        for stage, layout in zip(range(4), ("padded", "packed", "padded", "packed"), strict=True)
    ),
    ("idefics3", "text", 3, "padded"),
    *(
        (family, "mixed", stage, layout)
        for family in ("qwen2_5_vl", "qwen3_vl", "mllama")
        for stage, layout in ((0, "padded"), (2, "packed"), (3, "packed"))
    ),
]


@pytest.mark.parametrize(("family", "kind", "stage", "layout"), CASES)
def test_the_same_update_of_every_family_with_eyes(
    folder_of: Callable[[str], Path], alone: Any, family: str, kind: str, stage: int, layout: str
) -> None:
    """On two ranks of which one has fewer micro-batches, or none with a picture."""
    options = {"deepspeed": {"zero_stage": stage}, "micro_batch_tokens": 700, "layout": layout}
    shared, metrics = run_ranks(2, train_with_pictures, str(folder_of(family)), options, kind)[0]
    state, expected = alone(family, kind)
    assert largest_gap(shared, state) < TOLERANCE
    require_same_metrics(metrics, expected)


FROZEN: dict[str, Any] = {"freeze": ["vision_tower", "projector"], "epochs": 2}


def learn_with_frozen_eyes(
    rank: int, num_ranks: int, model: str, options: dict[str, Any], keeps: bool = True
) -> tuple[Any, list[tuple[int, int]], int, int]:
    """Parameters after two updates; in each, patches that went through the tower before its steps and in them; how
    often the tower was asked; how many micro-batches there were."""
    config = LearnerConfig.model_validate({**BASE, **FROZEN, "model": model, "num_ranks": num_ranks, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    assert learner.policy.keeps_pictures
    learner.policy.keeps_pictures = keeps
    asked: list[int] = []
    towers = [each for name, each in learner.policy.named_modules() if part_of(f"{name}.x") == "vision_tower"]
    towers[0].register_forward_hook(lambda *_: asked.append(1))
    patches, num_batches = [], 0
    for update in range(2):
        sequences = seen_sequences(model, update, "mixed")
        mine = sequences if num_ranks == 1 else sequences[:1] if rank == 0 else sequences[1:]
        num_batches += len(list(learner.prepared([mine]).batches()))
        report = learner.update([mine], {sequence.trajectory: sequence.trajectory.seed for sequence in sequences})
        patches.append((report.looked.patches, report.trained.patches))
    state = whole_state_dict(learner.engine)
    learner.engine.close()
    found = None if state is None else {name: tensor.numpy() for name, tensor in state.items()}
    return found, patches, len(asked), num_batches


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_eyes_look_once_in_an_update(folder_of: Callable[[str], Path], family: str) -> None:
    """Though it goes through each picture before the first step and in both epochs; on any ranks it learns the same."""
    folder, options = str(folder_of(family)), {"micro_batch_tokens": 700}
    always = run_ranks(1, learn_with_frozen_eyes, folder, options, False)[0]
    expected, patches, asked, num_batches = always
    assert asked == 3 * num_batches
    assert all(before > 0 and within == 2 * before for before, within in patches)
    for num_ranks, stage in ((1, 0), (2, 3)):
        sharing = {**options, "deepspeed": {"zero_stage": stage}}
        state, once, asked, num_batches = run_ranks(num_ranks, learn_with_frozen_eyes, folder, sharing)[0]
        assert largest_gap(state, expected) < TOLERANCE
        assert asked == num_batches
        assert once == [(before, 0) for before, _ in patches]


RATES = {"vision_tower": 1e-5, "projector": 3e-3}


@pytest.mark.parametrize(("num_ranks", "stage"), [(1, 2), (2, 0), (2, 2), (2, 3)])
def test_parts_learn_at_their_own_rates_on_any_ranks(picture_model: Path, num_ranks: int, stage: int) -> None:
    optimizer = {**BASE["optimizer"], "part_learning_rates": RATES}
    options: dict[str, Any] = {"optimizer": optimizer, "value_head": {"hidden_sizes": (8,), "learning_rate": 1e-2}}
    expected, _ = run_ranks(1, train_with_pictures, str(picture_model), options, "pictures")[0]
    shared = {**options, "deepspeed": {"zero_stage": stage}, "micro_batch_tokens": 700}
    found, _ = run_ranks(num_ranks, train_with_pictures, str(picture_model), shared, "pictures")[0]
    # The critic's rate is ten times that for which the tolerance is.
    assert largest_gap(found, expected) < 10 * TOLERANCE
    # The first step is as long as its rate, beside a gradient that no rate has changed yet.
    first, _ = run_ranks(num_ranks, train_with_pictures, str(picture_model), shared, "pictures", False, 1)[0]
    alike, _ = run_ranks(1, train_with_pictures, str(picture_model), {}, "pictures", False, 1)[0]
    far, plain = moved_by_part(picture_model, first), moved_by_part(picture_model, alike)
    ratios = {part: far[part] / plain[part] for part in far}
    wanted = {"vision_tower": 0.01, "projector": 3, "language_model": 1, "critic": 10}
    assert ratios == pytest.approx(wanted, rel=1e-2)


def moved_by_part(model: Path, state: dict[str, np.ndarray]) -> dict[str, float]:
    """The root of the mean square of how far the parameters of each part have moved from where they began."""
    started = load_policy(
        model, LearnerConfig(model=str(model), value_head=VALUE_HEAD), ChatTokens.load(model)
    ).state_dict()
    moved: dict[str, list[np.ndarray]] = {}
    for name in sorted(state):
        part = "critic" if name.startswith("value_head.") else part_of(name)
        moved.setdefault(part, []).append((state[name] - started[name].numpy()).ravel())
    return {part: float(np.sqrt(np.square(np.concatenate(parts)).mean())) for part, parts in moved.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_of_normalisation_would_show(folder_of: Callable[[str], Path], alone: Any, family: str) -> None:
    options = {"micro_batch_tokens": 700}
    state, _ = run_ranks(2, train_with_pictures, str(folder_of(family)), options, "mixed", True)[0]
    assert largest_gap(state, alone(family, "mixed")[0]) > 10 * TOLERANCE
