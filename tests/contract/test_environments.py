"""What every environment promises; a new one is found here by its YAML in `configs/envs/`.

Each is tried with its YAML, and with every other choice of every option that has choices.
"""

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin

import pytest

from cluster.config import Config, load_config
from cluster.errors import ConfigError
from envs.catalog import environment_names, make_environment
from envs.protocol import SPLITS, Env, Question

CONFIGS = Path(__file__).parents[2] / "configs" / "envs"
PAPER = "verifier.preset=paper"
NUM_SEEDS = 4
MAX_QUESTIONS = 500


@lru_cache
def variants() -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Name → file and overrides, for each YAML and each choice; choices that do not go together are left out."""
    found: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for file in sorted(CONFIGS.glob("*.yaml")):
        found[file.stem] = (file, ())
        found[f"{file.stem} {PAPER}"] = (file, (PAPER,))
        env = load_config([file]).env
        for name, option in type(env).model_fields.items():
            choices: tuple[Any, ...] = get_args(option.annotation) if get_origin(option.annotation) is Literal else ()
            if option.annotation is bool:
                choices = (True, False)
            for choice in choices:
                override = f"env.{name}={choice}"
                if choice == getattr(env, name):
                    continue
                try:
                    load_config([file], [override])
                except ConfigError:
                    continue
                found[f"{file.stem} {override}"] = (file, (override,))
    return found


def environment(name: str) -> tuple[Env, Config]:
    file, overrides = variants()[name]
    config = load_config([file], overrides)
    return make_environment(config.env, config.verifier), config


def digest(env: Env) -> str:
    """All that is seen of a few first questions, pictures included."""
    content = hashlib.sha256()
    for seed, split in itertools.product(range(NUM_SEEDS), SPLITS):
        question = env.open(seed, split).first_question()
        content.update(repr((question.text, question.reference, question.expert_answer)).encode())
        for image in question.images:
            content.update(image.tobytes())
    return content.hexdigest()


def play(env: Env, seed: int, answer: Any) -> tuple[bool, list[tuple[Question, Any]]]:
    """Whether the episode was solved, and its questions with their verdicts."""
    episode = env.open(seed, "train")
    question: Question | None = episode.first_question()
    turns = []
    while question is not None and len(turns) < MAX_QUESTIONS:
        text = answer(question, episode)
        verdict = env.verifier.judge(text, question.reference)
        turns.append((question, verdict))
        question = episode.next_question(text, verdict)
    assert len(turns) < MAX_QUESTIONS, "the episode does not end"
    return episode.solved, turns


every_variant = pytest.mark.parametrize("name", variants())


def test_every_environment_has_a_config() -> None:
    assert {load_config([file]).env.name for file in CONFIGS.glob("*.yaml")} == set(environment_names())


@every_variant
def test_equal_seeds_ask_equal_questions(name: str) -> None:
    assert digest(environment(name)[0]) == digest(environment(name)[0])


def test_another_process_asks_the_same_questions() -> None:
    """With other hash seeds, and each variant alone in order of its name."""
    script = (
        "from tests.contract.test_environments import digest, environment, variants\n"
        "print(*[digest(environment(name)[0]) for name in sorted(variants())], sep='\\n')"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=CONFIGS.parents[1],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        check=True,
    )
    assert run.stdout.split() == [digest(environment(name)[0]) for name in sorted(variants())]


@every_variant
def test_the_demonstrator_solves_every_episode(name: str) -> None:
    env, config = environment(name)
    if config.verifier.preset == "paper" and getattr(config.env, "modality", "text") == "pictures":
        pytest.skip("the original does not recognise cards that are written in valid JSON")
    for seed in range(NUM_SEEDS):
        solved, turns = play(env, seed, lambda question, episode: question.expert_answer)
        if config.verifier.preset == "paper" and turns[-1][1].outcome == "rounding":
            continue
        assert solved
        assert all(verdict.correct for _, verdict in turns)


@every_variant
def test_mistakes_are_never_correct_and_use_the_attempts_up(name: str) -> None:
    env, config = environment(name)
    for seed in range(NUM_SEEDS):
        generator = Random(seed)
        solved, turns = play(env, seed, lambda question, episode, g=generator: episode.mistake(g))
        assert not solved
        assert not any(verdict.correct for _, verdict in turns)
        scored = [question for question, verdict in turns if verdict.outcome != "attempts_exceeded"]
        assert max(question.attempt for question in scored) <= config.env.max_attempts


@every_variant
@pytest.mark.parametrize("feedback", ["outcome", "none"])
def test_the_model_is_told_as_much_as_the_config_says_and_judged_the_same(name: str, feedback: str) -> None:
    file, overrides = variants()[name]
    config = load_config([file], [*overrides, f"verifier.feedback={feedback}"])
    curt, full = make_environment(config.env, config.verifier), environment(name)[0]
    generators = Random(1), Random(1)
    _, told = play(curt, 1, lambda question, episode: episode.mistake(generators[0]))
    _, expected = play(full, 1, lambda question, episode: episode.mistake(generators[1]))
    assert len(told) == len(expected)
    for (question, verdict), (other, whole) in zip(told, expected, strict=True):
        assert replace(verdict, feedback=whole.feedback) == whole
        assert verdict.feedback == (f"Outcome: {whole.outcome}." if feedback == "outcome" else "")
        assert question.reference == other.reference
        assert "  " not in question.text or "  " in other.text
    for (question, _), (_, before), (_, whole) in zip(told[1:], told, expected, strict=False):
        if question.attempt > 1:
            assert before.feedback in question.text
            assert whole.feedback not in question.text
            assert "{" not in question.text


@every_variant
def test_a_mistake_then_the_demonstration_solves_where_attempts_are_left(name: str) -> None:
    """A sub-optimal trace: the verdict of a slip stands in the dialogue before the right answer."""
    env, config = environment(name)
    if config.env.max_attempts < 2 or getattr(config.env, "teacher_forced", False) or PAPER in name:
        pytest.skip("no second attempt, or one that is judged otherwise")
    generator = Random(0)
    solved, turns = play(
        env,
        0,
        lambda question, episode: episode.mistake(generator) if question.attempt == 1 else question.expert_answer,
    )
    assert solved
    retries = [question for question, _ in turns if question.attempt == 2]
    assert retries and not any(question.starts_new_context for question in retries)


@every_variant
def test_no_answer_raises_and_every_episode_ends(name: str) -> None:
    env, _ = environment(name)
    generator = Random(name)
    heap = [*'{}[]":,\\\n ', "null", "1e9", "formula", "action", "cards", "\u0663", "\ud7ff", "x" * 1000]
    for seed in range(NUM_SEEDS):
        solved, _ = play(env, seed, lambda question, episode: "".join(generator.choices(heap, k=40)))
        assert not solved


@every_variant
def test_a_verdict_agrees_with_itself_and_its_spans_lie_in_the_answer(name: str) -> None:
    env, _ = environment(name)
    generator = Random(1)
    for seed in range(NUM_SEEDS):
        episode = env.open(seed, "train")
        question = episode.first_question()
        for answer in (question.expert_answer, episode.mistake(generator), ""):
            verdict = env.verifier.judge(answer, question.reference)
            assert verdict == env.verifier.judge(answer, question.reference)
            assert verdict.checks["readable"] == bool(answer) or not verdict.correct
            ends = [(span.start, span.end) for span in verdict.spans]
            assert ends == sorted(ends)
            assert all(0 <= start <= end <= len(answer) for start, end in ends)
            assert all(first[1] <= second[0] for first, second in itertools.pairwise(ends))


@every_variant
def test_questions_differ_from_seed_to_seed_and_read_as_text(name: str) -> None:
    env, _ = environment(name)
    questions = [env.open(seed, "train").first_question() for seed in range(12)]
    seen = {(question.text, *(image.tobytes() for image in question.images)) for question in questions}
    assert len(seen) >= 8
    for question in questions:
        assert question.text.strip() == question.text != ""
        assert (question.step, question.attempt) == (1, 1)
        assert question.expert_answer not in question.text
        assert all(image.mode == "RGB" for image in question.images)


@every_variant
def test_the_config_survives_a_round_trip(name: str) -> None:
    _, config = environment(name)
    assert type(config.env).model_validate(config.env.model_dump(mode="json")) == config.env
