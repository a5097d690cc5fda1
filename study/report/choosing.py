"""Which run of each method a validation suite chooses, and how sure that is.

    choose(findings)   →  Selection, or None where the study names no suite to choose by
    write_selection(selection, folder)      selection.json
    told(selection)    →  lines for a terminal, with those to put into the study's file

A study of the values of a sweep, or of arms that differ in their optimizer alone, is a grid; the highest mean over
the seeds wins, at the end of training and at the temperature that the report is told at. Of equals it is the first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from cluster.record.files import replace
from study.report.differences import Difference, over_seeds
from study.report.findings import Findings, percent, points
from study.report.rates import Rate
from study.report.records import STUDY_FILE, Study
from study.selection import suite_of

SELECTION_FILE = "selection.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that could have been chosen."""

    cell: str
    """Its name, whatever its seed."""
    rate: Rate
    """The mean of the seeds, with its interval."""
    by_seed: Mapping[int, float]


@dataclass(frozen=True)
class Choice:
    """What was chosen for one method, and what it was chosen from."""

    method: str
    ranked: tuple[Candidate, ...]
    """The best first."""
    ahead: Difference | None
    """How far the first is before the second, on the same tasks; None where there is nothing to compare by."""

    @property
    def cell(self) -> str:
        """The run that was chosen."""
        return self.ranked[0].cell

    @property
    def is_clear(self) -> bool:
        """Whether chance over tasks and seeds does not explain that it is the first."""
        return self.ahead is not None and self.ahead.is_significant and self.ahead.value > 0


@dataclass(frozen=True)
class Selection:
    """One choice for each method that has several runs."""

    study: Study
    suite: str
    measure: str
    temperature: float
    choices: tuple[Choice, ...]

    @cached_property
    def cells(self) -> frozenset[str]:
        """All runs that were chosen."""
        return frozenset(choice.cell for choice in self.choices)


def description_of(study: Study) -> Mapping[str, Any]:
    """What `compare` has written of the study as a whole; empty for one run."""
    file = study.folder / STUDY_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def frozen_in(study: Study) -> frozenset[str]:
    """The arms that the study's file calls chosen: on other seeds, whatever its own say."""
    roles = description_of(study).get("roles") or {}
    return frozenset(name for name, role in roles.items() if (role or {}).get("dose") in ("chosen", "both"))


def methods_of(study: Study) -> dict[str, list[str]]:
    """The runs of each method, in the study's order."""
    roles = description_of(study).get("roles") or {}
    found: dict[str, list[str]] = {}
    for arm in study.arms:
        found.setdefault(str(roles.get(arm, {}).get("method", arm)), []).append(arm)
    return found


def choose(findings: Findings) -> Selection | None:
    """By what the study says; methods of which nothing is measured yet are left out."""
    study = findings.study
    select = description_of(study).get("select")
    if not select:
        return None
    suite, measure = suite_of(str(select))
    measure = measure or study.headline(study.trained_suite).name
    drawn = {float(row["temperature"]) for cell in study.cells.values() for row in cell.rows if row["suite"] == suite}
    if not drawn:
        return None
    main = study.temperatures[0]
    temperature = main if main in drawn else max(drawn)
    found = (
        _choice(findings, method, cells, suite, measure, temperature) for method, cells in methods_of(study).items()
    )
    return Selection(study, suite, measure, temperature, tuple(choice for choice in found if choice is not None))


def _choice(
    findings: Findings, method: str, cells: Sequence[str], suite: str, measure: str, temperature: float
) -> Choice | None:
    study = findings.study
    rates = {
        cell: {
            seed: rate
            for seed in study.seeds
            if (point := study.last(cell, seed, suite, temperature)) and (rate := point.rate(measure))
        }
        for cell in cells
    }
    # Seeds differ in luck, so that only those count under which all were measured.
    common = [seed for seed in study.seeds if all(seed in found for found in rates.values())]
    if len(cells) < 2 or not common:
        return None
    candidates = []
    for cell, found in rates.items():
        rate = over_seeds([found[seed] for seed in common])
        assert rate is not None  # since there are seeds
        candidates.append(Candidate(cell, rate, {seed: found[seed].value for seed in common}))
    # Means of the same rates may differ in their last bits; sorting keeps the order of equals.
    ranked = tuple(sorted(candidates, key=lambda each: -round(fmean(each.by_seed.values()), 9)))
    return Choice(method, ranked, findings.difference(ranked[0].cell, ranked[1].cell, suite, measure, temperature))


def write_selection(selection: Selection, folder: Path) -> None:
    """A record of what was chosen, from what, and how close the second is."""
    record = {
        "suite": selection.suite,
        "measure": selection.measure,
        "temperature": selection.temperature,
        "choices": {
            choice.method: {
                "chosen": choice.cell,
                "is_clear": choice.is_clear,
                "ahead_of_the_second": choice.ahead and {key: getattr(choice.ahead, key) for key in _OF_DIFFERENCE},
                "candidates": [asdict(candidate) for candidate in choice.ranked],
            }
            for choice in selection.choices
        },
    }
    replace(folder / SELECTION_FILE, json.dumps(record, indent=1).encode())


_OF_DIFFERENCE = ("value", "low", "high", "task_p", "seed_p", "n", "is_paired")


def told(selection: Selection) -> list[str]:
    """What was chosen, a line a method, and what the study's file has to say for it."""
    words = f"{selection.suite}, {selection.study.title(selection.measure)}"
    verb = "would be chosen on these seeds" if frozen_in(selection.study) else "is chosen"
    return [*(f"{words}: {sentence_of(choice, verb)}" for choice in selection.choices), *_to_paste(selection)]


def sentence_of(choice: Choice, verb: str) -> str:
    """`of sft, sft_learning_rate_0.0001 is chosen: 93.0 % against 89.7 % of …`."""
    first, second = choice.ranked[:2]
    how_sure = ""
    if choice.ahead is not None:
        interval = f"95 % interval {points(choice.ahead.low)} to {points(choice.ahead.high)}"
        how_sure = f" ({points(choice.ahead.value)} points, {interval})"
    verdict = "" if choice.is_clear else "; chance may have chosen between these two"
    return (
        f"of {choice.method}, {first.cell} {verb}: {percent(first.rate.value)} against {percent(second.rate.value)} "
        f"of {second.cell}{how_sure}{verdict}"
    )


def _to_paste(selection: Selection) -> list[str]:
    """The arms that make the chosen runs of a sweep again, for `compare.arms` of the study."""
    study = selection.study
    arms = ((yaml.safe_load(study.config_text) or {}).get("compare") or {}).get("arms") or {}
    roles = description_of(study).get("roles") or {}
    made: dict[str, Any] = {}
    for choice in selection.choices:
        variant = study.sweep.get(choice.cell)
        if not variant or variant["arm"] not in arms:
            continue
        arm = arms[variant["arm"]]
        if (roles.get(choice.cell) or {}).get("dose") in ("paper", "both"):
            made |= {variant["arm"]: {"dose": "both"}, f"{choice.method}_chosen": None}
        else:
            options = json.loads(json.dumps(arm.get("options") or {}))
            for key, value in variant["values"].items():
                _put(options, key, value)
            made[f"{choice.method}_chosen"] = {"command": arm["command"], "dose": "chosen", "options": options}
    if not made:
        return []
    text = yaml.safe_dump({"compare": {"arms": made}}, sort_keys=False, default_flow_style=None, width=120)
    return ["To freeze what was chosen, for untouched seeds:", *text.rstrip().splitlines()]


def _put(options: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    if sections[:1] == ["init"]:
        return
    for section in sections:
        options = options.setdefault(section, {})
    options[last] = value
