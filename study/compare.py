"""`ruleshift compare`: trains every arm from one start at equal compute, over several seeds, and measures all of them.

    compare(study)      for each seed:   init  ─▶  its policy  ─▶  arm, arm, …       each a run of its own: a cell

A cell is made once: it bears the digest of its configuration, and one of the same digest that has ended is not made
again; nor is one of an older version whose options were the same. One that was stopped goes on from its newest
checkpoint. So a study can be stopped and started at any moment.
Cells are made one after another in this process or, where the cluster has room for several, side by side in others
(study/side_by_side.py).
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cluster.config import Config, parse_config, suite_environments, to_yaml
from cluster.errors import ConfigError, RunError, Stopped
from cluster.groups.crew import Crew
from cluster.options import flat
from cluster.planning.hardware import of_cluster
from cluster.planning.placement import place, rooms
from cluster.record.files import replace
from cluster.record.notices import written_to
from cluster.record.run_directory import RunDirectory
from cluster.record.ticking import waiting
from cluster.session import ray_session
from cluster.stopping import StopRequest, stop_signals
from study.cells import Cell, Study
from study.marks import mark_of, write_mark
from study.progress import StudyProgress
from study.selection import roles
from study.side_by_side import CellRunner, make_side_by_side, train_here

AGAIN = "start the study again to go on"


def compare(study: Study) -> Path:
    """Make all cells that are missing; the study's folder."""
    # A cell that is another than it was is told now, and not after an hour of the others.
    for cell in study.cells:
        require_same(cell)
    study.folder.mkdir(parents=True, exist_ok=True)
    _describe(study)
    cluster, log = study.config.cluster, study.folder / "log.txt"
    with stop_signals(cluster.stop_timeout_seconds) as stop, written_to(log), ExitStack() as cleaning:
        try:
            with stop.starting(), waiting("study | starts Ray", sys.stderr):
                cleaning.enter_context(ray_session(cluster))
            hardware = of_cluster(study.config)
            room = rooms(study.config, hardware)
            width = study.config.compare.side_by_side or room
            seats = [place(cell.config, hardware, cell.command) for cell in study.cells]
            shown = StudyProgress(study.cells, width, log)
            shown.say(shown.standing())
            if width == 1:
                crew = cleaning.enter_context(Crew())
                for cell in study.cells:
                    make_cell(cell, stop, shown, partial(train_here, crew=crew))
            else:
                stays = width <= room and all(each == seats[0] for each in seats)
                make_side_by_side(study.cells, stop, shown, width=width, stays=stays, make=make_cell)
        except KeyboardInterrupt:
            stop.is_closing = True
            raise Stopped(f"{study.folder} was stopped; {AGAIN}") from None
    return study.folder


def make_cell(cell: Cell, stop: StopRequest, shown: StudyProgress, train: CellRunner) -> None:
    """Make the cell from its beginning or from where it was stopped; one that was made before is left as it is."""
    mark = mark_of(cell.folder)
    if mark.is_done:
        return
    if stop.is_made:
        raise Stopped(f"{cell.folder} was not begun; {AGAIN}")
    for origin in filter(None, (cell.origin, cell.teacher)):
        if not origin.policy.is_dir():
            raise RunError(
                f"{cell.folder.name} needs the policy of {origin.name}, and {origin.policy} is not there: "
                f"{origin.cell.name} ended before that iteration; name an earlier one, or raise its budget"
            )
    RunDirectory.at(cell.folder)
    before, began = mark.seconds or 0.0, time.monotonic()
    write_mark(cell, is_done=False, seconds=before)
    shown.begins(cell)
    try:
        train(cell, stop)
    except BaseException as error:
        write_mark(cell, is_done=False, seconds=before + time.monotonic() - began)
        if isinstance(error, Stopped):
            raise Stopped(f"{cell.folder.name}: {error}; {AGAIN}") from None
        raise
    write_mark(cell, is_done=True, seconds=before + time.monotonic() - began)
    shown.made(cell)


def require_same(cell: Cell) -> None:
    """Raise ConfigError where the cell was made with other options."""
    if mark_of(cell.folder).digest in (None, cell.digest):
        return
    if others := list(_differences(cell)):
        raise ConfigError(
            f"{cell.folder}: this cell was made with another configuration ({'; '.join(others[:3])}"
            f"{'; …' if others[3:] else ''}); give the study another folder, or remove the cell"
        )


def _differences(cell: Cell) -> Iterator[str]:
    """In what the cell, or one that it needs, was made otherwise. An option that is newer than the cell has its default
    there, and does not tell them apart."""
    recorded = cell.folder / "config.yaml"
    if not recorded.is_file():
        yield f"{recorded} is not there"
        return
    options = OmegaConf.to_container(OmegaConf.load(recorded))
    assert isinstance(options, dict)
    try:
        then = parse_config({str(key): of_section for key, of_section in options.items() if key != "compare"})
    except ConfigError as error:
        yield str(error)
        return
    was, is_now = (dict(flat(_resolved(config))) for config in (then, cell.config))
    for key in sorted(was.keys() | is_now.keys()):
        if was.get(key) != is_now.get(key):
            yield f"{key} was {was.get(key)}, is {is_now.get(key)}"
    for needed in cell.needs:
        yield from _differences(needed)


def _resolved(config: Config) -> dict[str, Any]:
    """All options that decide what a cell is, those of suites with the defaults of their environments, which an arm
    with an `env` of its own writes out."""
    options = config.model_dump(mode="json", by_alias=True, exclude={"compare"})
    for where in ("folder", "cache_folder"):
        options["cluster"].pop(where)
    learner = options["learner"]
    learner["model"] = _inside_study(config.learner.model or "")
    if teacher := config.learner.distillation.other_model:
        learner["distillation"]["teacher"] = _inside_study(teacher)
    for name, (env, verifier) in suite_environments(config).items():
        asked = {"env": env.model_dump(mode="json"), "verifier": verifier.model_dump(mode="json")}
        options["evaluation"]["suites"][name] |= asked
    return options


def _inside_study(model: str) -> str:
    """Of a cell's policy, what it is called wherever the study lies; of any other model, where it is."""
    path = Path(model).resolve()
    return "/".join(path.parts[path.parts.index("cells") :]) if "cells" in path.parts else str(path)


def _describe(study: Study) -> None:
    """What the report has to know of the study as a whole."""
    options, arms = study.config.compare, {cell.name: cell for cell in study.cells if not cell.is_init}
    description = {
        "name": study.config.cluster.name,
        "seeds": list(options.seeds),
        "init": next((cell.name for cell in study.cells if cell.is_init), None),
        "starts": {name: cell.origin and cell.origin.name for name, cell in arms.items()},
        "arms": list(arms),
        "sweep": {name: {"arm": cell.arm, "values": dict(cell.values)} for name, cell in arms.items() if cell.values},
        "roles": {name: asdict(role) for name, role in roles(study.cells, study.config).items()},
        "select": options.select,
        "ledger": options.ledger,
        "budget": options.budget,
        "suites": {name: suite.title or name for name, suite in study.config.evaluation.suites.items()},
        "versions": {name: version(name) for name in ("ray", "torch", "transformers", "deepspeed")},
        "config": to_yaml(study.config),
    }
    replace(study.folder / "study.json", json.dumps(description, indent=1).encode())
