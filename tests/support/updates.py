"""Updates of learners, and what tests hold them against: the same parameters and metrics, whoever made them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from learner import token_scorer, vocabulary_tiles
from learner.batch import balance
from learner.config import LearnerConfig
from learner.device_peak import OF_THE_MACHINE
from learner.learner import Learner
from learner.limits import FEW_LOGITS, TILE_LOGITS
from learner.sequence import TrainingSequence
from rollout.transcript import ChatTokens
from tests.support.sequences import random_sequence
from tests.support.whole_state import whole_state_dict

NUM_UPDATES = 5

TOLERANCE = 2e-5
"""After five steps of AdamW at a learning rate of 1e-3: steps of 5e-3 in all, in float32."""
BASE: dict[str, Any] = {
    "optimizer": {"learning_rate": 1e-3, "max_gradient_norm": 0.5, "weight_decay": 0.01, "epsilon": 1e-4},
    "advantage": {"kind": "bi_level", "normalise": "mean_std"},
    "loss": {"entropy_coefficient": 0.01, "value_clip": 0.2, "kl_coefficient": 0.1, "clip": 0.1},
    "value_head": {"hidden_sizes": (8,)},
    "micro_batch_tokens": 4096,
}
OF_THE_LAYOUT = {"padding_waste", *OF_THE_MACHINE}
"""Metrics that ranks and layouts change."""


def largest_gap(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    """Of any parameter."""
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def require_same_metrics(found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]]) -> None:
    """Update by update."""
    for measured, wanted in zip(found, expected, strict=True):
        for name in wanted.keys() - OF_THE_LAYOUT:
            assert measured[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name


def sequences_for(update: int) -> list[TrainingSequence]:
    random = Random(update)
    return [
        random_sequence(
            random, 200, seed=seed // 2, num_turns=random.randint(1, 4), sample=seed % 2, is_demonstration=seed % 5 == 0
        )
        for seed in range(21)
    ]


def opened(sequence: TrainingSequence, chat: ChatTokens) -> TrainingSequence:
    """As the model's template begins a dialogue."""
    opening = chat.opening("", 0)[:2]
    columns = {each.name: getattr(sequence, each.name) for each in fields(sequence)}
    rows = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    shown = {name: np.concatenate([column[:1].repeat(2), column]) for name, column in rows.items()}
    shown["token_ids"][:2] = opening
    return replace(sequence, **shown)


def train(
    rank: int,
    num_ranks: int,
    model: str,
    options: dict[str, Any],
    planted: str | None = None,
    few_logits: int | None = None,
) -> tuple[dict[str, np.ndarray] | None, list[dict[str, float]]]:
    """Parameters and metrics after five updates, of which each has two optimizer steps."""
    token_scorer.FEW_LOGITS = few_logits or FEW_LOGITS
    vocabulary_tiles.TILE_LOGITS = {"cpu": few_logits} if few_logits else TILE_LOGITS
    config = LearnerConfig.model_validate({**BASE, "model": model, "num_ranks": num_ranks, **options})
    chat = ChatTokens.load(Path(model))
    learner = Learner(Path(model), config, temperature=0.9, chat=chat)
    if planted == "counts of one rank":
        learner.engine.sum = lambda values: values
    metrics = []
    for update in range(NUM_UPDATES):
        sequences = sequences_for(update)
        if config.imitate_successes:
            sequences = [
                each if each.is_demonstration else replace(each, is_demonstration=True, imitates="right")
                for each in sequences
            ]
        if config.distillation.context:
            sequences = [opened(each, chat) for each in sequences]
        parts = []
        num_parts = 1 if config.advantage.kind == "dpo" else 2
        for start in range(num_parts):
            part = sequences[start::num_parts]
            mine = balance([each.num_tokens for each in part], num_ranks)[rank]
            parts.append([part[index] for index in mine])
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in sequences}
        report = learner.update(parts, groups, success=update / NUM_UPDATES)
        metrics.append(dict(report.metrics))
    state = whole_state_dict(learner.engine)
    learner.engine.close()
    return None if state is None else {name: tensor.numpy() for name, tensor in state.items()}, metrics
