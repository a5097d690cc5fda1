"""A model answers at the console, through a real engine."""

from pathlib import Path

import pytest

from cluster.config import load_config
from envs.catalog import make_environment
from rollout.config import EngineConfig, RolloutConfig
from rollout.console import Outcome, play
from rollout.model_player import ModelPlayer
from tests.support.engines import children
from tests.support.tiny_models import make_text_model

pytestmark = pytest.mark.timeout(300)

CONFIG = Path(__file__).parents[2] / "configs" / "envs" / "add_up.yaml"


def test_a_model_plays_until_its_attempts_or_its_context_run_out(tmp_path: Path) -> None:
    config = RolloutConfig(max_answer_tokens=8, engine=EngineConfig(max_context_tokens=512, max_sequences=4))
    before = children()
    with ModelPlayer(make_text_model(tmp_path / "model", tied=False), config) as model:
        shown: list[str] = []
        outcome = _play(model, shown, max_attempts=2)
        assert (outcome.num_answers, outcome.solved, outcome.gave_up) == (2, False, False)
        assert sum(line.startswith("→ ") for line in shown) == 2
        outcome = _play(model, [], max_attempts=50)
        assert outcome.gave_up
        assert 1 < outcome.num_answers < 50
        # Another episode begins with an empty context.
        assert _play(model, [], max_attempts=1).num_answers == 1
    assert children() <= before


def _play(model: ModelPlayer, shown: list[str], *, max_attempts: int) -> Outcome:
    loaded = load_config([CONFIG], [f"env.max_attempts={max_attempts}"])
    env = make_environment(loaded.env, loaded.verifier)
    return play(env, model, seed=0, split="train", show=shown.append, save_pictures=lambda images: [])
