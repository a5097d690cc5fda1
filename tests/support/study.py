"""A small study made by hand, in the files that a real one leaves behind.

`make_study(folder)` plants a collapse and a tie under the shifted rule: `sft` forgets it, `rl` keeps what the initial
policy had. `make_run(folder)` is one run alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cluster.measuring.measures import evaluate_episodes
from cluster.record.episode_log import append_episodes
from cluster.record.files import append_rows
from rollout.episode import Episode, EpisodeEnd, Turn
from tests.support.episodes import episode, right, wrong

SUITES = {"in_distribution": "training rule", "rule_shift": "shifted rule"}
EVALUATIONS = (10, 20, 30, 40)
INIT_RATES = {"in_distribution": 0.35, "rule_shift": 0.4}
FINAL_RATES = {"sft": {"in_distribution": 0.9, "rule_shift": 0.0}, "rl": {"in_distribution": 0.6, "rule_shift": 0.4}}
NUM_TASKS = 40
CONFIG = "env:\n  name: general_points\nlearner:\n  optimizer:\n    learning_rate: {rate}\n"


class Halves:
    """Knows where tokens end: in the middle of an answer, at its end, and once more for the token that ends it."""

    def character_ends(self, token_ids: Sequence[int]) -> list[int]:
        """Three tokens, whatever they are."""
        assert len(token_ids) == 3
        return [5, 12, 12]


def make_study(folder: Path, *, seeds: Sequence[int] = (0, 1), answer: str = "", budget: float = 4e12) -> Path:
    """A finished study of two arms; `answer` is what every wrong answer says."""
    folder.mkdir(parents=True)
    description = {
        "name": "little",
        "seeds": list(seeds),
        "init": "init",
        "arms": ["sft", "rl"],
        "ledger": "compute/flops",
        "budget": budget,
        "suites": SUITES,
        "versions": {"ruleshift": "0.1.0"},
        "config": "compare:\n  arms: {}\n",
    }
    (folder / "study.json").write_text(json.dumps(description))
    for seed in seeds:
        write_cell(folder / "cells" / f"init_seed{seed}", "init", seed, {0: apart(INIT_RATES, seed)}, answer=answer)
        for arm, final in FINAL_RATES.items():
            rates = {
                iteration: apart({suite: between(INIT_RATES[suite], final[suite], iteration) for suite in SUITES}, seed)
                for iteration in EVALUATIONS
            }
            write_cell(folder / "cells" / f"{arm}_seed{seed}", arm, seed, rates, answer=answer)
    return folder


def make_run(folder: Path) -> Path:
    """One run under the training rule, with an evaluation before it."""
    rates = {0: {"in_distribution": 0.3}, 10: {"in_distribution": 0.5}, 20: {"in_distribution": 0.8}}
    return write_cell(folder, "", 0, rates)


def write_cell(
    folder: Path,
    arm: str,
    seed: int,
    rates: Mapping[int, Mapping[str, float]],
    *,
    answer: str = "",
    temperature: float = 1.0,
    learning_rate: float | None = None,
    more: Mapping[int, Mapping[str, float]] | None = None,
) -> Path:
    """The folder of a run: for each evaluation and suite, episodes that succeed at that rate, and what `more` says of
    an evaluation."""
    (folder / "episodes").mkdir(parents=True, exist_ok=True)
    rate = learning_rate or (0.001 if arm == "sft" else 0.0002)
    (folder / "config.yaml").write_text(CONFIG.format(rate=rate))
    for iteration, by_suite in rates.items():
        compute = {
            "compute/flops": iteration * 1e11,
            "compute/paper_flops": iteration * 3e11,
            "compute/device_seconds": iteration * 1.5,
            "compute/trained_tokens": iteration * 1000,
            "compute/sampled_tokens": iteration * 500 if arm == "rl" else 0,
        }
        for suite, rate in by_suite.items():
            episodes = _episodes(suite, rate, f"{arm} {seed} {iteration}", answer)
            context: dict[str, Any] = {"iteration": iteration, "suite": suite, "temperature": temperature}
            name = f"{suite}_t{temperature:g}_{iteration:06d}.jsonl"
            append_episodes(folder / "episodes" / name, episodes, **context, arm=arm, chat=Halves())
            told = {**evaluate_episodes(episodes), **(more or {}).get(iteration, {}), **compute}
            append_rows(folder / "evaluations.jsonl", [{**context, **told}])
        metrics = {"iteration": iteration, "learner/optimizer_steps": 5.0, "learner/entropy": 1 / (1 + iteration)}
        append_rows(folder / "metrics.jsonl", [{**metrics, **compute}])
    return folder


def between(first: float, last: float, iteration: int) -> float:
    """What is reached on the way."""
    return first + (last - first) * iteration / EVALUATIONS[-1]


def apart(rates: Mapping[str, float], seed: int) -> dict[str, float]:
    """Seeds differ by one task."""
    return {suite: rate + seed % 2 / NUM_TASKS for suite, rate in rates.items()}


def _episodes(suite: str, rate: float, draw: str, answer: str) -> list[Episode]:
    """So many of the tasks are solved, others in each draw; half of these at the second attempt."""
    solved = set(Random(draw).sample(range(NUM_TASKS), round(rate * NUM_TASKS)))
    return [_episode(suite, task, task in solved, answer) for task in range(NUM_TASKS)]


def _episode(suite: str, task: int, solved: bool, answer: str) -> Episode:
    follows_old_rule = suite == "rule_shift" and not solved
    checks = {"readable": True, "numbers_read": not follows_old_rule}
    if suite == "rule_shift":
        checks["right_under_training_rule"] = follows_old_rule
    missed = _said(wrong(checks=checks, num_sampled=3), answer or "10*2+4+7/1")
    if not solved:
        second = replace(missed, attempt=2, starts_new_context=False)
        return episode(missed, second, end=EpisodeEnd.OUT_OF_ATTEMPTS, seed=task)
    attempt = 1 + task % 2
    hit = _said(right(checks=checks, attempt=attempt, num_sampled=3), "(7-5)*10+4*1")
    return episode(*([missed] if attempt == 2 else []), hit, seed=task)


def _said(turn: Turn, answer: str) -> Turn:
    logprobs = np.array([-0.05, -2.5, -0.001], dtype=np.float32)
    return replace(turn, answer=answer, question_text="The hand is 7, 5, 10, 4. Make 24.", sampled_logprobs=logprobs)
