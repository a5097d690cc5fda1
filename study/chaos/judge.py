"""Whether a run that was struck came to what it should: nothing lost, nothing doubled, nothing wrong.

faults(world, undisturbed, may_differ)   →  a sentence for each thing that is not as it should be
"""

from pathlib import Path
from typing import Any

import psutil
from safetensors.numpy import load_file

from cluster.config import Config, load_config
from cluster.record.run_directory import POLICY_FOLDER, RunDirectory
from study.chaos.world import World

LEAVE_SECONDS = 20.0
"""How long processes may take to end behind their run."""
DRAWN, TASKS = "rollout/drawn", "rollout/tasks"


def faults(world: World, undisturbed: Path | None, *, may_differ: bool) -> list[str]:
    """What is wrong with a run that has ended; `may_differ` where an episode was made to fail."""
    if world.status != 0:
        return [f"the run ended with status {world.status}; {world.log} says why"]
    run = RunDirectory.open(world.run)
    config = load_config([run.config])
    found = [*_of_rows(run, config, may_differ=may_differ), *_left_over(world)]
    if undisturbed is not None:
        expected = RunDirectory.open(undisturbed)
        found += _other_tasks(expected, run)
        found += [] if may_differ else _differences(expected, run)
    return found


def same_draws(undisturbed: Path, run: Path) -> int:
    """For how many iterations, from the first on, the same tokens were drawn."""
    rows = zip(RunDirectory.open(undisturbed).rows("metrics"), RunDirectory.open(run).rows("metrics"), strict=False)
    count = 0
    for one, other in rows:
        if one[DRAWN] != other[DRAWN]:
            break
        count += 1
    return count


def _of_rows(run: RunDirectory, config: Config, *, may_differ: bool) -> list[str]:
    rows, cluster = run.rows("metrics"), config.cluster
    found: list[str] = []
    iterations = [row["iteration"] for row in rows]
    if iterations != list(range(1, cluster.iterations + 1)):
        found.append(f"rows of metrics are those of iterations {iterations}, not of 1 to {cluster.iterations}")
    for row in rows:
        if row["rollout/episodes"] != cluster.episodes_per_iteration:
            found.append(f"iteration {row['iteration']} has {row['rollout/episodes']} episodes")
        if row["rollout/stale"]:
            found.append(f"iteration {row['iteration']} has {row['rollout/stale']} stale episodes")
        if row["rollout/failed"] and not may_differ:
            found.append(f"iteration {row['iteration']} has {row['rollout/failed']:.0%} failed episodes")
        if row["version"] != row["iteration"]:
            found.append(f"iteration {row['iteration']} is of version {row['version']}")
    measured = [(row["iteration"], row["suite"], row["temperature"]) for row in run.rows("evaluations")]
    if len(set(measured)) < len(measured):
        found.append(f"something was measured twice: {measured}")
    wanted = len(config.evaluation.wanted(is_final=True)) if cluster.evaluate_at_end else 0
    if sum(iteration == cluster.iterations for iteration, *_ in measured) != wanted:
        found.append(f"of {wanted} measurements of the final policy there are {measured}")
    return found


def _left_over(world: World) -> list[str]:
    processes = [*world.workers(), *world.ranks(), *world.engines()]
    psutil.wait_procs(processes, timeout=LEAVE_SECONDS)
    return [f"left over: {what}" for what in world.left_over()]


def _other_tasks(undisturbed: RunDirectory, run: RunDirectory) -> list[str]:
    """One that was played twice in the place of another shows, whatever was drawn."""
    rows = zip(undisturbed.rows("metrics"), run.rows("metrics"), strict=False)
    return [f"iteration {one['iteration']} played other tasks" for one, other in rows if one[TASKS] != other[TASKS]]


def _differences(undisturbed: RunDirectory, run: RunDirectory) -> list[str]:
    """Of runs that drew the same tokens; where they did not, they are two runs."""
    num_rows = len(run.rows("metrics"))
    if same_draws(undisturbed.path, run.path) < num_rows:
        return []
    ours, theirs = (_weights(each.path) for each in (run, undisturbed))
    differing = [name for name in theirs if (ours[name] != theirs[name]).any()]
    if differing:
        return [f"the same tokens were drawn, and {len(differing)} weights differ, as {differing[0]}"]
    return []


def _weights(run: Path) -> dict[str, Any]:
    return load_file(run / POLICY_FOLDER / "model.safetensors")
