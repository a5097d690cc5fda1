"""Two measures beside each other: figures of one study, or of several.

draw_pairs(tasks)  →  {"recognition": (Figure, "what it shows"), …}      those that the records allow

    recognition         what is seen against what is solved, compute as colour; only where there are pictures to see
    steps_and_routes    the answers at single steps beside the whole routes that they make up
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from envs.protocol import Shift
from study.report.curves import curves_of, mean_curve
from study.report.drawing import BEGINNING, INK, add_legend, draw_curves, grid, in_lines, label_compute, marker_of
from study.report.records import Study
from study.report.tasks import ROWS, WORDS, Tasks

_STEPS, _ROUTES = "per_step_accuracy", "success"


def draw_pairs(tasks: Tasks) -> dict[str, tuple[Figure, str]]:
    """Each figure that the records allow, with its caption."""
    drawn = {}
    if seen := [study for study in tasks.studies if _sight(study, study.trained_suite)]:
        drawn["recognition"] = _recognition(tasks, seen)
    if walked := [study for study in tasks.studies if {_STEPS, _ROUTES} <= _names(study, study.trained_suite)]:
        drawn["steps_and_routes"] = _steps_and_routes(tasks, walked)
    return drawn


def _names(study: Study, suite: str) -> set[str]:
    return {measure.name for measure in study.measures(suite).all}


def _sight(study: Study, suite: str) -> str | None:
    """The measure of what is seen; None where nothing is, or where seeing is the whole task."""
    measures = study.measures(suite)
    seen = measures.of("sight")
    return seen[0].name if seen and measures.headline.part != "sight" else None


def _recognition(tasks: Tasks, studies: Sequence[Study]) -> tuple[Figure, str]:
    shifts: list[Shift] = [shift for shift in WORDS if any(tasks.suite(study, shift) for study in studies)]
    figure, axes = grid(len(studies), len(shifts), 1.5)
    for row, study in zip(axes, studies, strict=True):
        for axis, shift in zip(row, shifts, strict=True):
            suite = tasks.suite(study, shift)
            if suite is None or _sight(study, suite) is None:
                axis.set_visible(False)
                continue
            for arm in study.arms:
                _draw_path(axis, tasks, study, arm, suite)
        title = study.measures(study.trained_suite).of("sight")[0].title
        row[0].set_ylabel(in_lines(title if tasks.is_one else f"{tasks.label(study)}: {title}", 20) + " (%)")
    for axis, shift in zip(axes[0], shifts, strict=True):
        axis.set_title(WORDS[shift], fontsize=7)
    low = min(axis.get_xlim()[0] for row in axes for axis in row if axis.get_visible())
    for axis in axes[0]:
        # One scale for all, so that what a shift takes away shows.
        axis.set_xlim(max(low, -4), 104)
    titles = {study.headline(study.trained_suite).title for study in studies}
    figure.supxlabel(f"{titles.pop() if len(titles) == 1 else 'measure of each task'} (%)", fontsize=8)
    scale = ScalarMappable(Normalize(0, 100), _colours())
    bar = figure.colorbar(scale, ax=[axis for row in axes for axis in row], location="right", aspect=30, pad=0.02)
    bar.set_label("share of compute (%)", fontsize=7)
    handles = [
        Line2D([], [], linestyle="none", marker=marker_of(arm, tasks), color=BEGINNING, label=arm) for arm in tasks.arms
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure, (
        "What is seen against what is solved: each point is an evaluation, its colour the compute that was spent by "
        "then. Large points are means of the seeds, joined in the order of training."
    )


def _draw_path(axes: Axes, tasks: Tasks, study: Study, arm: str, suite: str) -> None:
    """An arm's way: every seed's evaluations small, their means large and joined."""
    sight = _sight(study, suite)
    assert sight is not None  # since the suite is drawn
    solved = curves_of(
        study, arm, suite, lambda point: point.rate(study.headline(suite).name) if point.rate(sight) else None
    )
    seen = curves_of(
        study, arm, suite, lambda point: point.rate(sight) if point.rate(study.headline(suite).name) else None
    )
    marker = marker_of(arm, tasks)
    most = max((x for curve in solved for x, _ in curve), default=0.0) or 1.0
    look: Any = {"cmap": _colours(), "vmin": 0, "vmax": 100, "marker": marker}
    if len(solved) > 1:
        for across, up in zip(solved, seen, strict=True):
            at = [100 * x / most for x, _ in across]
            axes.scatter(*_places(across, up), c=at, s=4, linewidths=0, alpha=0.5, **look)
    across, up = mean_curve(solved), mean_curve(seen)
    axes.plot(*_places(across, up), color=INK, linewidth=0.5, alpha=0.5, zorder=1)
    at = [100 * x / most for x, _ in across]
    axes.scatter(*_places(across, up), c=at, s=14, linewidths=0.3, edgecolors=INK, zorder=3, **look)


def _places(across: Any, up: Any) -> tuple[list[float], list[float]]:
    return [100 * rate.value for _, rate in across], [100 * rate.value for _, rate in up]


def _colours() -> Colormap:
    """Of compute; without the yellow that vanishes on paper, and so few that their scale is drawn and no picture."""
    return ListedColormap(mpl.colormaps["viridis"]([index / 39 * 0.88 for index in range(40)]))


def _steps_and_routes(tasks: Tasks, studies: Sequence[Study]) -> tuple[Figure, str]:
    shifts: list[Shift] = [shift for shift in WORDS if tasks.is_one or shift != "look"]
    shifts = [shift for shift in shifts if any(tasks.suite(study, shift) for study in studies)]
    columns = [(study, measure) for study in studies for measure in (_STEPS, _ROUTES)]
    figure, axes = grid(len(shifts), len(columns), 1.25)
    for row, shift in zip(axes, shifts, strict=True):
        for axis, (study, measure) in zip(row, columns, strict=True):
            if (suite := tasks.suite(study, shift)) is not None:
                draw_curves(axis, study, suite, measure, inks=tasks, seeds=False)
        row[0].set_ylabel(ROWS[shift])
    for axis, (study, measure) in zip(axes[0], columns, strict=True):
        what = in_lines(study.title(measure), 16)
        axis.set_title(what if tasks.is_one else tasks.title(study, what), fontsize=7 if tasks.is_one else 6.5)
    label_compute(figure, axes, [study for study, _ in columns])
    add_legend(figure, *axes[0])
    return figure, (
        "Steps and routes: the same answers counted at each place, and as whole routes, of which every place must be "
        "right. One wrong step of twelve leaves 92 % of the steps and no route."
    )
