"""By what a study chooses among its runs, and which of them there is to choose between.

    check_selection(config)   raises ConfigError unless `compare.select` names what may choose
    roles(cells, config)      →  each run's method, and what its learning rate stands for

Whoever chooses by a shifted suite has the answer in the question, and whoever chooses by the tasks that are reported
has nothing left to report. So the suite is of the validation split, under the rule and the look of training.

A method is what is left of an arm without its optimizer: arms that differ in nothing else are one method at several
doses, and so are all the runs that a sweep makes of an arm.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.compare_options import ArmConfig
from cluster.config import Config, overlaid, suite_environments, suite_shifts
from cluster.errors import ConfigError
from cluster.faults import Finding, hint
from study.starts import KEY

if TYPE_CHECKING:
    from study.cells import Cell


@dataclass(frozen=True, slots=True)
class Role:
    """What a run stands for: `Role(method="sft", dose="paper")`."""

    method: str
    """The first arm of those that differ from it in nothing but the optimizer."""
    dose: str | None
    """`chosen`, `paper`, `both`, or None where the study does not say."""


def suite_of(select: str) -> tuple[str, str]:
    """The suite and the measure of `SUITE/MEASURE`; an empty measure is the usual one.

    >>> suite_of("validation/checks/numbers_read"), suite_of("validation")
    (('validation', 'checks/numbers_read'), ('validation', ''))
    """
    suite, _, measure = select.partition("/")
    return suite, measure


def check_selection(config: Config, cells: Sequence["Cell"]) -> None:
    """Raise ConfigError where the suite may not choose, or does not ask all cells the same."""
    select, suites = config.compare.select, config.evaluation.suites
    if select is None:
        return
    suite, _ = suite_of(select)
    if suite not in suites:
        _refuse(select, f"no suite is called '{suite}'", hint(suite, list(suites), "the suites are"))
    asked, _ = suite_environments(config)[suite]
    shift = suite_shifts(config)[suite]
    remedy = (
        "choose by one under the rule and the look of training, as evaluation.suites.validation={split: validation}"
    )
    if shift != "none":
        what = {"rule": "of the rule", "look": "of the look", "other": "to another task"}[shift]
        _refuse(select, f"that suite is one of a shift {what}", remedy)
    if (split := suites[suite].split) != "validation":
        _refuse(select, f"its tasks are of the {split} split, which is not there to choose by", remedy)
    if len(suites) == 1:
        _refuse(select, "there is no other suite, and what has chosen is no result", "name one of the test split too")
    for cell in cells:
        found, _ = suite_environments(cell.config).get(suite, (None, None))
        if found != asked:
            _refuse(
                select,
                f"{cell.name} would not be asked what the others are",
                f"say in evaluation.suites.{suite}.env what the arms have different values of",
            )


def roles(cells: Sequence["Cell"], config: Config) -> dict[str, Role]:
    """By the names of the cells, those that arms start from left out."""
    arms = config.compare.arms
    methods: dict[str, str] = {}
    for arm, options in arms.items():
        methods.setdefault(_without_optimizer(options), arm)
    return {
        cell.name: Role(
            method=methods[_without_optimizer(arms[cell.arm])],
            dose=arms[cell.arm].dose if _is_as_the_arm_says(cell, config) else None,
        )
        for cell in cells
        if not cell.is_init
    }


def _refuse(select: str, rule: str, fix: str) -> None:
    raise ConfigError(str(Finding(key="compare.select", value=select, rule=rule, fix=fix)))


def _without_optimizer(arm: ArmConfig) -> str:
    learner = {key: value for key, value in (arm.options.get("learner") or {}).items() if key != "optimizer"}
    rest = {key: value for key, value in arm.options.items() if key != "learner"}
    return json.dumps([arm.command, arm.start, learner, rest], sort_keys=True)


def _is_as_the_arm_says(cell: "Cell", config: Config) -> bool:
    """Whether the sweep has given it the values that its arm has anyway: only then is it what the arm stands for."""
    study = config.model_dump(mode="json", by_alias=True)
    own = overlaid(study, config.compare.arms[cell.arm].options)
    made = cell.config.model_dump(mode="json", by_alias=True)
    keys = [key for key in cell.values if key != KEY and not key.startswith("init.")]
    return all(_at(made, key) == _at(own, key) for key in keys)


def _at(options: Mapping[str, Any], key: str) -> Any:
    found: Any = options
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
