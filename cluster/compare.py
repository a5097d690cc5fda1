"""`ruleshift compare`: trains every arm from one start at equal compute, over several seeds, and measures all of them.

    compare(config, folder)   →  the study's folder

    for each seed:   init  ─▶  its policy  ─▶  arm, arm, …        each a run of its own: a cell

A cell is made once: it bears the digest of its configuration, and one of the same digest that has ended is not made
again. One that was stopped goes on from its newest checkpoint. So a study can be stopped and started at any moment.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster.config import Config, overlaid, parse_config, to_yaml
from cluster.errors import ConfigError
from cluster.options import ArmConfig
from cluster.record.files import replace
from cluster.record.run_directory import RunDirectory
from cluster.session import ray_session
from cluster.training import POLICY_FOLDER

INIT = "init"
TASKS_BETWEEN_SEEDS = 10_000_000
"""Seeds of a study draw their tasks from ranges of their own."""


class Stopped(Exception):
    """A cell was asked to stop; the study goes on with it when it is started again."""


def compare(config: Config, folder: Path) -> Path:
    """Make all cells that are missing; the study's folder."""
    if not config.compare.arms:
        raise ConfigError("compare.arms: there is nothing to compare; name at least one, as in {sft: {command: sft}}")
    folder.mkdir(parents=True, exist_ok=True)
    # A wrong arm is told now, and not after an hour of the others.
    for name, arm in _cells(config).items():
        cell_config(config, name, arm, seed=0, start=None)
    _describe(config, folder)
    with ray_session(config.cluster):
        for seed in config.compare.seeds:
            start: RunDirectory | None = None
            if config.compare.init is not None:
                start = _make(config, INIT, config.compare.init, seed, None, folder)
            for name, arm in config.compare.arms.items():
                _make(config, name, arm, seed, start, folder)
    return folder


def cell_config(config: Config, name: str, arm: ArmConfig, *, seed: int, start: RunDirectory | None) -> Config:
    """What a cell runs with: the study's configuration, the arm's changes, its seed, its budget, its start."""
    study = config.compare
    options: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude={"compare"})
    first = seed * TASKS_BETWEEN_SEEDS
    changes: dict[str, Any] = {
        "learner": {"seed": seed},
        "cluster": {"name": f"{name}_seed{seed}", "first_seed": first},
        "data": {"first_seed": first},
    }
    if name != INIT:
        changes["cluster"] |= {"budget": study.budget, "ledger": study.ledger, "evaluations": study.evaluations}
        if start is not None:
            changes["learner"]["model"] = str(start.path / POLICY_FOLDER)
    elif study.temperatures:
        changes["evaluation"] = {"temperatures": [*config.evaluation.temperatures, *study.temperatures]}
    options = overlaid(overlaid(options, changes), arm.options)
    try:
        return parse_config(options)
    except ConfigError as error:
        raise ConfigError(f"compare.{INIT if name == INIT else f'arms.{name}'}.options: {error}") from None


def _make(
    config: Config, name: str, arm: ArmConfig, seed: int, start: RunDirectory | None, folder: Path
) -> RunDirectory:
    """The cell, from its beginning, from where it was stopped, or as it was made before."""
    of_cell = cell_config(config, name, arm, seed=seed, start=start)
    path = folder / "cells" / f"{name}_seed{seed}"
    digest = _digest(of_cell, start)
    mark = path / "cell.json"
    known = json.loads(mark.read_text()) if mark.is_file() else {}
    if known.get("digest") not in (None, digest):
        raise ConfigError(
            f"{path}: this cell was made with another configuration; give the study another folder, or remove the cell"
        )
    directory = RunDirectory.at(path)
    if known.get("is_done"):
        return directory
    replace(mark, json.dumps({"digest": digest, "is_done": False}).encode())
    if arm.command == "sft":
        from cluster.train_sft import train_sft as train
    else:
        from cluster.train_rl import train_rl as train
    train(of_cell, at=path)
    if not (path / POLICY_FOLDER).is_dir():
        raise Stopped(f"{path} was stopped; start the study again to go on")
    replace(mark, json.dumps({"digest": digest, "is_done": True}).encode())
    return directory


def _cells(config: Config) -> Mapping[str, ArmConfig]:
    init = {} if config.compare.init is None else {INIT: config.compare.init}
    return {**init, **config.compare.arms}


def _digest(config: Config, start: RunDirectory | None) -> str:
    """Of everything that decides what the cell is; where it lies does not."""
    made = config.model_dump(mode="json", by_alias=True)
    made["cluster"].pop("folder")
    if start is not None:
        made["learner"]["model"] = json.loads((start.path / "cell.json").read_text())["digest"]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _describe(config: Config, folder: Path) -> None:
    """What the report has to know of the study as a whole."""
    study = config.compare
    description = {
        "name": config.cluster.name,
        "seeds": list(study.seeds),
        "init": INIT if study.init is not None else None,
        "arms": list(study.arms),
        "ledger": study.ledger,
        "budget": study.budget,
        "suites": {name: suite.title or name for name, suite in config.evaluation.suites.items()},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers", "deepspeed")},
        "config": to_yaml(config),
    }
    replace(folder / "study.json", json.dumps(description, indent=1).encode())
