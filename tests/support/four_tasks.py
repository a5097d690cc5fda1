"""Studies of cards and of routes, in words and in pictures, made by hand in the files that real ones leave behind.

    make_tasks(folder)                      folder/gp_l, folder/gp_vl, folder/virl_l, folder/virl_vl
    make_task(folder / "virl_l", "virl_l", seeds=(10,), num_tasks=12)

The tasks, verdicts and measures are the environments' own. Who answers is made up: with a chance for each part of the
task (what is seen, what the rule changes, what it does not), which imitation and play move as is planted in `ENDS`.
Pictures are not drawn; the same tasks are asked in words.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from cluster.config import Config, load_config, suite_environments
from cluster.measuring.measures import evaluate_episodes
from cluster.record.episode_log import append_episodes
from cluster.record.files import append_rows
from envs._cards.hands import random_formula
from envs.catalog import make_environment
from envs.protocol import Env, Question
from rollout.episode import Episode, EpisodeEnd, Turn
from tests.support.episodes import episode, turn
from verifier.config import VerifierConfig
from verifier.hand import Hand
from verifier.navigation import Position
from verifier.solver import some_solutions

BUDGETS = {"gp_l": 6e12, "gp_vl": 4e12, "virl_l": 5e12, "virl_vl": 9e12}
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the budget, at which arms are measured."""


class Skill(NamedTuple):
    """The chances that a part of an answer is right."""

    sight: float
    rule: float
    rest: float


START = {"none": Skill(0.95, 0.8, 0.5), "rule": Skill(0.92, 0.55, 0.5), "look": Skill(0.75, 0.8, 0.5)}
ENDS = {
    "sft": {"none": Skill(0.99, 0.97, 0.93), "rule": Skill(0.7, 0.04, 0.9), "look": Skill(0.66, 0.95, 0.93)},
    "rl": {"none": Skill(0.98, 0.93, 0.9), "rule": Skill(0.93, 0.62, 0.8), "look": Skill(0.85, 0.92, 0.9)},
}
_CITY = {"num_routes": 40, "num_turns": [2, 4], "style": "garden"}
_SHIFTED_CARDS = {"face_cards": "eleven_twelve_thirteen", "training_face_cards": "ten"}
_SHIFTED_TURNS = {"actions": "relative", "training_actions": "absolute"}


def options_of(task: str) -> dict[str, Any]:
    """The configuration of a study."""
    pictures = {"modality": "pictures"} if task.endswith("_vl") else {}
    if task.startswith("gp"):
        env: dict[str, Any] = {"name": "general_points", "at_least_one_face_card": True, "max_attempts": 2, **pictures}
        shifts: dict[str, Any] = {"rule_shift": _SHIFTED_CARDS, "look_shift": {"suits": "red"}}
    else:
        env = {"name": "route_navigation", "city": _CITY, "splits": "none", "teacher_forced": True, **pictures}
        shifts = {"rule_shift": _SHIFTED_TURNS, "look_shift": {"city": {"style": "harbour"}}}
    titles = {"rule_shift": "shifted rule", "look_shift": "shifted look"}
    suites = {"in_distribution": {"title": "training rule"}, "validation": {"split": "validation"}}
    suites |= {name: {"title": titles[name], "env": changes} for name, changes in shifts.items()}
    if not pictures:
        del suites["look_shift"]
    arms = {
        "sft": {"command": "sft", "options": {"learner": {"optimizer": {"learning_rate": 1.5e-3}}}},
        "rl": {"command": "rl", "options": {}},
    }
    return {
        "env": env,
        "evaluation": {"suites": suites},
        "learner": {"model": "models/nano_gp_l", "optimizer": {"learning_rate": 3e-4}},
        "cluster": {"name": task},
        "compare": {"init": {"command": "sft"}, "arms": arms, "budget": BUDGETS[task]},
    }


def make_tasks(folder: Path, *, seeds: Sequence[int] = (10, 11, 12), num_tasks: int = 40) -> Path:
    """A folder of four finished studies."""
    for task in BUDGETS:
        make_task(folder / task, task, seeds=seeds, num_tasks=num_tasks)
    return folder


def make_task(folder: Path, task: str, *, seeds: Sequence[int] = (10, 11, 12), num_tasks: int = 40) -> Path:
    """A finished study of imitation and play."""
    folder.mkdir(parents=True)
    text = json.dumps(options_of(task))
    (folder / "options.yaml").write_text(text)
    config = load_config([folder / "options.yaml"])
    description = {
        "name": task,
        "seeds": list(seeds),
        "init": "init",
        "arms": ["sft", "rl"],
        "ledger": "compute/flops",
        "budget": BUDGETS[task],
        "suites": {name: suite.title or name for name, suite in config.evaluation.suites.items()},
        "versions": {},
        "config": text,
    }
    (folder / "study.json").write_text(json.dumps(description))
    suites = _suites(config)
    for seed in seeds:
        for arm in ("init", "sft", "rl"):
            cell = folder / "cells" / f"{arm}_seed{seed}"
            (cell / "episodes").mkdir(parents=True)
            (cell / "config.yaml").write_text(text)
            for share in (0.0,) if arm == "init" else SHARES:
                for suite in suites:
                    _measure(cell, suite, arm, seed, share, num_tasks, BUDGETS[task])
    return folder


@dataclass(frozen=True, eq=False)
class _Asked:
    """A suite, and its questions without their pictures."""

    name: str
    shift: Literal["none", "rule", "look"]
    split: Any
    env: Env
    scoring: VerifierConfig
    are_shown: bool

    @cache  # noqa: B019
    def questions(self, seed: int) -> tuple[Question, ...]:
        """Every first question of a task, as one meets them who is always right."""
        opened, found = self.env.open(seed, self.split), []
        question: Question | None = opened.first_question()
        while question is not None:
            found.append(question)
            question = opened.next_question(
                question.expert_answer, self.env.verifier.judge(question.expert_answer, question.reference)
            )
        return tuple(found)


def _suites(config: Config) -> list[_Asked]:
    suites = []
    for name, (env, verifier) in suite_environments(config).items():
        shown = getattr(env, "modality", "text") == "pictures"
        asked = make_environment(env.model_copy(update={"modality": "text"}), verifier)
        shift: Any = {"rule_shift": "rule", "look_shift": "look"}.get(name, "none")
        suites.append(_Asked(name, shift, config.evaluation.suites[name].split, asked, verifier, shown))
    return suites


def _measure(cell: Path, suite: _Asked, arm: str, seed: int, share: float, num_tasks: int, budget: float) -> None:
    iteration = round(40 * share)
    generator = Random(f"{budget} {cell.name} {suite.name} {iteration}")
    skill = _skill(suite.shift, arm, share, Random(f"{budget} {arm} {seed} {suite.name}"))
    episodes = [_episode(suite, task, skill, generator) for task in range(num_tasks)]
    context: dict[str, Any] = {"iteration": iteration, "suite": suite.name, "temperature": 1.0}
    append_episodes(cell / "episodes" / f"{suite.name}_t1_{iteration:06d}.jsonl", episodes, arm=arm, **context)
    row = evaluate_episodes(episodes, env=(suite.env.config, suite.scoring))
    spent = {"compute/flops": share * budget, "compute/trained_tokens": 1e6 * share}
    append_rows(cell / "evaluations.jsonl", [{**context, **row, **spent}])
    append_rows(cell / "metrics.jsonl", [{"iteration": iteration, "learner/optimizer_steps": 10.0, **spent}])


def _skill(shift: str, arm: str, share: float, generator: Random) -> Skill:
    """Between start and end, and a little apart from seed to seed."""
    first = START[shift]
    last = ENDS.get(arm, {}).get(shift, first)
    near = (one + (other - one) * share**0.7 for one, other in zip(first, last, strict=True))
    return Skill(*(min(max(chance + generator.gauss(0, 0.015), 0.0), 1.0) for chance in near))


def _episode(suite: _Asked, task: int, skill: Skill, generator: Random) -> Episode:
    turns: list[Turn] = []
    attempts = suite.env.config.max_attempts
    questions = suite.questions(task)
    for question in questions:
        reference = question.reference
        if suite.are_shown and isinstance(reference, Hand):
            reference = replace(reference, cards_are_shown=True)
        forced = isinstance(reference, Position)
        for attempt in range(1, 2 if forced else attempts + 1):
            answer = _answer(question, reference, skill, generator)
            verdict = suite.env.verifier.judge(answer, reference)
            said = replace(turn(verdict.outcome), verdict=verdict, answer=answer, question_text=question.text)
            turns.append(replace(said, step=question.step, attempt=attempt))
            if verdict.correct:
                break
    right = {one.step for one in turns if one.verdict.correct}
    end = EpisodeEnd.SOLVED if len(right) == len(questions) else EpisodeEnd.OUT_OF_ATTEMPTS
    return replace(episode(*turns, end=end, env=suite.env.config.name, seed=task), split=suite.split)


def _answer(question: Question, reference: Any, skill: Skill, generator: Random) -> str:
    fields = json.loads(question.expert_answer)
    sees, keeps, knows = (generator.random() < chance for chance in skill)
    if isinstance(reference, Hand):
        if not sees:
            fields["cards"] = [*fields["cards"][1:], "2"]
        numbers = reference.numbers if keeps else reference.training_numbers or (*reference.numbers[1:], 7)
        found = some_solutions(numbers, reference.target)
        fields["number"] = list(numbers)
        fields["formula"] = f"{found[0] if found and knows else random_formula(numbers, generator)}={reference.target}"
        return json.dumps(fields)
    if not sees:
        fields["current observation"] = "Nothing is here."
    if "turn" in reference.action and not keeps:
        other = generator.random() < 0.2
        fields["action"] = "forward()" if other else reference.training_action or "turn_direction(nowhere)"
    elif "turn" not in reference.action and not knows and generator.random() < 0.5:
        fields["action"] = "forward()" if reference.action == "stop()" else "stop()"
    return json.dumps(fields)
