"""The cells of a study: every arm × every combination of the sweep × every seed, and all that decides what each is.

    Study.of(config, folder)   →  Study       resolved once: what plans, makes, resumes or reports it reads it here
    study.cells                →  Cell, …     each seed's starts, then the arms that begin from them

An arm with an `env` of its own trains on that, and is measured on the suites that all are.
`compare.sweep` multiplies arms: with `{env.max_attempts: [1, 3]}`, the arm `rl` becomes `rl_max_attempts_1` and
`rl_max_attempts_3`. Keys under `init.` multiply what the arms start from. Which run that is, and which of its
iterations, is read in study/starts.py.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self, cast

from cluster.compare_options import INIT, ArmConfig, CompareConfig
from cluster.config import Config, load_words, overlaid, overrides_in, parse_config, suite_environments
from cluster.errors import ConfigError
from cluster.faults import hint
from cluster.record.run_directory import POLICY_FOLDER, RunDirectory
from study.selection import check_selection
from study.starts import KEY, in_order, keeping, start_of, steps_of, swept_starts, teacher_of
from verifier.config import SAID

TASKS_BETWEEN_SEEDS = 10_000_000
"""Seeds of a study draw their tasks from ranges of their own."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A cell whose policy another begins from, or learns from, and which of its iterations; None for its end."""

    cell: "Cell"
    step: int | None = None

    @property
    def name(self) -> str:
        """As the configuration names it: `init@20`."""
        return self.cell.name if self.step is None else f"{self.cell.name}@{self.step}"

    @property
    def policy(self) -> Path:
        """Where it is, once it was made."""
        if self.step == 0:
            return Path(self.cell.config.learner.model or "")
        return self.cell.policy if self.step is None else RunDirectory(self.cell.folder).export_of(self.step)

    @property
    def digest(self) -> str:
        """Of everything that decides what it is."""
        return self.cell.digest if self.step is None else f"{self.cell.digest}@{self.step}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study: `Cell(name="rl_max_attempts_3", arm="rl", command="rl", seed=0, start=init, values=…, …)`."""

    name: str
    """What it is called, whatever its seed."""
    arm: str
    """The arm that it is a variant of; `init` for what arms start from."""
    command: Literal["sft", "rl"]
    """Whether it imitates or plays."""
    seed: int
    origin: Origin | None
    """What it begins from; None for `learner.model`."""
    teacher: Origin | None = None
    """What else it learns from."""
    values: Mapping[str, Any]
    """What the sweep has set, by key."""
    config: Config
    """What it runs with: the study's options, the arm's changes, its seed, its budget, its start's policy."""
    folder: Path
    """Of its run, inside the study."""

    @property
    def is_init(self) -> bool:
        """Whether arms start from it."""
        return self.arm == INIT

    @property
    def policy(self) -> Path:
        """What it leaves for others to start from."""
        return self.folder / POLICY_FOLDER

    @property
    def start(self) -> Self | None:
        """The cell whose policy it begins from."""
        return None if self.origin is None else cast(Self, self.origin.cell)

    @property
    def needs(self) -> tuple["Cell", ...]:
        """The cells that have to be made before it."""
        return tuple(origin.cell for origin in (self.origin, self.teacher) if origin is not None)

    @property
    def planned_config(self) -> Config:
        """What can be planned before what it needs has been made: with the models that those begin from."""
        learner = self.config.learner
        if self.origin is not None:
            model = self.origin.cell.planned_config.learner.model
            learner = learner.model_copy(update={"model": model})
        if self.teacher is not None:
            model = self.teacher.cell.planned_config.learner.model
            told = learner.distillation.model_copy(update={"teacher": model})
            learner = learner.model_copy(update={"distillation": told})
        return self.config.model_copy(update={"learner": learner})

    @cached_property
    def digest(self) -> str:
        """Of everything that decides what the cell is; where it lies does not."""
        made = self.config.model_dump(mode="json", by_alias=True, exclude={"compare"})
        for place in ("folder", "cache_folder"):
            made["cluster"].pop(place)
        model = str(Path(self.config.learner.model or "").resolve())
        made["learner"]["model"] = model if self.origin is None else self.origin.digest
        if self.teacher is not None:
            made["learner"]["distillation"]["teacher"] = self.teacher.digest
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All cells, seed by seed, so that a study that was stopped early has whole seeds."""

    config: Config
    folder: Path
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, config: Config, folder: Path) -> Self:
        """Raises ConfigError where an arm's options are wrong; nothing is written."""
        study = config.compare
        if not study.arms:
            raise ConfigError(
                "compare.arms: there is nothing to compare; name at least one, as in {sft: {command: sft}}"
            )
        of_init = {key: values for key, values in study.sweep.items() if _is_of_init(key)}
        if of_init and study.init is None:
            raise ConfigError(
                f"compare.sweep.{next(iter(of_init))}: there is no compare.init to vary; name one, or sweep arms"
            )
        folder = folder.resolve()
        cells = tuple(cell for seed in study.seeds for cell in _cells_of_seed(config, folder, seed, of_init))
        check_selection(config, cells)
        return cls(config=config, folder=folder, cells=cells)


def _cells_of_seed(config: Config, folder: Path, seed: int, of_init: Mapping[str, Sequence[Any]]) -> Iterator[Cell]:
    study = config.compare
    of_arms = {key: values for key, values in study.sweep.items() if key not in of_init}
    swept_starts(study)
    # By name, and by what the sweep has set: an arm begins from the variant of its own values.
    made: dict[tuple[str, str], Cell] = {}
    if study.init is not None:
        for values in _combinations(of_init):
            made[INIT, str(values)] = cell = _cell(config, folder, seed, INIT, study.init, values)
            yield cell
    for of_start in _combinations(of_init):
        for (arm, options), of_arm in product(in_order(study), _combinations(of_arms)):
            values = {**of_start, **of_arm}
            start = start_of(of_arm.get(KEY, options.start), f"{_key(arm)}.{KEY}", study)
            needed = [
                each and Origin(made[each.name, str(of_start if each.name == INIT else values)], each.step)
                for each in (start, teacher_of(options, _key(arm), study))
            ]
            made[arm, str(values)] = cell = _cell(config, folder, seed, arm, options, values, *needed)
            yield cell


def _cell(
    config: Config,
    folder: Path,
    seed: int,
    arm: str,
    options: ArmConfig,
    values: Mapping[str, Any],
    origin: Origin | None = None,
    teacher: Origin | None = None,
) -> Cell:
    """`values` are what the sweep has set in all, its start's included."""
    is_init = arm == INIT
    varied = {key.removeprefix(f"{INIT}."): value for key, value in values.items() if _is_of_init(key) == is_init}
    varied.pop(KEY, None)
    name = _name(arm, varied if is_init else values)
    study, first, of_run = config.compare, seed * TASKS_BETWEEN_SEEDS, f"{name}_seed{seed}"
    changes: dict[str, Any] = {
        "learner": {"seed": seed},
        "cluster": {"name": of_run, "first_seed": first},
        "data": {"first_seed": first},
        # The ends of all cells are decoded alike: what sharper draws alone give is told from what was learned.
        "evaluation": {"final_temperatures": list(study.temperatures)},
    }
    if not is_init:
        changes["cluster"] |= _budget(study)
    if origin is not None:
        changes["cluster"]["evaluate_at_start"] = False  # it was measured when it was made
        changes["learner"]["model"] = str(origin.policy)
    layers = [changes, options.options, *_nested(varied)]
    if teacher is not None:
        layers.append({"learner": {"distillation": {"teacher": str(teacher.policy)}}})
    made = _overlaid(config, layers, f"{_key(arm)} ({name})")
    return Cell(
        name=name,
        arm=arm,
        command=options.command,
        seed=seed,
        origin=origin,
        teacher=teacher,
        values=values,
        config=keeping(name, made, steps_of(arm, study)),
        folder=folder / "cells" / of_run,
    )


def arm_alone(words: Sequence[str], arm: str, command: str) -> Config:
    """What one arm runs with by itself, from `learner.model` to the study's budget: files < arm < `key=value`."""
    config = load_words(words)
    study, changed = config.compare, dict(overrides_in(words))
    changed.pop("compare", None)
    arms = {**({INIT: study.init} if study.init else {}), **study.arms}
    if arm not in arms:
        raise ConfigError(f"--arm {arm}: there is no such arm; {hint(arm, list(arms), 'there are')}")
    if arms[arm].command != command:
        raise ConfigError(f"--arm {arm}: it is one of `{arms[arm].command}`, not of `{command}`")
    budget = {} if arm == INIT else {"cluster": _budget(study)}
    return _overlaid(config, [budget, arms[arm].options, changed], _key(arm))


def _budget(study: CompareConfig) -> dict[str, Any]:
    told = ("budget", "ledger", "evaluations", "until")
    return {name: getattr(study, name) for name in told}


def _overlaid(config: Config, layers: Sequence[Mapping[str, Any]], key: str) -> Config:
    """The configuration without its study, and with the layers; only what was given, so that a preset still counts."""
    merged: Mapping[str, Any] = config.model_dump(mode="json", by_alias=True, exclude={"compare"}, exclude_unset=True)
    if any(layer.keys() & {"env", "verifier"} for layer in layers):
        merged = overlaid(merged, _asked_as_in(config))
    for layer in layers:
        if (layer.get("env") or {}).get("name") not in (None, merged["env"]["name"]):
            # An environment of another name begins from its own defaults.
            merged = {**merged, "env": {}, "verifier": config.verifier.model_dump(include=SAID)}
        merged = overlaid(merged, layer)
    try:
        return parse_config(merged)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _asked_as_in(config: Config) -> dict[str, Any]:
    """Suites that ask what they ask in the study, whatever an arm trains on, so that all arms are measured alike."""
    suites = {
        name: {"env": env.model_dump(mode="json"), "verifier": verifier.model_dump(mode="json")}
        for name, (env, verifier) in suite_environments(config).items()
    }
    return {"evaluation": {"suites": suites}}


def _key(arm: str) -> str:
    return f"compare.{INIT}" if arm == INIT else f"compare.arms.{arm}"


def _is_of_init(key: str) -> bool:
    return key.startswith(f"{INIT}.")


def _combinations(sweep: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every choice of one value for each key; the only one of nothing is nothing."""
    return [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]


def _nested(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each value under its key, written section by section."""
    for key, value in values.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        yield nested


def _name(arm: str, values: Mapping[str, Any]) -> str:
    """The arm, and the last word of each key with its value."""
    words = [arm]
    for key, value in values.items():
        last = key.rpartition(".")[2]
        is_alone = sum(other.rpartition(".")[2] == last for other in values) == 1
        told = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        words.append(re.sub(r"[^\w.-]+", "-", f"{last if is_alone else key}_{told}"))
    return "_".join(words)
