"""`ruleshift bench WHAT`: measures, prints a table for people and then one line of JSON for programs."""

import json
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.table import Table

Row = tuple[str, float, str]
"""What was measured, the figure, its unit."""

BENCHES = {
    "verifier": "study.bench.ground:verifier_rows",
    "envs": "study.bench.ground:env_rows",
    "rollout": "study.bench.rollout:rows",
    "sync": "study.bench.sync:rows",
    "learner": "study.bench.learner:rows",
    "shape": "study.bench.learner_shape:rows",
    "loop": "study.bench.loop:rows",
    "rounding": "study.bench.rounding:rows",
    "scale": "study.bench.scale:rows",
}
"""What can be measured → who measures it; nothing is imported before it is asked for."""


def run(what: str, **options: Any) -> None:
    """Measure, print the table, then the line."""
    module, function = BENCHES[what].split(":")
    rows: list[Row] = getattr(import_module(module), function)(**options)
    table = Table("what", "figure", "unit")
    for name, figure, unit in rows:
        table.add_row(name, f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}", unit)
    Console().print(table)
    figures = {f"{name} ({unit})": float(f"{figure:.6g}") for name, figure, unit in rows}
    print(json.dumps({"bench": what, **figures}))
