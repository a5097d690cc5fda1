"""The learning rate of every step, against tables worked out by hand."""

import pytest

from learner.config import OptimizerConfig
from learner.deepspeed_engine import learning_rate_at

TABLES = [
    pytest.param({}, [8.0, 8.0, 8.0], id="constant"),
    pytest.param({"warmup_steps": 4}, [2.0, 4.0, 6.0, 8.0, 8.0, 8.0], id="constant after a warm-up"),
    pytest.param({"warmup_steps": 1}, [8.0, 8.0], id="a warm-up of one step is none"),
    pytest.param({"total_steps": 2, "end_learning_rate": 1.0}, [8.0, 8.0, 8.0], id="constant beyond total_steps"),
    pytest.param({"schedule": "linear", "total_steps": 4}, [8.0, 6.0, 4.0, 2.0, 0.0, 0.0], id="linear"),
    pytest.param(
        {"schedule": "linear", "warmup_steps": 2, "total_steps": 6, "end_learning_rate": 4.0},
        [4.0, 8.0, 8.0, 7.0, 6.0, 5.0, 4.0, 4.0],
        id="linear after a warm-up, to an end above zero",
    ),
    pytest.param(
        {"schedule": "cosine", "total_steps": 6, "end_learning_rate": 4.0},
        # 4 + 2 · (1 + cos of 0°, 30°, 60°, …, 180°)
        [8.0, 6 + 3**0.5, 7.0, 6.0, 5.0, 6 - 3**0.5, 4.0, 4.0],
        id="cosine",
    ),
    pytest.param(
        {"schedule": "cosine", "warmup_steps": 2, "total_steps": 4},
        [4.0, 8.0, 8.0, 4.0, 0.0, 0.0],
        id="cosine after a warm-up",
    ),
]


@pytest.mark.parametrize(("options", "expected"), TABLES)
def test_each_step_has_the_learning_rate_of_the_table(options: dict[str, float], expected: list[float]) -> None:
    config = OptimizerConfig.model_validate({"learning_rate": 8.0, **options})
    found = [learning_rate_at(config, step) for step in range(len(expected))]
    assert found == pytest.approx(expected, abs=1e-12)
