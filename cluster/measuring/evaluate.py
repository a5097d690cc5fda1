"""Measures a policy on named suites: environments with other rules, looks or targets, always the same tasks.

    Evaluator(config, actors, …)
      .run(iteration, wanted, progress)      →  a row for each suite and temperature, and what went through the engines
      .generalisation_loss()                 →  the loss on demonstrations, where asked for, and what that took

Episodes are measured where they are, in a Ray task; the driver gets the row.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.config import Config, suite_environments
from cluster.errors import RunError
from cluster.groups.actors import Actors
from cluster.groups.demonstrating import Demonstrating
from cluster.measuring.measures import evaluate_episodes
from cluster.record.console import Progress
from cluster.record.episode_log import append_episodes, transcribe
from cluster.record.run_directory import RunDirectory
from cluster.stopping import wait
from envs.catalog import shared_environment
from envs.protocol import EnvConfig
from learner.config import LearnerConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from learner.demonstrations.make import make_demonstrations
from learner.worker import Item
from rollout.play import Round, Task
from rollout.receivers import LOSSES
from rollout.traffic import Traffic, total
from rollout.transcript import ChatTokens
from rollout.worker import Played
from verifier.config import VerifierConfig

Pair = tuple[str, float]
"""A suite, and the temperature that it is played at."""


class Evaluator:
    """Plays and measures all suites with the present policy."""

    def __init__(self, config: Config, actors: Actors, directory: RunDirectory, chat: ChatTokens) -> None:
        self._config, self._actors, self._directory, self._chat = config, actors, directory, chat
        self._environments = suite_environments(config)
        self._training_targets: Any = None
        self._held_out: list[Item] = []

    def run(self, iteration: int, wanted: Sequence[Pair], progress: Progress) -> tuple[list[dict[str, Any]], Traffic]:
        """One row for each suite and temperature, in that order, and all that was played. All are in play at once, and
        each is measured as soon as it has ended; where a host is lost with episodes of them, all are played again."""
        try:
            return self._run(iteration, wanted, progress)
        except LOSSES:
            progress.say("episodes were on a host that is gone; the evaluation is played again")
            return self._run(iteration, wanted, progress)

    def _run(self, iteration: int, wanted: Sequence[Pair], progress: Progress) -> tuple[list[dict[str, Any]], Traffic]:
        evaluation = self._config.evaluation
        if evaluation.regurgitation and self._training_targets is None:
            # Made once, while the suites are played.
            training = self._config.env, self._config.verifier, self._config.data
            self._training_targets = _targets.options(num_cpus=0).remote(*training)
        rows, moves, whole = {}, {}, Traffic()
        for (suite, temperature), references, traffic in self._play(wanted, progress, "evaluate"):
            whole += traffic
            context = {"iteration": iteration, "suite": suite, "temperature": temperature}
            rows[suite, temperature] = self._measure(references, *self._environments[suite], context)
            # The policy is its start before the first update, and a policy that draws nothing has no distribution.
            compared = evaluation.kl_to_start if iteration and temperature else 0
            moves[suite, temperature] = references[:compared], temperature
        # Before the first update, a policy is where it began.
        nowhere = {"kl_to_start": 0.0, "kl_to_start_k3": 0.0} if evaluation.kl_to_start and not iteration else {}
        distances = [nowhere if temperature else {} for _, temperature in wanted]
        if any(references for references, _ in moves.values()):
            distances = self._moved([moves[pair] for pair in wanted])
        found = _found([rows[pair] for pair in wanted])
        return [{**row, **distance} for row, distance in zip(found, distances, strict=True)], whole

    def _moved(self, moves: Sequence[tuple[list[Any], float]]) -> list[dict[str, float]]:
        return _found(_distances.options(num_cpus=0).remote(self._config.learner, moves))

    def distances(self, progress: Progress) -> tuple[dict[str, float], Traffic]:
        """How far the policy has moved from its start on each suite that does not wait for the end, by its name; and
        what was played to tell."""
        evaluation, moves, whole = self._config.evaluation, {}, Traffic()
        # A policy that draws nothing has no distribution.
        temperature = next((each for each in evaluation.temperatures if each), 1.0)
        suites = [name for name, suite in evaluation.suites.items() if not suite.only_at_end]
        wanted = [(suite, temperature) for suite in suites]
        for (suite, _), references, traffic in self._play(wanted, progress, "distance", evaluation.kl_to_start):
            moves[suite] = references[: evaluation.kl_to_start], temperature
            whole += traffic
        found = self._moved([moves[suite] for suite in suites])
        return {f"kl/{suite}": told["kl_to_start"] for suite, told in zip(suites, found, strict=True) if told}, whole

    def generalisation_loss(self) -> tuple[dict[str, float], Traffic]:
        """The cross-entropy of demonstrations of the validation split, where the config asks for it."""
        count = self._config.evaluation.generalisation_loss
        if not count:
            return {}, Traffic()
        if not self._held_out:
            demonstrating = Demonstrating(self._config.env, self._config.verifier, self._chat)
            self._held_out = list(demonstrating.made(DemonstrationConfig(count=count, split="validation")))
        loss, traffic = self._actors.learner.loss_of(self._held_out)
        return {"generalisation_loss": loss}, traffic

    def _play(
        self, wanted: Sequence[Pair], progress: Progress, stage: str, most: int | None = None
    ) -> Iterator[tuple[Pair, list[Any], Traffic]]:
        """Of each suite at each temperature, as they end, the references of its episodes in the order of its tasks, and
        what went through the engines; of so many episodes at most."""
        pairs = {f"{suite}/{temperature}": (suite, temperature) for suite, temperature in wanted}
        rounds, tasks = dict[str, Round](), list[Task]()
        for name, (suite, temperature) in pairs.items():
            env, verifier = self._environments[suite]
            rounds[name] = Round(env=env, verifier=verifier, temperature=temperature)
            tasks += self._tasks(name, suite, most)
        left, played = Counter(task.round for task in tasks), {name: list[tuple[Played, Any]]() for name in rounds}
        num_left = len(tasks)
        progress.stage(_stage(stage, [pairs[name] for name in played]))
        progress.expects(num_left)
        for one, reference in self._actors.play_rounds(tasks, rounds):
            name, num_left = one.task.round, num_left - 1
            progress.came()
            played[name].append((one, reference))
            if len(played[name]) == left[name]:
                ended = sorted(played.pop(name), key=lambda pair: (pair[0].task.seed, pair[0].task.sample))
                yield pairs[name], [each for _, each in ended], total(each.traffic for each, _ in ended)
                progress.stage(_stage(stage, [pairs[name] for name in played]))
                progress.expects(num_left)
        if played:
            raise RunError(f"{', '.join(played)}: not all of these suites' tasks were played")

    def _tasks(self, name: str, suite: str, most: int | None) -> list[Task]:
        evaluation, options = self._config.evaluation, self._config.evaluation.suites[suite]
        first, num_tasks = evaluation.first_seed, options.episodes or evaluation.episodes
        tasks = [
            # The draws are the same for every checkpoint, so that two of them are compared on equal luck.
            Task(seed=seed, split=options.split, sample=sample, draw=name, round=name)
            for seed in range(first, first + num_tasks)
            for sample in range(evaluation.samples_of(suite))
        ]
        return tasks[:most]

    def _measure(
        self, references: list[Any], env: EnvConfig, verifier: VerifierConfig, context: Mapping[str, Any]
    ) -> Any:
        """The reference of a suite's row."""
        evaluation = self._config.evaluation
        return _measured.options(num_cpus=0).remote(
            references,
            env,
            verifier,
            dict(evaluation.suites[context["suite"]].fixation or {}),
            self._training_targets,
            {"pass_at": evaluation.pass_at, "stop_at": evaluation.stop_at},
            str(self._directory.path),
            context,
            self._chat,
        )


def _stage(name: str, left: Sequence[Pair]) -> str:
    """What is still to come of it."""
    return f"{name} {', '.join(dict.fromkeys(suite for suite, _ in left))}".strip()


def _found(references: Any) -> Any:
    """What tasks have found, or what went wrong in them."""
    waited_for = references if isinstance(references, list) else [references]
    while waited_for:
        _, waited_for = wait(waited_for, math.inf)
    try:
        return ray.get(references)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None


@ray.remote
def _measured(
    references: list[Any],
    env: EnvConfig,
    verifier: VerifierConfig,
    fixation: Mapping[str, Any],
    training_targets: frozenset[str] | None,
    counts: Mapping[str, tuple[int, ...]],
    directory: str,
    context: Mapping[str, Any],
    chat: ChatTokens,
) -> dict[str, Any]:
    """The measures of the episodes, which are kept in the run's episode log."""
    episodes = ray.get(references)
    fixation_env = env.model_validate({**env.model_dump(), **fixation}) if fixation else None
    name = f"{context['suite']}_t{context['temperature']:g}_{context['iteration']:06d}"
    kept = Path(directory) / "episodes" / f"{name}.jsonl"
    kept.unlink(missing_ok=True)  # of a measurement that broke off
    append_episodes(kept, episodes, **context, chat=chat)
    transcribe(RunDirectory(Path(directory)), name, episodes, title=name)
    measure = partial(
        evaluate_episodes,
        env=(env, verifier),
        fixation_env=(fixation_env, verifier) if fixation_env else None,
        training_targets=training_targets,
        **counts,
    )
    row = measure(episodes)
    for part in sorted({episode.part for episode in episodes} - {""}):
        of_part = measure([episode for episode in episodes if episode.part == part])
        row |= {f"{part}/{name}": value for name, value in of_part.items()}
    return {**context, **row}


@ray.remote
def _distances(learner: LearnerConfig, moves: Sequence[tuple[list[Any], float]]) -> list[dict[str, float]]:
    """How far the policy has moved from the model that it began as, by what each suite's first episodes drew."""
    from cluster.measuring.distance import Start, moved

    start = Start.load(Path(learner.model or ""), learner)
    return [moved(start.log_ratios(ray.get(references), temperature)) for references, temperature in moves]


@ray.remote
def _targets(env: EnvConfig, verifier: VerifierConfig, data: DemonstrationConfig) -> frozenset[str]:
    """Every answer that imitation learns."""
    return frozenset(
        turn.answer
        for demonstration in make_demonstrations(shared_environment(env, verifier), data, draws=False)
        for turn in demonstration.turns
        if turn.is_learned
    )
