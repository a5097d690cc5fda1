"""What is frozen, and whether what it sees is kept, is told by the configuration alone."""

from typing import Any

import pytest

from learner.config import LearnerConfig

EYES = ("vision_tower", "projector")
ASKED_TWICE: dict[str, Any] = {"epochs": 2}
ASKED_ONCE: dict[str, Any] = {"epochs": 1, "minibatches": 1, "advantage": {"kind": "reinforce"}}


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, set()),
        ({"freeze": ["vision_tower"]}, {"vision_tower"}),
        ({"freeze": EYES}, set(EYES)),
        ({"lora": {"rank": 4}}, set(EYES)),
        ({"lora": {"rank": 4, "target_modules": ["q_proj"]}}, set()),
        ({"lora": {"target_modules": ["q_proj"]}, "freeze": EYES}, set(EYES)),
    ],
    ids=["nothing", "tower", "both", "low rank", "low rank, anywhere so called", "rank 0 is none"],
)
def test_what_is_seen_is_kept_where_both_parts_are_frozen_and_asked_again(
    options: dict[str, Any], frozen: set[str]
) -> None:
    twice, once = (LearnerConfig.model_validate({**options, **asked}) for asked in (ASKED_TWICE, ASKED_ONCE))
    assert twice.frozen_parts == frozen
    assert twice.keeps_pictures == (frozen == set(EYES))
    assert not once.keeps_pictures


@pytest.mark.parametrize(
    "again",
    [ASKED_TWICE, {**ASKED_ONCE, "minibatches": 2}, {**ASKED_ONCE, "advantage": {"kind": "turn"}}],
    ids=["epochs", "a look for log-probabilities", "a look for values"],
)
def test_whatever_asks_again_keeps_it(again: dict[str, Any]) -> None:
    assert LearnerConfig.model_validate({**again, "freeze": EYES}).keeps_pictures
