"""What tests hold updates of learners against: the same parameters and metrics, whoever made them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

TOLERANCE = 2e-5
"""After five steps of AdamW at a learning rate of 1e-3: steps of 5e-3 in all, in float32."""
BASE: dict[str, Any] = {
    "optimizer": {"learning_rate": 1e-3, "max_gradient_norm": 0.5, "weight_decay": 0.01, "epsilon": 1e-4},
    "advantage": {"kind": "bi_level", "normalise": "mean_std"},
    "loss": {"entropy_coefficient": 0.01, "value_clip": 0.2, "kl_coefficient": 0.1, "clip": 0.1},
    "value_head": {"hidden_sizes": (8,)},
    "micro_batch_tokens": 4096,
}
OF_THE_MACHINE = {"padding_waste", "tokens_per_second"}
"""Metrics that ranks and layouts change."""


def largest_gap(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    """Of any parameter."""
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def require_same_metrics(found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]]) -> None:
    """Update by update."""
    for measured, wanted in zip(found, expected, strict=True):
        for name in wanted.keys() - OF_THE_MACHINE:
            assert measured[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name
