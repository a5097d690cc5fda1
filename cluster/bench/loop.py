"""`ruleshift bench loop`: where the seconds of an iteration go, and what playing ahead of the learner gains.

    lag 0     play, learn, push, one after the other: the sum of its phases is the limit
    lag 1     the next iteration plays while the learner learns; on few cores both share them
    lag 0, ten times the episodes    the driver's own time must not grow with them

GeneralPoints in words with the built-in nano model. An iteration's time that is neither rollout nor learning is the
system's own.
"""

import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cluster.bench import Row
from cluster.config import load_config
from cluster.train_rl import train_rl

ROOT = Path(__file__).parents[2]
NUM_ITERATIONS = 6
"""Of which the first does not count."""
NUM_EPISODES = 64


def rows(num_iterations: int = NUM_ITERATIONS, num_episodes: int = NUM_EPISODES) -> list[Row]:
    """Run all three and compare."""
    alone = _seconds(num_iterations, num_episodes, lag=0)
    ahead = _seconds(num_iterations, num_episodes, lag=1)
    many = _seconds(3, 10 * num_episodes, lag=0)
    found: list[Row] = [(f"lag 0: {phase}", seconds, "s") for phase, seconds in alone.items()]
    found.append(("lag 0: neither rollout nor learning", _share(alone), "of an iteration"))
    found.append(("lag 1: iteration", ahead["iteration"], "s"))
    found.append(("lag 1: gain", alone["iteration"] / ahead["iteration"], "times as fast"))
    found.append(("ten times the episodes: neither rollout nor learning", _share(many), "of an iteration"))
    found.append(("ten times the episodes: own time", _own(many) / max(_own(alone), 1e-9), "times that of lag 0"))
    return found


def _own(seconds: dict[str, float]) -> float:
    return seconds["iteration"] - seconds["rollout"] - seconds["learn"]


def _share(seconds: dict[str, float]) -> float:
    return _own(seconds) / seconds["iteration"]


def _seconds(num_iterations: int, num_episodes: int, *, lag: int) -> dict[str, float]:
    """The median seconds of each phase."""
    with TemporaryDirectory() as folder:
        config = load_config(
            [ROOT / "configs" / "nano" / "gp_l.yaml"],
            [
                f"learner.model={ROOT / 'models' / 'nano_gp_l'}",
                f"rollout.max_policy_lag={lag}",
                "env.max_attempts=3",
                "learner.minibatches=2",
                f"cluster={{folder: {folder}, name: bench, iterations: {num_iterations}, dashboard: false}}",
                f"cluster.episodes_per_iteration={num_episodes}",
                "cluster.evaluate_at_ends=false",
            ],
        )
        run = train_rl(config)
        made = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
    phases = ("rollout", "learn", "push", "iteration")
    return {phase: median(row.get(f"seconds/{phase}", 0.0) for row in made) for phase in phases}
