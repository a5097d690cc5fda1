"""Whether a run's newest checkpoint fits the configuration that is to go on from it; told before anything starts."""

import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

from cluster.config import Config, load_config
from cluster.faults import Finding, brief
from cluster.options import flat
from cluster.planning.model_checks import architecture_of
from cluster.record.run_directory import RunDirectory
from learner.config import CHECKPOINT_OPTIONS
from learner.parts import CRITIC

SUMMARY = Path("learner") / "engine.json"
TOLERANCE = 0.02
"""Parameters are counted within one percent where a model's folder holds no weights."""


def resume_findings(config: Config, run: Path) -> Iterator[Finding]:
    """What keeps the run from going on; nothing where there is no checkpoint, since it begins anew then."""
    checkpoints = RunDirectory.open(run).checkpoints()
    if not checkpoints:
        return
    folder = checkpoints[-1][1]
    saved = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["layout"]
    for name, option in CHECKPOINT_OPTIONS.items():
        now = reduce(getattr, option.split(".")[1:], config.learner)
        if now != saved[name]:
            rule = f"the checkpoint {folder} was written with {saved[name]}"
            yield Finding(key=option, value=now, rule=rule, fix=f"set it back to {saved[name]}, or start a new run")
    yield from _groups(config, folder, set(saved.get("groups", ())) - {"model"})
    architecture = architecture_of(config)
    if architecture is None or config.learner.lora.rank:
        return
    count = sum(_size(shape) for name, shape in saved["parameters"].items() if name.startswith("backbone."))
    if abs(count - architecture.num_parameters) > TOLERANCE * count:
        yield Finding(
            key="learner.model",
            value=config.learner.model,
            rule=f"it has {architecture.num_parameters:,} parameters, and that of {folder} has {count:,}",
            fix="take the model that the run was started with, or start a new run",
        )


def changes(config: Config, run: Path) -> dict[str, str]:
    """By its key, each option that the run was begun with otherwise. A model may lie elsewhere by now."""
    file = run / "config.yaml"
    then = dict(flat(load_config([file]).model_dump(mode="json", by_alias=True))) if file.is_file() else {}
    now = dict(flat(config.model_dump(mode="json", by_alias=True))) if then else {}
    keys = sorted({*then, *now} - {"learner.model"})
    return {
        key: f"{key}={brief(now.get(key))}: the run was begun with {brief(then.get(key))}; from here on it is this"
        for key in keys
        if then.get(key) != now.get(key)
    }


def _groups(config: Config, folder: Path, saved: set[str]) -> Iterator[Finding]:
    """What had a learning rate of its own, by which the optimizer's state is laid out."""
    rates, critic = config.learner.optimizer.part_learning_rates, config.learner.value_head
    keys = {f"learner.optimizer.part_learning_rates.{part}": (part, rate) for part, rate in rates.items()}
    if critic.learning_rate or critic.warmup_updates:
        key = "learning_rate" if critic.learning_rate else "warmup_updates"
        keys[f"learner.value_head.{key}"] = (CRITIC, getattr(critic, key))
    for key, (group, value) in keys.items():
        if group not in saved:
            rule = f"the checkpoint {folder} was written without it"
            yield Finding(key=key, value=value, rule=rule, fix="leave it out, or start a new run")
    for group in sorted(saved - {group for group, _ in keys.values()}):
        own = "value_head.learning_rate" if group == CRITIC else f"optimizer.part_learning_rates.{group}"
        either = " or value_head.warmup_updates" if group == CRITIC else ""
        rule = f"the checkpoint {folder} was written with it{either}"
        yield Finding(key=f"learner.{own}", value=None, rule=rule, fix="set it as it was, or start a new run")


def _size(shape: str) -> int:
    """Of `128 × 64`, or `128 × 64 (frozen)`.

    >>> _size("128 × 64 (frozen)")
    8192
    """
    size = 1
    for part in shape.removesuffix(" (frozen)").split(" × "):
        size *= int(part or 1)
    return size
