"""The cells of a study: every arm × every combination of the sweep × every seed, and what each of them runs with.

    cells_of(study)                    →  Cell, Cell, …      each seed's starts, then the arms that begin from them
    cell_config(config, cell, start)   →  Config             of one run

`compare.sweep` multiplies arms: with `{env.max_attempts: [1, 3]}`, the arm `rl` becomes `rl_max_attempts_1` and
`rl_max_attempts_3`. Keys under `init.` multiply what the arms start from.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from cluster.config import Config, overlaid, parse_config
from cluster.errors import ConfigError
from cluster.options import ArmConfig, CompareConfig

INIT = "init"
TASKS_BETWEEN_SEEDS = 10_000_000
"""Seeds of a study draw their tasks from ranges of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a study: `Cell(name="rl_max_attempts_3", arm="rl", options=…, seed=0, start="init", values=…)`."""

    name: str
    """What it is called, whatever its seed."""
    arm: str
    """The arm that it is a variant of; `init` for what arms start from."""
    options: ArmConfig
    """The arm's, changed by the sweep."""
    seed: int
    start: str | None
    """The name of the cell whose policy it begins from; None for `learner.model`."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the sweep has set, by key."""

    @property
    def folder_name(self) -> str:
        """Of its run, inside the study."""
        return f"{self.name}_seed{self.seed}"

    @property
    def is_init(self) -> bool:
        """Whether arms start from it."""
        return self.arm == INIT


def cells_of(study: CompareConfig) -> list[Cell]:
    """All cells, seed by seed, so that a study that was stopped early has whole seeds."""
    of_init = {key: values for key, values in study.sweep.items() if _is_of_init(key)}
    of_arms = {key: values for key, values in study.sweep.items() if not _is_of_init(key)}
    if of_init and study.init is None:
        raise ConfigError(
            f"compare.sweep.{next(iter(of_init))}: there is no compare.init to vary; name one, or sweep arms"
        )
    return [cell for seed in study.seeds for cell in _cells_of_seed(study, seed, of_init, of_arms)]


def _cells_of_seed(
    study: CompareConfig, seed: int, of_init: Mapping[str, Sequence[Any]], of_arms: Mapping[str, Sequence[Any]]
) -> Iterator[Cell]:
    starts: list[tuple[str | None, Mapping[str, Any]]] = [(None, {})]
    if study.init is not None:
        starts = []
        for values in _combinations(of_init):
            inner = {key.removeprefix(f"{INIT}."): value for key, value in values.items()}
            name = _name(INIT, inner)
            starts.append((name, values))
            yield Cell(name=name, arm=INIT, options=_varied(study.init, inner), seed=seed, start=None, values=values)
    for (start, of_start), (arm, options), values in product(starts, study.arms.items(), _combinations(of_arms)):
        prefixed = {f"{INIT}.{key.removeprefix(f'{INIT}.')}": value for key, value in of_start.items()}
        yield Cell(
            name=_name(arm, {**prefixed, **values}),
            arm=arm,
            options=_varied(options, values),
            seed=seed,
            start=start,
            values={**of_start, **values},
        )


def cell_config(config: Config, cell: Cell, start: Path | None) -> Config:
    """What a cell runs with: the study's configuration, the arm's changes, its seed, its budget, its start's policy."""
    study, first = config.compare, cell.seed * TASKS_BETWEEN_SEEDS
    options: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude={"compare"})
    changes: dict[str, Any] = {
        "learner": {"seed": cell.seed},
        "cluster": {"name": cell.folder_name, "first_seed": first},
        "data": {"first_seed": first},
        # The ends of all cells are decoded alike: what sharper draws alone give is told from what was learned.
        "evaluation": {"final_temperatures": list(study.temperatures)},
    }
    if not cell.is_init:
        changes["cluster"] |= {"budget": study.budget, "ledger": study.ledger, "evaluations": study.evaluations}
        if cell.start is not None:
            # The start was measured when it was made.
            changes["cluster"]["evaluate_at_start"] = False
        if start is not None:
            changes["learner"]["model"] = str(start)
    options = overlaid(overlaid(options, changes), cell.options.options)
    try:
        return parse_config(options)
    except ConfigError as error:
        raise ConfigError(f"compare.{INIT if cell.is_init else f'arms.{cell.arm}'} ({cell.name}): {error}") from None


def _is_of_init(key: str) -> bool:
    return key.startswith(f"{INIT}.")


def _combinations(sweep: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every choice of one value for each key; the only one of nothing is nothing."""
    return [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]


def _varied(arm: ArmConfig, values: Mapping[str, Any]) -> ArmConfig:
    options: Mapping[str, Any] = arm.options
    for key, value in values.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        options = overlaid(options, nested)
    return arm.model_copy(update={"options": dict(options)})


def _name(arm: str, values: Mapping[str, Any]) -> str:
    """The arm, and the last word of each key with its value."""
    words = [arm]
    for key, value in values.items():
        last = key.rpartition(".")[2]
        is_alone = sum(other.rpartition(".")[2] == last for other in values) == 1
        told = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        words.append(re.sub(r"[^\w.-]+", "-", f"{last if is_alone else key}_{told}"))
    return "_".join(words)
