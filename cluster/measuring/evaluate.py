"""Measures a policy on named suites: environments with other rules, looks or targets, always the same tasks.

    Evaluator(config, actors, …)
      .run(iteration, wanted, progress)      →  a row for each suite and temperature, and what went through the engines
      .generalisation_loss()                 →  the loss on demonstrations, where asked for, and what that took

Episodes are measured where they are, in a Ray task; the driver gets the row.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.config import Config, suite_environments
from cluster.errors import RunError
from cluster.groups.actors import Actors
from cluster.measuring.measures import evaluate_episodes
from cluster.record.console import Progress
from cluster.record.episode_log import append_episodes, transcribe
from cluster.record.run_directory import RunDirectory
from envs.catalog import make_environment
from envs.protocol import EnvConfig
from learner.config import LearnerConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from learner.demonstrations.make import make_demonstrations, to_episode
from learner.worker import Item
from rollout.play import Task
from rollout.traffic import Traffic, total, traffic_of
from rollout.transcript import ChatTokens
from verifier.config import VerifierConfig


class Evaluator:
    """Plays and measures all suites with the present policy."""

    def __init__(self, config: Config, actors: Actors, directory: RunDirectory, chat: ChatTokens) -> None:
        self._config, self._actors, self._directory, self._chat = config, actors, directory, chat
        self._environments = suite_environments(config)
        self._training_targets: Any = None

    def run(
        self, iteration: int, wanted: Sequence[tuple[str, float]], progress: Progress
    ) -> tuple[list[dict[str, Any]], Traffic]:
        """One row for each suite and temperature; one is measured while the next is played. And all that was played."""
        config = self._config
        rows, moves, whole = [], [], Traffic()
        if config.evaluation.regurgitation and self._training_targets is None:
            # Made once, while the first suite plays; routes with pictures take their time.
            self._training_targets = _targets.options(num_cpus=0).remote(config.env, config.verifier, config.data)
        for suite, temperature in wanted:
            progress.stage(f"evaluate {suite}")
            references, traffic = self._play(suite, temperature, progress)
            whole += traffic
            context = {"iteration": iteration, "suite": suite, "temperature": temperature}
            rows.append(self._measure(references, *self._environments[suite], context))
            # The policy is its start before the first update, and a policy that draws nothing has no distribution.
            moves.append((references[: config.evaluation.kl_to_start if iteration and temperature else 0], temperature))
        distances = [{}] * len(rows)
        if any(references for references, _ in moves):
            distances = self._moved(moves)
        return [{**row, **distance} for row, distance in zip(_found(rows), distances, strict=True)], whole

    def _moved(self, moves: Sequence[tuple[list[Any], float]]) -> list[dict[str, float]]:
        return _found(_distances.options(num_cpus=0).remote(self._config.learner, moves))

    def distances(self, progress: Progress) -> tuple[dict[str, float], Traffic]:
        """How far the policy has moved from its start on each suite that does not wait for the end, by its name; and
        what was played to tell."""
        evaluation, moves, whole = self._config.evaluation, [], Traffic()
        # A policy that draws nothing has no distribution.
        temperature = next((each for each in evaluation.temperatures if each), 1.0)
        num_tasks = -(-evaluation.kl_to_start // evaluation.samples_per_task)
        suites = [name for name, suite in evaluation.suites.items() if not suite.only_at_end]
        for suite in suites:
            progress.stage(f"distance on {suite}")
            references, traffic = self._play(suite, temperature, progress, num_tasks)
            moves.append((references[: evaluation.kl_to_start], temperature))
            whole += traffic
        found = self._moved(moves)
        return {f"kl/{suite}": told["kl_to_start"] for suite, told in zip(suites, found, strict=True) if told}, whole

    def generalisation_loss(self) -> tuple[dict[str, float], Traffic]:
        """The cross-entropy of demonstrations of the validation split, where the config asks for it."""
        count = self._config.evaluation.generalisation_loss
        if not count:
            return {}, Traffic()
        env = make_environment(self._config.env, self._config.verifier)
        data = DemonstrationConfig(count=count, split="validation")
        items = []
        for demonstration in make_demonstrations(env, data):
            episode = to_episode(demonstration, self._chat)
            length = total(traffic_of(episode, self._chat)).tokens
            items.append(Item(episode=ray.put(episode), num_tokens=length, group=0, is_demonstration=True))
        loss, traffic = self._actors.learner.loss_of(items)
        return {"generalisation_loss": loss}, traffic

    def _play(
        self, suite: str, temperature: float, progress: Progress, most: int | None = None
    ) -> tuple[list[Any], Traffic]:
        """The references of a suite's episodes, in the order of its tasks, and what went through the engines; of so
        many tasks at most."""
        env, verifier = self._environments[suite]
        evaluation, options = self._config.evaluation, self._config.evaluation.suites[suite]
        config = self._config.rollout.model_copy(update={"temperature": temperature})
        first, num_tasks = evaluation.first_seed, options.episodes or evaluation.episodes
        tasks = [
            # The draws are the same for every checkpoint, so that two of them are compared on equal luck.
            Task(seed=seed, split=options.split, sample=sample, draw=f"{suite}/{temperature}")
            for seed in range(first, first + min(num_tasks, most or num_tasks))
            for sample in range(evaluation.samples_per_task)
        ]
        played = list(progress.counted(self._actors.play(tasks, env, verifier, config), len(tasks)))
        if not played:
            raise RunError(f"suite {suite} played nothing")
        references = [reference for _, reference in sorted(played, key=lambda pair: _order(pair[0].task))]
        return references, total(one.traffic for one, _ in played)

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
            evaluation.pass_at,
            str(self._directory.path),
            context,
            self._chat,
        )


def _order(task: Task) -> tuple[int, int]:
    return task.seed, task.sample


def _found(references: Any) -> Any:
    """What tasks have found, or what went wrong in them."""
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
    pass_at: tuple[int, ...],
    directory: str,
    context: Mapping[str, Any],
    chat: ChatTokens,
) -> dict[str, Any]:
    """The measures of the episodes, which are kept in the run's episode log."""
    episodes = ray.get(references)
    fixation_env = env.model_validate({**env.model_dump(), **fixation}) if fixation else None
    name = f"{context['suite']}_t{context['temperature']:g}_{context['iteration']:06d}"
    append_episodes(Path(directory) / "episodes" / f"{name}.jsonl", episodes, **context, chat=chat)
    transcribe(RunDirectory(Path(directory)), name, episodes, title=name)
    measure = partial(
        evaluate_episodes,
        env=(env, verifier),
        fixation_env=(fixation_env, verifier) if fixation_env else None,
        training_targets=training_targets,
        pass_at=pass_at,
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
        for demonstration in make_demonstrations(make_environment(env, verifier), data)
        for turn in demonstration.turns
        if turn.is_learned
    )
