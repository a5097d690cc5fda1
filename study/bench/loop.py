"""`ruleshift bench loop`: where the seconds of an iteration go, what of each half's speed is left when both are there.

    alone     the same worker with no learner beside it, then the same learner with no worker: the limits
    lag 0     play, learn, push, one after the other: an iteration can take no less than both halves alone
    lag 1     the next iteration plays while the learner learns; on few cores both share them
    lag 0, ten times the episodes    the driver's own work must not grow with the tokens, which it never sees

GeneralPoints in words with the built-in nano model, whose learning rate is nearly nothing, so that all four have the
same work. An iteration's time that is neither rollout nor learning is the system's own; `driver` is the processor time
of the process that drives.
"""

import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import ray

from cluster.config import Config, load_config
from cluster.groups.learner_group import LearnerGroup
from cluster.iteration.play_ahead import tasks_of
from cluster.planning.hardware import look
from cluster.planning.placement import place
from cluster.session import ray_session
from cluster.train_rl import train_rl
from learner.worker import Item
from rollout.worker import start_worker, stream
from study.bench import Row

ROOT = Path(__file__).parents[2]
NUM_ITERATIONS = 6
"""Of which the first does not count."""
NUM_EPISODES = 64

Figures = dict[str, float]


def rows(num_iterations: int = NUM_ITERATIONS, num_episodes: int = NUM_EPISODES) -> list[Row]:
    """Run all four and compare."""
    alone = _alone(num_iterations, num_episodes)
    together = _run(num_iterations, num_episodes, lag=0)
    ahead = _run(num_iterations, num_episodes, lag=1)
    many = _run(3, 10 * num_episodes, lag=0)
    found: list[Row] = [
        (f"lag 0: {phase}", together[phase], "s") for phase in ("rollout", "learn", "push", "iteration")
    ]
    found.append(("lag 0: neither rollout nor learning", _share(together), "of an iteration"))
    for half, unit in (("sampled", "tokens/s"), ("learned", "tokens/s")):
        found.append((f"{half} alone", alone[half], unit))
        found.append((f"{half} in the loop", together[half], unit))
        found.append((f"{half} in the loop ÷ alone", together[half] / alone[half], "ratio"))
    found.append(("lag 1: iteration", ahead["iteration"], "s"))
    found.append(("lag 1: gain", together["iteration"] / ahead["iteration"], "times as fast"))
    found.append(("lag 0: driver", 1000 * together["driver"] / num_episodes, "ms an episode"))
    found.append(("ten times the episodes: driver", 1000 * many["driver"] / (10 * num_episodes), "ms an episode"))
    found.append(("ten times the episodes: neither rollout nor learning", _share(many), "of an iteration"))
    return found


def _share(figures: Figures) -> float:
    return 1 - (figures["rollout"] + figures["learn"]) / figures["iteration"]


def _config(folder: str, num_iterations: int, num_episodes: int, lag: int) -> Config:
    return load_config(
        [ROOT / "configs" / "nano" / "gp_l.yaml"],
        [
            f"learner.model={ROOT / 'models' / 'nano_gp_l'}",
            f"rollout.max_policy_lag={lag}",
            "learner.minibatches=2",
            "learner.optimizer.learning_rate=1.0e-9",
            f"cluster={{folder: {folder}, name: bench, iterations: {num_iterations}, dashboard: false}}",
            f"cluster.episodes_per_iteration={num_episodes}",
            "cluster.evaluate_at_start=false",
            "cluster.evaluate_at_end=false",
            "cluster.transcripts_every=0",
        ],
    )


def _run(num_iterations: int, num_episodes: int, *, lag: int) -> Figures:
    """The medians of a run's iterations."""
    with TemporaryDirectory() as folder:
        run = train_rl(_config(folder, num_iterations, num_episodes, lag))
        made = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
    phases = ("rollout", "learn", "push", "iteration", "driver", "learner_tokens_per_second")
    figures = {phase: median(row.get(f"seconds/{phase}", 0.0) for row in made) for phase in phases}
    sampled = median(row["rollout/sampled_tokens"] / row["seconds/playing"] for row in made)
    return {**figures, "sampled": sampled, "learned": figures["learner_tokens_per_second"]}


def _alone(num_iterations: int, num_episodes: int) -> Figures:
    """Each half on the same tasks, in the surroundings that it has in a run, with the other away."""
    with TemporaryDirectory() as folder:
        config = _config(folder, num_iterations, num_episodes, 0)
    with ray_session(config.cluster):
        played, sampled = _play_alone(config, num_iterations)
        return {"sampled": sampled, "learned": _learn_alone(config, played)}


def _play_alone(config: Config, num_iterations: int) -> tuple[list[list[Any]], float]:
    worker = start_worker("rollout-0", Path(config.learner.model or ""), config.rollout, **_rollout_options(config))
    ray.get(worker.start.remote())
    played, speeds = [], []
    for iteration in range(num_iterations):
        started = time.perf_counter()
        tasks = tasks_of(iteration, config)
        pairs = list(stream("rollout-0", worker, config.env, config.verifier, tasks, config.rollout))
        speeds.append(sum(one.num_sampled_tokens for one, _ in pairs) / (time.perf_counter() - started))
        # Kept by their values, which outlive the worker.
        played.append([(one, ray.put(ray.get(reference))) for one, reference in pairs])
    ray.get(worker.close.remote())
    ray.kill(worker)
    return played, median(speeds[1:])


def _rollout_options(config: Config) -> dict[str, Any]:
    return place(config, look()).rollout_options(0)


def _learn_alone(config: Config, played: list[list[Any]]) -> float:
    threads = place(config, look()).learner_threads
    learner = LearnerGroup.start(config.learner, config.rollout.temperature, threads=threads)
    speeds = []
    for pairs in played:
        items = [
            Item(episode=reference, num_tokens=one.num_tokens, group=group)
            for group, (one, reference) in enumerate(pairs)
        ]
        speeds.append(learner.update(items).metrics["tokens_per_second"])
    learner.close()
    return median(speeds[1:])
