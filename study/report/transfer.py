"""What training on one environment does to others: a matrix of what was trained on and what was tested on.

transfer_matrix(findings)  →  {"transfer": (Figure, caption)}      nothing where all arms were trained on the same
"""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from study.report.drawing import PALETTE, panels
from study.report.findings import Findings
from study.report.rates import Rate, measure_words
from study.report.records import Study

MEASURE = "success"
ROW_INCHES = 0.46
ROW_LETTERS, COLUMNS_LETTERS = 18, 38
"""How many fit beside a row, and above all columns together."""


def transfer_matrix(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Rows: what was trained on; columns: what was tested on; in each cell the rate at the end, and its interval."""
    study = findings.study
    trained = {arm: trained_on(study, arm) for arm in study.arms}
    if len(set(trained.values())) < 2:
        return {}
    rows, columns = (study.beginning, *study.arms), tuple(study.suites)
    figure, (axes,) = panels(1, ROW_INCHES * len(rows) + 0.5)
    for row, arm in enumerate(rows):
        for column, suite in enumerate(columns):
            if rate := findings.rate(arm, suite, MEASURE):
                _draw_cell(axes, column, row, rate)
    told = [f"{arm}\n{fill(f'on {trained[arm]}', ROW_LETTERS)}" if arm in trained else arm for arm in rows]
    axes.set_yticks(range(len(rows)), told)
    # As narrow as the column; a word that is longer stands alone.
    width = COLUMNS_LETTERS // len(columns)
    headings = [fill(study.suites[suite], width, break_long_words=False) for suite in columns]
    axes.set_xticks(range(len(columns)), headings)
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel(f"tested on: {measure_words(MEASURE)} (%)")
    axes.set_ylabel("trained")
    axes.tick_params(length=0, labelsize=6.5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    caption = (
        f"{measure_words(MEASURE).capitalize()} at the end of training, with its 95 % interval: what was trained on "
        f"beside each row, what was tested on above each column; the first row is the policy before training."
    )
    return {"transfer": (figure, caption)}


def trained_on(study: Study, arm: str) -> str:
    """The environment that an arm was trained on, in words; of a mixture, all of them."""
    cell = next(cell for (name, _), cell in study.cells.items() if name == arm)
    env = cell.config.get("env") or {}
    parts = env.get("parts") or {}
    return " + ".join(dict.fromkeys(_words(part.get("env") or {}) for part in parts.values())) or _words(env)


def _words(env: Mapping[str, Any]) -> str:
    name = str(env.get("name", "")).replace("_", " ")
    return f"{name}, pictures" if env.get("modality") == "pictures" else name


def _draw_cell(axes: Axes, column: int, row: int, rate: Rate) -> None:
    """Darker for more, never so dark that ink could not be read on it."""
    alpha = 0.08 + 0.5 * min(max(rate.value, 0.0), 1.0)
    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=PALETTE[0], alpha=alpha, linewidth=0))
    axes.text(column, row - 0.13, f"{100 * rate.value:.1f}", ha="center", va="center", fontsize=8)
    if rate.low is not None and rate.high is not None:
        told = f"{100 * rate.low:.0f}–{100 * rate.high:.0f}"
        axes.text(column, row + 0.24, told, ha="center", va="center", fontsize=6)
