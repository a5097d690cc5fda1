"""`ruleshift compare`: trains every arm from one start at equal compute, over several seeds, and measures all of them.

    compare(config, folder)   →  the study's folder

    for each seed:   init  ─▶  its policy  ─▶  arm, arm, …        each a run of its own: a cell (study/cells.py)

A cell is made once: it bears the digest of its configuration, and one of the same digest that has ended is not made
again. One that was stopped goes on from its newest checkpoint. So a study can be stopped and started at any moment.
Cells are made one after another in this process or, where the cluster has room for several, side by side in others
(study/side_by_side.py).
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster.config import Config, to_yaml
from cluster.errors import ConfigError
from cluster.open_training import hardware_of_cluster
from cluster.planning.placement import rooms
from cluster.record.files import replace
from cluster.record.run_directory import RunDirectory
from cluster.session import StopRequest, ray_session, stop_signals
from cluster.study.cells import Cell, cell_config, cells_of
from cluster.study.side_by_side import CellRunner, make_side_by_side, train_here
from cluster.training import POLICY_FOLDER

MARK = "cell.json"


class Stopped(Exception):
    """A cell was asked to stop; the study goes on with it when it is started again."""


def compare(config: Config, folder: Path) -> Path:
    """Make all cells that are missing; the study's folder."""
    if not config.compare.arms:
        raise ConfigError("compare.arms: there is nothing to compare; name at least one, as in {sft: {command: sft}}")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cells = cells_of(config.compare)
    # A wrong arm is told now, and not after an hour of the others.
    for cell in cells:
        _require_same(config, cell, folder)
    _describe(config, cells, folder)
    with ray_session(config.cluster), stop_signals() as stop:
        width = config.compare.side_by_side or rooms(config, hardware_of_cluster(config))
        if width == 1:
            for cell in cells:
                make_cell(config, cell, folder, stop)
        else:
            make_side_by_side(config, cells, folder, stop, width=width, make=make_cell)
    return folder


def make_cell(config: Config, cell: Cell, folder: Path, stop: StopRequest, train: CellRunner = train_here) -> None:
    """Make the cell from its beginning or from where it was stopped; one that was made before is left as it is."""
    start = None if cell.start is None else cell_folder(folder, cell.start, cell.seed)
    of_cell = cell_config(config, cell, start and start / POLICY_FOLDER)
    path = cell_folder(folder, cell.name, cell.seed)
    digest = _digest(of_cell, start)
    if _mark(path).get("is_done"):
        return
    if stop.is_made:
        raise Stopped(f"{path} was not begun; start the study again to go on")
    RunDirectory.at(path)
    replace(path / MARK, json.dumps({"digest": digest, "is_done": False}).encode())
    train(of_cell, cell.options.command, path, stop)
    if not (path / POLICY_FOLDER).is_dir():
        raise Stopped(f"{path} was stopped; start the study again to go on")
    replace(path / MARK, json.dumps({"digest": digest, "is_done": True}).encode())


def cell_folder(folder: Path, name: str, seed: int) -> Path:
    """Where a cell's run lies."""
    return folder / "cells" / f"{name}_seed{seed}"


def _require_same(config: Config, cell: Cell, folder: Path) -> None:
    """Raise ConfigError where the cell's options are wrong, or are not those that it was made with."""
    start = None if cell.start is None else cell_folder(folder, cell.start, cell.seed)
    of_cell = cell_config(config, cell, start and start / POLICY_FOLDER)
    path = cell_folder(folder, cell.name, cell.seed)
    known = _mark(path).get("digest")
    if known is not None and (start is None or _mark(start)) and known != _digest(of_cell, start):
        raise ConfigError(
            f"{path}: this cell was made with another configuration; give the study another folder, or remove the cell"
        )


def _mark(path: Path) -> dict[str, Any]:
    mark = path / MARK
    return json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}


def _digest(config: Config, start: Path | None) -> str:
    """Of everything that decides what the cell is; where it lies does not."""
    made = config.model_dump(mode="json", by_alias=True)
    made["cluster"].pop("folder")
    model = Path(config.learner.model or "").resolve()
    made["learner"]["model"] = str(model) if start is None else _mark(start)["digest"]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _describe(config: Config, cells: list[Cell], folder: Path) -> None:
    """What the report has to know of the study as a whole."""
    study = config.compare
    arms = {cell.name: cell for cell in cells if not cell.is_init}
    starts = dict.fromkeys(cell.name for cell in cells if cell.is_init)
    description = {
        "name": config.cluster.name,
        "seeds": list(study.seeds),
        "init": next(iter(starts), None),
        "starts": {name: cell.start for name, cell in arms.items()},
        "arms": list(arms),
        "sweep": {name: {"arm": cell.arm, "values": dict(cell.values)} for name, cell in arms.items() if cell.values},
        "ledger": study.ledger,
        "budget": study.budget,
        "suites": {name: suite.title or name for name, suite in config.evaluation.suites.items()},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers", "deepspeed")},
        "config": to_yaml(config),
    }
    replace(folder / "study.json", json.dumps(description, indent=1).encode())
