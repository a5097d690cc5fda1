"""Each algorithm, from a fixed seed, has to get somewhere."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.sequence import sequences_of
from rollout.scripted_engine import ScriptedEngine, expert
from rollout.transcript import ChatTokens
from tests.support import bandit
from tests.support.ranks import run_ranks
from tests.support.sequences import play
from tests.support.tiny_models import make_text_model

QUESTIONS = range(16)
ROUNDS = 45

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=False)


def make_learner(model: str, options: dict[str, Any]) -> Learner:
    config = LearnerConfig.model_validate({"model": model, "micro_batch_tokens": 4096, **options})
    return Learner(Path(model), config, temperature=1.0, chat=ChatTokens.load(Path(model)))


def play_bandit(rank: int, num_ranks: int, model: str, options: dict[str, Any], demonstrations: int) -> list[float]:
    """The mean reward of each round."""
    learner = make_learner(model, options)
    shown = [
        bandit.sequence(question, bandit.right_answer(question), 0.0, 1000, is_demonstration=True)
        for question in range(demonstrations)
    ]
    rewards = []
    for number in range(ROUNDS):
        played = bandit.play(learner, QUESTIONS, 16, number)
        rewards.append(bandit.mean_reward(played))
        groups = {sequence.trajectory: sequence.trajectory.seed for sequence in [*played, *shown]}
        halves = [[*played[half::2], *shown[half::2]] for half in range(2)]
        learner.update(halves, groups)
    learner.engine.close()
    return rewards


PPO = {"optimizer": {"learning_rate": 1e-3}, "advantage": {"kind": "token"}, "loss": {"importance_cap": None}}
GRPO = {
    "optimizer": {"learning_rate": 3e-3},
    "advantage": {"kind": "grpo", "normalise": "none"},
    "old_logprobs": "rollout",
}


@pytest.mark.parametrize(
    ("options", "demonstrations"), [(PPO, 0), (GRPO, 0), (GRPO, 16)], ids=["ppo", "grpo", "hybrid"]
)
def test_a_bandit_is_solved(model: Path, options: dict[str, Any], demonstrations: int) -> None:
    [rewards] = run_ranks(1, play_bandit, str(model), options, demonstrations)
    assert rewards[0] < 0.3
    assert rewards[-1] > 0.9


def imitate(rank: int, num_ranks: int, model: str) -> list[float]:
    """The loss after each step on 32 demonstrations."""
    learner = make_learner(model, {"optimizer": {"learning_rate": 3e-3}, "minibatches": 1})
    episodes = play(learner.chat, ScriptedEngine(learner.chat, expert), range(32), "add_up")
    sequences = [each for episode in episodes for each in sequences_of(episode, learner.chat, is_demonstration=True)]
    losses = [learner.update([sequences], {}).metrics["sft_loss"] for _ in range(120)]
    losses.append(learner.loss_of([dataclasses.replace(each) for each in sequences])[0])
    learner.engine.close()
    return losses


def test_demonstrations_are_learned_by_heart(model: Path) -> None:
    [losses] = run_ranks(1, imitate, str(model))
    assert losses[0] > 2
    assert losses[-1] < 0.02
