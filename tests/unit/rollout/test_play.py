"""Episodes are played whole, each once, whatever the environment does; by script, so that every turn is known."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import load_config
from envs.catalog import make_environment
from envs.protocol import Env, OpenEpisode, Question
from rollout.config import EngineConfig, RolloutConfig
from rollout.engine import Completion, EngineError, Prompt, Sampling
from rollout.episode import Episode, EpisodeEnd, Turn
from rollout.play import Task, Way, play_rounds, play_tasks
from rollout.scripted_engine import Script, ScriptedEngine, Suboptimal, expert, fixed
from tests.support.chat import chat_tokens

CONFIGS = Path(__file__).parents[3] / "configs" / "envs"
CHAT = chat_tokens()
PLENTY = RolloutConfig(max_answer_tokens=1000, engine=EngineConfig(max_context_tokens=100_000))


def environment(name: str = "add_up", *overrides: str) -> Env:
    config = load_config([CONFIGS / f"{name}.yaml"], overrides)
    return make_environment(config.env, config.verifier)


def play(
    env: Env, script: Script | ScriptedEngine, tasks: Iterable[Task], config: RolloutConfig = PLENTY
) -> list[Episode]:
    engine = script if isinstance(script, ScriptedEngine) else ScriptedEngine(CHAT, script)

    async def collect() -> list[Episode]:
        return [episode async for episode in play_tasks(env, engine, CHAT, tasks, config)]

    return asyncio.run(collect())


def tasks(num: int) -> list[Task]:
    return [Task(seed=seed) for seed in range(num)]


@pytest.mark.parametrize("name", ["add_up", "general_points", "countdown", "route_navigation"])
def test_demonstrations_solve_every_episode_once(name: str) -> None:
    episodes = play(environment(name), expert, tasks(20))
    assert sorted(episode.seed for episode in episodes) == list(range(20))
    assert {episode.end for episode in episodes} == {EpisodeEnd.SOLVED}


def test_a_suboptimal_trace_holds_its_mistakes_and_their_verdicts() -> None:
    for episode in play(environment("general_points"), Suboptimal(2), tasks(10)):
        assert [turn.verdict.correct for turn in episode.turns] == [False, False, True]
        for turn, following in itertools.pairwise(episode.turns):
            assert turn.verdict.feedback in following.question_text


def test_turns_are_deltas_and_their_concatenation_is_the_dialogue() -> None:
    episode = play(environment("general_points"), Suboptimal(1), tasks(1))[0]
    token_ids = [int(token) for turn in episode.turns for token in (*turn.shown_token_ids, *turn.sampled_token_ids)]
    text = CHAT.tokenizer.decode(token_ids)
    for turn in episode.turns:
        assert text.count(turn.question_text) == 1
        assert text.count(turn.answer) == 1
    assert [turn.attempt for turn in episode.turns] == [1, 2]
    assert [turn.starts_new_context for turn in episode.turns] == [True, False]


def test_a_route_opens_a_new_context_at_every_step() -> None:
    episode = play(environment("route_navigation"), expert, tasks(1))[0]
    assert len(episode.turns) > 3
    assert all(turn.starts_new_context for turn in episode.turns)
    assert [turn.step for turn in episode.turns] == list(range(1, len(episode.turns) + 1))


@cache
def route(preset: str, *, forced: bool) -> Env:
    overrides = (f"env.preset={preset}", f"env.teacher_forced={forced}", "env.wording=diverse", "env.actions=relative")
    return environment("route_navigation", *overrides)


def asked(turns: Iterable[Turn]) -> list[tuple[int, int, str, bool, list[int]]]:
    """What the policy met, to the last token: with a new context each time, these tokens are the whole prompt."""
    return [
        (turn.step, turn.attempt, turn.question_text, turn.starts_new_context, turn.shown_token_ids.tolist())
        for turn in turns
    ]


@pytest.mark.parametrize("preset", ["corrected", "paper"])
@pytest.mark.parametrize("script", [Suboptimal(1000), fixed("no idea"), fixed("")], ids=["mistaken", "unread", "mute"])
def test_a_teacher_forced_policy_that_is_always_wrong_is_asked_what_the_expert_is(preset: str, script: Script) -> None:
    free = {episode.seed: episode for episode in play(route(preset, forced=False), expert, tasks(6))}
    for episode in play(route(preset, forced=True), script, tasks(6)):
        assert asked(episode.turns) == asked(free[episode.seed].turns)
        assert all(turn.starts_new_context and turn.attempt == 1 for turn in episode.turns)
        assert not any(turn.verdict.correct for turn in episode.turns)
        # Not even the last answer of preset `paper` goes unread.
        assert not any(turn.verdict.outcome == "attempts_exceeded" for turn in episode.turns)
        assert episode.end is EpisodeEnd.OUT_OF_ATTEMPTS


@pytest.mark.parametrize(("preset", "num_answers"), [("corrected", 2), ("paper", 3)])
def test_a_policy_that_is_always_wrong_gets_no_further_than_the_first_place_when_it_runs_free(
    preset: str, num_answers: int
) -> None:
    for episode in play(route(preset, forced=False), Suboptimal(1000), tasks(6)):
        assert [(turn.step, turn.attempt) for turn in episode.turns] == [(1, n + 1) for n in range(num_answers)]


@pytest.mark.parametrize("preset", ["corrected", "paper"])
def test_a_policy_that_is_always_right_plays_the_same_episode_forced_or_free(preset: str) -> None:
    forced = {episode.seed: episode for episode in play(route(preset, forced=True), expert, tasks(6))}
    for free in play(route(preset, forced=False), expert, tasks(6)):
        same = forced[free.seed]
        assert asked(same.turns) == asked(free.turns)
        assert [turn.verdict for turn in same.turns] == [turn.verdict for turn in free.turns]
        assert same.end is free.end is EpisodeEnd.SOLVED


def by_pattern(pattern: Sequence[bool]) -> Script:
    """Right at the steps where the pattern says so, which begins anew when it is used up."""
    mistaken = Suboptimal(1000)

    def answer(question: Question, episode: OpenEpisode) -> str:
        is_right = pattern[(question.step - 1) % len(pattern)]
        return expert(question, episode) if is_right else mistaken(question, episode)

    return answer


@settings(max_examples=40)
@given(
    pattern=st.lists(st.booleans(), min_size=1, max_size=25),
    seed=st.integers(0, 30),
    preset=st.sampled_from(["corrected", "paper"]),
)
def test_whatever_a_teacher_forced_policy_answers_its_questions_are_the_expert_s_and_its_verdicts_its_own(
    pattern: list[bool], seed: int, preset: str
) -> None:
    (episode,) = play(route(preset, forced=True), by_pattern(pattern), [Task(seed=seed)])
    (shown,) = play(route(preset, forced=False), expert, [Task(seed=seed)])
    assert asked(episode.turns) == asked(shown.turns)
    verdicts = [turn.verdict.correct for turn in episode.turns]
    assert verdicts == list(itertools.islice(itertools.cycle(pattern), len(verdicts)))
    assert episode.end is (EpisodeEnd.SOLVED if all(verdicts) else EpisodeEnd.OUT_OF_ATTEMPTS)


def test_attempts_run_out() -> None:
    episodes = play(environment("add_up", "env.max_attempts=3"), fixed("no idea"), tasks(4))
    assert {(episode.end, len(episode.turns)) for episode in episodes} == {(EpisodeEnd.OUT_OF_ATTEMPTS, 3)}
    assert all(episode.end.terminated and not episode.end.truncated for episode in episodes)


def test_an_episode_that_does_not_fit_is_truncated_with_the_turns_it_had() -> None:
    config = RolloutConfig(max_answer_tokens=20, engine=EngineConfig(max_context_tokens=250))
    for episode in play(environment("add_up", "env.max_attempts=50"), fixed("no"), tasks(3), config):
        assert episode.end is EpisodeEnd.OUT_OF_TOKENS
        assert episode.end.truncated
        total = sum(turn.num_tokens for turn in episode.turns)
        assert len(episode.turns) > 1
        assert total <= 250


def test_an_answer_that_is_too_long_is_cut_and_judged_as_it_stands() -> None:
    config = RolloutConfig(max_answer_tokens=5, engine=EngineConfig(max_context_tokens=10_000))
    episode = play(environment("add_up", "env.max_attempts=1"), fixed("a long answer"), tasks(1), config)[0]
    assert (episode.turns[0].finish, episode.turns[0].answer) == ("length", "a lon")


class _Troubled:
    """An environment that does what it is told to at one seed."""

    def __init__(self, trouble: Callable[[], Any], where: str) -> None:
        self._inner = environment()
        self._trouble, self._where = trouble, where
        self.config = self._inner.config

    @property
    def verifier(self) -> Any:
        return self

    def judge(self, answer: str, reference: Any) -> Any:
        if self._where == "judge" and reference.value == self._value:
            self._trouble()
        return self._inner.verifier.judge(answer, reference)

    def open(self, seed: int, split: Any) -> OpenEpisode:
        if self._where == "open" and seed == 1:
            self._trouble()
        self._value = self._inner.open(1, split).first_question().reference.value
        return self._inner.open(seed, split)


def _raise() -> None:
    raise ZeroDivisionError("the environment's own fault")


@pytest.mark.parametrize("where", ["open", "judge"])
def test_an_environment_that_raises_ends_its_own_episode_as_data(where: str) -> None:
    episodes = {episode.seed: episode for episode in play(_Troubled(_raise, where), expert, tasks(4))}
    assert len(episodes) == 4
    assert episodes[1].end is EpisodeEnd.FAILED
    assert "ZeroDivisionError: the environment's own fault" in (episodes[1].error or "")
    assert {episodes[seed].end for seed in (0, 2, 3)} == {EpisodeEnd.SOLVED}


def test_an_episode_that_hangs_is_out_of_time_and_holds_nothing_up() -> None:
    config = PLENTY.model_copy(update={"episode_timeout_seconds": 2.0})
    let_go, hung_to_the_end = threading.Event(), []
    hanging = _Troubled(lambda: hung_to_the_end.append(let_go.wait(60)), "open")
    episodes = {episode.seed: episode for episode in play(hanging, expert, tasks(4), config)}
    assert hung_to_the_end == []
    let_go.set()
    assert episodes[1].end is EpisodeEnd.OUT_OF_TIME
    assert {episodes[seed].end for seed in (0, 2, 3)} == {EpisodeEnd.SOLVED}


class _CountingEngine(ScriptedEngine):
    """Knows how many answers are drawn at once, and gives none before `together` of them are; fails at the n-th."""

    def __init__(self, together: int = 1, fail_at: int | None = None) -> None:
        super().__init__(CHAT, expert)
        self.now = self.most = self.num_calls = 0
        self._together, self._all_came, self._fail_at = together, asyncio.Event(), fail_at

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.num_calls += 1
        if self.num_calls == self._fail_at:
            raise EngineError("the engine is gone")
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self._together:
            self._all_came.set()
        await self._all_came.wait()
        self.now -= 1
        return await super().generate(prompt, sampling)


def test_so_many_episodes_are_in_flight_and_no_more() -> None:
    engine = _CountingEngine(together=7)
    episodes = play(environment(), engine, tasks(40), PLENTY.model_copy(update={"episodes_in_flight": 7}))
    assert len(episodes) == 40
    assert {episode.end for episode in episodes} == {EpisodeEnd.SOLVED}
    assert engine.most == 7


def test_an_engine_that_fails_is_the_callers_affair() -> None:
    with pytest.raises(EngineError, match="the engine is gone"):
        play(environment(), _CountingEngine(fail_at=5), tasks(20))


def test_the_environments_config_is_named_in_the_record() -> None:
    episode = play(environment(), expert, [Task(seed=3, split="test", sample=2)])[0]
    assert (episode.env, episode.seed, episode.split, episode.sample) == ("add_up", 3, "test", 2)
    question: Question = environment().open(3, "test").first_question()
    assert episode.turns[0].question_text == question.text


class _TellingEngine(_CountingEngine):
    """Knows at which temperature each environment's answers were drawn."""

    def __init__(self, together: int) -> None:
        super().__init__(together)
        self.drawn: set[tuple[str, float, int | None]] = set()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        assert prompt.asked is not None
        self.drawn.add((type(prompt.asked[0].reference).__name__, sampling.temperature, sampling.seed))
        return await super().generate(prompt, sampling)


def test_rounds_of_several_environments_are_played_at_once_and_each_as_alone() -> None:
    ways = {"sums": Way(environment(), 0.0), "cards": Way(environment("general_points"), 0.7)}
    mixed = [Task(seed=seed, draw=name, round=name) for seed in range(12) for name in ways]
    engine = _TellingEngine(together=9)
    config = PLENTY.model_copy(update={"episodes_in_flight": 9})

    async def collect() -> list[tuple[Task, Episode]]:
        return [pair async for pair in play_rounds(ways, engine, CHAT, mixed, config)]

    played = asyncio.run(collect())
    assert engine.most == 9, "all rounds together"
    assert {task for task, _ in played} == set(mixed)
    for name, way in ways.items():
        alone = _TellingEngine(together=1)
        own = [task for task in mixed if task.round == name]
        expected = play(way.env, alone, own, PLENTY.model_copy(update={"temperature": way.temperature}))
        found = [episode for task, episode in played if task.round == name]
        assert sorted(map(told, found)) == sorted(map(told, expected))
        assert alone.drawn <= engine.drawn, "at its own temperature, by its own draws"


def told(episode: Episode) -> tuple[Any, ...]:
    return (episode.env, episode.seed, episode.end, [turn.answer for turn in episode.turns])
