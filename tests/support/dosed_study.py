"""Studies of two methods at several learning rates, made by hand.

`make_dosed(folder, CELLS)` plants what was seen at nano scale: `sft` forgets the shifted rule at the high rate and
gains under it at the low one, which validation prefers; `rl` keeps it at either.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.study import EVALUATIONS, SUITES, apart, between, write_cell

START = {"in_distribution": 0.35, "rule_shift": 0.4}
GREEDY_START = {"in_distribution": 0.5, "rule_shift": 0.45}
ARMS = {
    "sft": {"command": "sft", "options": {"data": {"count": 9}, "learner": {"optimizer": {"learning_rate": 0.0015}}}},
    "rl": {"command": "rl", "options": {}},
}


@dataclass(frozen=True)
class Planted:
    """How a run ends."""

    method: str
    learning_rate: float
    trained: float
    shifted: float
    validation: float
    moved: float
    """How far from its start."""
    dose: str | None = None


CELLS = {
    "sft_learning_rate_0.0001": Planted("sft", 1e-4, 0.8, 0.75, 0.85, 0.02),
    "sft_learning_rate_0.0015": Planted("sft", 1.5e-3, 0.9, 0.0, 0.6, 0.5, "paper"),
    "rl_learning_rate_0.0001": Planted("rl", 1e-4, 0.45, 0.4, 0.45, 0.01),
    "rl_learning_rate_0.0003": Planted("rl", 3e-4, 0.6, 0.4, 0.6, 0.03, "paper"),
}
"""A grid, of which validation chooses sft at 1e-4 and rl at 3e-4."""
FROZEN = {
    "sft": Planted("sft", 1.5e-3, 0.9, 0.0, 0.6, 0.5, "paper"),
    "rl": Planted("rl", 3e-4, 0.6, 0.4, 0.6, 0.03, "both"),
    "sft_chosen": Planted("sft", 1e-4, 0.8, 0.75, 0.85, 0.02, "chosen"),
}
"""The study that follows, on other seeds."""


def make_dosed(
    folder: Path,
    cells: Mapping[str, Planted] = CELLS,
    *,
    seeds: Sequence[int] = (0, 1),
    select: str | None = "validation",
) -> Path:
    """A finished study."""
    folder.mkdir(parents=True)
    swept = {
        name: {"arm": planted.method, "values": {"learner.optimizer.learning_rate": planted.learning_rate}}
        for name, planted in cells.items()
        if "learning_rate" in name
    }
    description: dict[str, Any] = {
        "name": "dosed",
        "seeds": list(seeds),
        "init": "init",
        "arms": list(cells),
        "sweep": swept,
        "roles": {name: {"method": planted.method, "dose": planted.dose} for name, planted in cells.items()},
        "select": select,
        "ledger": "compute/flops",
        "budget": 4e12,
        "suites": {**SUITES, "validation": "training rule, validation"},
        "config": json.dumps({"compare": {"arms": ARMS}}),
    }
    (folder / "study.json").write_text(json.dumps(description))
    for seed in seeds:
        init = folder / "cells" / f"init_seed{seed}"
        write_cell(init, "init", seed, {0: apart(START, seed)})
        write_cell(init, "init", seed, {0: apart(GREEDY_START, seed)}, temperature=0.0)
        for name, planted in cells.items():
            _write(folder / "cells" / f"{name}_seed{seed}", name, seed, planted)
    return folder


def _write(cell: Path, name: str, seed: int, planted: Planted) -> None:
    ends = {"in_distribution": planted.trained, "rule_shift": planted.shifted}
    rates = {
        iteration: apart({suite: between(START[suite], end, iteration) for suite, end in ends.items()}, seed)
        for iteration in EVALUATIONS
    }
    moved = {iteration: {"kl_to_start": between(0.0, planted.moved, iteration)} for iteration in EVALUATIONS}
    write_cell(cell, name, seed, rates, learning_rate=planted.learning_rate, more=moved)
    last = EVALUATIONS[-1]
    write_cell(cell, name, seed, {last: apart(ends, seed)}, learning_rate=planted.learning_rate, temperature=0.0)
    validation = {last: apart({"validation": planted.validation}, seed)}
    write_cell(cell, name, seed, validation, learning_rate=planted.learning_rate)
