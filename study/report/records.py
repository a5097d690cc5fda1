"""What a study or a run has left behind, as a report reads it.

    read_study(folder)  →  Study(name="gp_l", arms=("sft", "rl"), seeds=(0, 1), cells={("init", 0): Cell(…), …})

A folder with `study.json` is a study: a cell for each arm and seed, and the policy that all arms of a seed started
from. The folder of one run is a study of one arm, which its own first evaluation stands before.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.errors import RunError
from cluster.record.episode_log import EpisodeRecord, read_episodes
from cluster.record.files import read_rows
from envs.protocol import Measure, Measures, Shift
from study.report.rates import Rate, Row, measure_words, number, rate_of
from study.report.suites import Suite, read_commands, read_suites

STUDY_FILE = "study.json"
LEDGERS = ("compute/flops", "compute/paper_flops")
COMPUTE = (*LEDGERS, "compute/device_seconds", "compute/trained_tokens", "compute/sampled_tokens")


@dataclass(frozen=True)
class Cell:
    """One arm's run under one seed."""

    arm: str
    seed: int
    folder: Path
    rows: tuple[Row, ...]
    """Its evaluations; where one was made again, the last."""

    @cached_property
    def config_text(self) -> str:
        """Its configuration; empty where there is none."""
        file = self.folder / "config.yaml"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The same as a mapping."""
        try:
            loaded = OmegaConf.to_container(OmegaConf.create(self.config_text))
        except (YAMLError, OmegaConfBaseException) as error:
            raise RunError(f"{self.folder / 'config.yaml'}: cannot be read ({error}); restore the file") from None
        return cast(dict[str, Any], loaded) if isinstance(loaded, dict) else {}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of its iterations."""
        return read_rows(self.folder / "metrics.jsonl")


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of a policy: which run holds its episodes, and its row, whose compute is the arm's."""

    cell: Cell
    row: Row

    def at(self, ledger: str) -> float:
        """What the arm had spent by then."""
        return number(self.row.get(ledger)) or 0.0

    def rate(self, measure: str) -> Rate | None:
        """A measure with its interval; None where it was not taken."""
        return rate_of(self.row, measure)

    def episodes(self) -> list[EpisodeRecord]:
        """What was played in this evaluation; empty where it was not kept."""
        suite, temperature, iteration = (self.row[key] for key in ("suite", "temperature", "iteration"))
        file = self.cell.folder / "episodes" / f"{suite}_t{temperature:g}_{iteration:06d}.jsonl"
        return read_episodes(file)


@dataclass(frozen=True)
class Study:
    """Arms × seeds, each measured on the same suites."""

    folder: Path
    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    init: str | None
    """The name of the cells that all arms of a seed start from; None for one run."""
    ledger: str
    budget: float | None
    suites: Mapping[str, str]
    """Each suite and what it is, in words."""
    cells: Mapping[tuple[str, int], Cell]
    versions: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""
    starts: Mapping[str, str] = field(default_factory=dict)
    """The cells that an arm starts from, where they are others than `init`; `init@20` is one behind an iteration."""
    sweep: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each arm that a sweep has made: the `arm` it is a variant of, and the `values` of the keys."""

    @cached_property
    def asked(self) -> Mapping[str, Suite]:
        """What each suite asks, that which chose included, and what it shifts."""
        cells = self.cells.values()
        titles = {row["suite"]: row["suite"] for cell in cells for row in cell.rows} | dict(self.suites)
        return read_suites((self.config_text, *(cell.config_text for cell in cells)), titles)

    def command(self, arm: str) -> str | None:
        """Whether an arm imitates (`sft`) or plays (`rl`); None where that is not known."""
        return self._commands.get(str(self.sweep[arm]["arm"]) if arm in self.sweep else arm)

    @cached_property
    def _commands(self) -> Mapping[str, str]:
        return read_commands(self.config_text)

    @property
    def trained_suite(self) -> str:
        """The suite under the rule of training."""
        trained = [suite for suite in self.suites if self.asked[suite].shift == "none"] or self.suites
        return min(trained, key=lambda suite: self.asked[suite].chooses)

    @property
    def shifted_suites(self) -> tuple[str, ...]:
        """The others, those first whose rule is shifted, those last that are there to choose by."""
        others = [suite for suite in self.suites if suite != self.trained_suite]
        order = ("rule", "look", "none", "other")
        asked = self.asked
        return tuple(sorted(others, key=lambda suite: (asked[suite].chooses, order.index(asked[suite].shift))))

    def shifted(self, shift: Shift) -> str | None:
        """The first suite with that shift which is not there to choose by."""
        told = (suite for suite in self.shifted_suites if self.asked[suite].shift == shift)
        return next((suite for suite in told if not self.asked[suite].chooses), None)

    @property
    def shown_suites(self) -> tuple[str, ...]:
        """Those that figures show: under the rule of training, under the shifted one, and with another look."""
        shifted = (self.shifted("rule"), self.shifted("look"))
        return (self.trained_suite, *(suite for suite in shifted if suite is not None))

    def measures(self, suite: str) -> Measures:
        """What the suite's environment is measured by, as far as it was recorded."""
        return self._measures[suite]

    def headline(self, suite: str) -> Measure:
        """The measure that figures of a suite show."""
        return self._measures[suite].headline

    def title(self, measure: str) -> str:
        """What a measure is called."""
        named = (told for measures in self._measures.values() for told in measures.all)
        return next((told.title for told in named if told.name == measure), measure_words(measure))

    @cached_property
    def _measures(self) -> Mapping[str, Measures]:
        rows = [row for cell in self.cells.values() for row in cell.rows]
        return {
            suite: asked.recorded({key for row in rows if row["suite"] == suite for key in row})
            for suite, asked in self.asked.items()
        }

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        """All at which anything was measured; the one that the report is told at comes first."""
        found = {float(row["temperature"]) for cell in self.cells.values() for row in cell.rows}
        trained = {
            float(row["temperature"]) for cell in self.cells.values() if cell.arm in self.arms for row in cell.rows
        }
        main = 1.0 if 1.0 in trained else max(trained or found)
        return (main, *sorted(found - {main}))

    @property
    def beginning(self) -> str:
        """The name of the policy before training."""
        return self.init or "start"

    def series(self, arm: str, seed: int, suite: str, temperature: float | None = None) -> list[Point]:
        """An arm's evaluations in order, its starting policy before them."""
        cell = self.cells.get((arm, seed))
        if cell is None:
            return []
        points = [Point(cell, row) for row in _picked(cell, suite, self._at(temperature))]
        start = self._init_point(self.starts.get(arm, self.init), seed, suite, temperature)
        if points and start is not None and points[0].row["iteration"] != 0:
            points.insert(0, Point(start.cell, {**start.row, **self._initial_compute(cell, start)}))
        return points

    def first(self, seed: int, suite: str, temperature: float | None = None) -> Point | None:
        """The policy before training."""
        if self.init is not None:
            return self._init_point(self.init, seed, suite, temperature)
        return next(iter(self.series(self.arms[0], seed, suite, temperature)), None)

    def last(self, arm: str, seed: int, suite: str, temperature: float | None = None) -> Point | None:
        """An arm at the end of training, or the policy before it where `arm` is that."""
        if arm == self.beginning:
            return self.first(seed, suite, temperature)
        cell = self.cells.get((arm, seed))
        points = [Point(cell, row) for row in _picked(cell, suite, self._at(temperature))] if cell else []
        return points[-1] if points else None

    def _at(self, temperature: float | None) -> float:
        return self.temperatures[0] if temperature is None else temperature

    def _init_point(self, name: str | None, seed: int, suite: str, temperature: float | None) -> Point | None:
        name, _, step = (name or "").partition("@")
        cell = self.cells.get((name, seed))
        rows = _picked(cell, suite, self._at(temperature)) if cell else []
        rows = [row for row in rows if not step or row["iteration"] == int(step)]
        return Point(cell, rows[-1]) if cell and rows else None

    def _initial_compute(self, cell: Cell, start: Point) -> dict[str, float]:
        """What the arm's ledger said before it began: its first row knows, or whether it is charged the start."""
        for row in cell.rows:
            if row["iteration"] == 0:
                return {key: row.get(key, 0.0) for key in COMPUTE}
        charged = ((cell.config.get("cluster") or {}).get("compute") or {}).get("initial_tokens", 0)
        return {key: start.row.get(key, 0.0) if charged and key in LEDGERS else 0.0 for key in COMPUTE}


def read_study(folder: Path) -> Study:
    """A study, or a run as a study of one arm; RunError names what is missing and the command that makes it."""
    study = read_records(folder)
    if not any(cell.rows for (arm, _), cell in study.cells.items() if arm in study.arms):
        fix = "run it on, or measure a run with `ruleshift evaluate RUN`"
        raise RunError(f"{folder}: no arm has an evaluation yet, so there is nothing to report; {fix}")
    return study


def read_records(folder: Path) -> Study:
    """The same, whether there are evaluations or not."""
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder; name one that `ruleshift compare`, `rl` or `sft` has made")
    file = folder / STUDY_FILE
    return _read_compared(folder, file) if file.is_file() else _read_run(folder)


def _read_compared(folder: Path, file: Path) -> Study:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        arms, seeds, init = tuple(map(str, told["arms"])), tuple(map(int, told["seeds"])), told.get("init") or None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file}: not the description of a study ({type(error).__name__}: {error}); run `ruleshift compare` again, "
            "which writes it anew and keeps finished cells"
        ) from None
    cells = {}
    starts = {str(arm): str(start) for arm, start in (told.get("starts") or {}).items() if start}
    for arm in dict.fromkeys([init or "", *(start.partition("@")[0] for start in starts.values()), *arms]):
        for seed in seeds:
            inner = folder / "cells" / f"{arm}_seed{seed}"
            if rows := _rows(inner):
                cells[arm, seed] = Cell(arm, seed, inner, rows)
    # What chose is no result: it stands apart in the report.
    found = {row["suite"] for cell in cells.values() for row in cell.rows} - {str(told.get("select")).partition("/")[0]}
    suites = {str(suite): str(words) for suite, words in (told.get("suites") or {}).items() if suite in found}
    return Study(
        folder=folder,
        name=str(told.get("name", folder.name)),
        arms=tuple(arm for arm in arms if any(key[0] == arm for key in cells)),
        seeds=seeds,
        init=init if any(key[0] == init for key in cells) else None,
        ledger=str(told.get("ledger") or LEDGERS[0]),
        budget=number(told.get("budget")),
        suites=suites | {suite: suite.replace("_", " ") for suite in sorted(found - suites.keys())},
        cells=cells,
        versions=told.get("versions") or {},
        config_text=str(told.get("config") or ""),
        starts=starts,
        sweep=told.get("sweep") or {},
    )


def _read_run(folder: Path) -> Study:
    if not (folder / "config.yaml").is_file():
        raise RunError(
            f"{folder}: neither a study, since it has no {STUDY_FILE}, nor a run, since it has no config.yaml; name "
            "the folder that `ruleshift compare`, `rl` or `sft` printed"
        )
    rows = _rows(folder)
    cell = Cell("run", 0, folder, rows)
    suites = {row["suite"]: row["suite"].replace("_", " ") for row in rows}
    return Study(folder, folder.name, ("run",), (0,), None, LEDGERS[0], None, suites, {("run", 0): cell})


def _rows(folder: Path) -> tuple[Row, ...]:
    rows: Iterable[Row] = read_rows(folder / "evaluations.jsonl")
    latest = {(row.get("iteration"), row.get("suite"), row.get("temperature")): row for row in rows}
    whole = [row for key, row in latest.items() if None not in key]
    return tuple(sorted(whole, key=lambda row: row["iteration"]))


def _picked(cell: Cell, suite: str, temperature: float) -> Sequence[Row]:
    return [row for row in cell.rows if row["suite"] == suite and float(row["temperature"]) == temperature]
