"""A verifier that errs does so as often as it is told to, both ways, and in words and rewards that go together."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.config import load_config, suite_environments
from envs.catalog import make_environment
from envs.protocol import Env
from rollout.config import EngineConfig, RolloutConfig
from rollout.episode import Episode, EpisodeEnd
from rollout.play import Task, Way, play_rounds
from rollout.scripted_engine import Script, ScriptedEngine, expert, fixed
from tests.support.chat import chat_tokens

CONFIGS = Path(__file__).parents[3] / "configs" / "envs"
NAMES = ["add_up", "general_points", "countdown", "route_navigation", "mixture"]
CHAT = chat_tokens()
PLENTY = RolloutConfig(max_answer_tokens=1000, engine=EngineConfig(max_context_tokens=100_000))
CHANCE = 0.25


def environment(name: str) -> Env:
    config = load_config([CONFIGS / f"{name}.yaml"])
    return make_environment(config.env, config.verifier)


def play(env: Env, script: Script, noise: float, num: int = 80, draw: str = "a") -> list[Episode]:
    tasks = [Task(seed=seed, draw=draw, sample=sample) for seed in range(num // 2) for sample in range(2)]

    async def collect() -> list[Episode]:
        ways = {"": Way(env, 1.0, noise)}
        found = [pair async for pair in play_rounds(ways, ScriptedEngine(CHAT, script), CHAT, tasks, PLENTY)]
        return [episode for _, episode in sorted(found, key=lambda pair: (pair[0].seed, pair[0].sample))]

    return asyncio.run(collect())


wrong = fixed("{}")


def said(episodes: Sequence[Episode]) -> list[tuple[str, bool, float, str]]:
    return [
        (turn.verdict.outcome, turn.verdict.correct, turn.verdict.reward, turn.verdict.feedback)
        for episode in episodes
        for turn in episode.turns
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("script", [expert, wrong], ids=["right answers", "wrong answers"])
def test_verdicts_are_turned_round_as_often_as_said(name: str, script: Script) -> None:
    episodes = play(environment(name), script, CHANCE)
    turns = [turn for episode in episodes for turn in episode.turns]
    assert not [episode.error for episode in episodes if episode.end is EpisodeEnd.FAILED]
    flipped = [turn.verdict.checks["flipped"] for turn in turns]
    spread = 4 * (CHANCE * (1 - CHANCE) / len(turns)) ** 0.5
    assert CHANCE - spread < sum(flipped) / len(turns) < CHANCE + spread
    for turn, is_flipped in zip(turns, flipped, strict=True):
        assert turn.verdict.correct == ((script is expert) != is_flipped)
        assert all(0 <= span.start <= span.end <= len(turn.answer) for span in turn.verdict.spans)
    earned = {(turn.verdict.outcome, turn.verdict.reward) for turn in turns if turn.verdict.correct}
    assert all(reward > 0 for _, reward in earned), "what is called right earns what right answers do"


@pytest.mark.parametrize("name", ["add_up", "route_navigation"])
def test_draws_belong_to_the_play_and_repeat_with_it(name: str) -> None:
    env = environment(name)
    once, again, other = (said(play(env, wrong, CHANCE, draw=draw)) for draw in ("a", "a", "b"))
    assert once == again
    assert once != other


def test_without_noise_nothing_is_drawn_and_nothing_is_counted() -> None:
    for episode in play(environment("add_up"), wrong, 0.0, 4):
        assert all("flipped" not in turn.verdict.checks for turn in episode.turns)


def test_suites_are_judged_without_it_unless_they_name_it() -> None:
    config = load_config(
        [CONFIGS / "general_points.yaml"],
        [
            "verifier.noise=0.1",
            "verifier.feedback=outcome",
            "evaluation.suites.plain.env.target=30",
            "evaluation.suites.noisy.verifier.noise=0.2",
            "evaluation.suites.other.env={name: add_up}",
        ],
    )
    scored = {name: verifier for name, (_, verifier) in suite_environments(config).items()}
    assert {name: verifier.noise for name, verifier in scored.items()} == {
        "plain": 0.0,
        "noisy": 0.2,
        "other": 0.0,
    }
    assert {verifier.feedback for verifier in scored.values()} == {"outcome"}
