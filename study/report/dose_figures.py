"""The figures of a study's doses.

draw_doses(doses)  →  {"dose": (Figure, "what it shows"), "forgetting": …}      those that the records allow
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.report.dose import Dosed, Doses
from study.report.drawing import BEGINNING, INK, MARKERS, PALETTE, add_legend, panels, styled
from study.report.rates import Rate, number
from study.report.records import Point

MOVED = "kl_to_start"


def draw_doses(doses: Doses) -> dict[str, tuple[Figure, str]]:
    """Each figure that the records allow, with its caption."""
    if doses.suite is None:
        return {}
    drawn = {}
    with styled():
        if len(doses.cells) > len(doses.methods):
            drawn["dose"] = _plane(doses, doses.suite)
        if any(_path(doses, dosed, doses.study.trained_suite) for dosed in doses.cells):
            drawn["forgetting"] = _forgetting(doses, doses.suite)
    return drawn


def _plane(doses: Doses, shifted: str) -> tuple[Figure, str]:
    """Every run at the end: the rule of training to the right, the shifted one upwards."""
    study, (figure, (axes,)) = doses.study, panels(1, 2.8)
    if start := _place(doses, study.beginning, shifted):
        x, y = (100 * rate.value for rate in start)
        axes.axvline(x, color=BEGINNING, linewidth=0.9, linestyle=":")
        axes.axhline(y, color=BEGINNING, linewidth=0.9, linestyle=":")
        axes.plot(x, y, "X", color=BEGINNING, markersize=7, linestyle="none", label=study.beginning, zorder=4)
        _cross(axes, start, BEGINNING)
    for index, method in enumerate(doses.methods):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        found = [(dosed, place) for dosed in doses.of(method) if (place := _place(doses, dosed.cell, shifted))]
        line = [(100 * x.value, 100 * y.value) for _, (x, y) in found]
        axes.plot(*zip(*line, strict=True) if line else ([], []), color=colour, alpha=0.6, linewidth=1)
        for dosed, place in found:
            x, y = (100 * rate.value for rate in place)
            axes.plot(x, y, marker, color=colour, linestyle="none")
            _cross(axes, place, colour)
            axes.annotate(dosed.told, (x, y), (6, 5), textcoords="offset points", fontsize=7, color=colour)
            _mark(axes, dosed, x, y)
        axes.plot([], [], color=colour, marker=marker, label=method)
    _explain_marks(axes, doses.cells)
    words = doses.study.title(doses.measure)
    axes.set_xlabel(f"{study.suites[study.trained_suite]}: {words} (%)")
    axes.set_ylabel(f"{study.suites[shifted]}: {words} (%)")
    axes.margins(0.12)
    add_legend(figure, axes)
    return figure, (
        "The end of every run, by its learning rate, at equal compute; the mean of the seeds, with 95 % intervals. To "
        "the right of the start the rule of training was learned, below it the shifted one was forgotten. `chosen` is "
        "the learning rate that validation under the rule of training prefers."
    )


def _forgetting(doses: Doses, shifted: str) -> tuple[Figure, str]:
    """How far success has fallen, against how far the policy has moved: on answers under either rule."""
    study = doses.study
    suites = [
        suite for suite in (study.trained_suite, shifted) if any(_path(doses, dosed, suite) for dosed in doses.cells)
    ]
    figure, axes = panels(len(suites), 2.0, share_x=False)
    for axis, suite in zip(axes, suites, strict=True):
        axis.axhline(0, color=BEGINNING, linewidth=0.7, linestyle=":")
        axis.plot(0, 0, "X", color=BEGINNING, markersize=6, linestyle="none", label=study.beginning, clip_on=False)
        for dosed in doses.cells:
            index = doses.methods.index(dosed.method)
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            paths = _path(doses, dosed, suite)
            for path in paths:
                axis.plot(
                    *zip(*path, strict=True), color=colour, marker=marker, alpha=0.6, linewidth=0.8, markersize=2.5
                )
                _mark(axis, dosed, *path[-1])
            if paths:
                axis.annotate(dosed.told, paths[0][-1], (5, 4), textcoords="offset points", fontsize=7, color=colour)
        for index, method in enumerate(doses.methods):
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            axis.plot([], [], color=colour, marker=marker, label=method)
        _explain_marks(axis, doses.cells)
        axis.set_title(f"answers: {study.suites[suite]}", loc="left", fontsize=8)
        axis.set_ylabel(f"{study.suites[shifted]}:\nchange (points)")
        axis.margins(0.1)
        # Its root is a distance, so that gentle runs are told apart too.
        axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axis.set_xlim(left=0)
        axis.xaxis.set_major_locator(MaxNLocator(3))
    axes[-1].set_xlabel("divergence from the start (nats a token)")
    add_legend(figure, axes[0])
    return figure, (
        f"Forgetting against distance ({study.suites[shifted]}): the change of {study.title(doses.measure)} "
        "since the start, against the Kullback–Leibler divergence from the start on what the policy draws itself. A "
        "line for each run and seed, a point for each evaluation."
    )


def _cross(axes: Axes, place: tuple[Rate, Rate], colour: str) -> None:
    """Both intervals."""
    for rate, other, lies in ((place[0], place[1], True), (place[1], place[0], False)):
        if rate.low is not None and rate.high is not None:
            ends, across = [100 * rate.low, 100 * rate.high], [100 * other.value] * 2
            axes.plot(*((ends, across) if lies else (across, ends)), color=colour, alpha=0.45, linewidth=0.8)


def _place(doses: Doses, name: str, shifted: str) -> tuple[Rate, Rate] | None:
    trained = doses.findings.rate(name, doses.study.trained_suite, doses.measure)
    other = doses.findings.rate(name, shifted, doses.measure)
    return (trained, other) if trained and other else None


def _path(doses: Doses, dosed: Dosed, suite: str) -> list[list[tuple[float, float]]]:
    """For each seed, distance and change at each evaluation, from the start on; nothing where no distance is known."""
    study, paths = doses.study, []
    for seed in study.seeds:
        start = study.first(seed, doses.suite or "")
        before = start.rate(doses.measure) if start else None
        moved = {_when(point): number(point.row.get(MOVED)) for point in study.series(dosed.cell, seed, suite)}
        path = [(0.0, 0.0)]
        for point in study.series(dosed.cell, seed, doses.suite or ""):
            distance, rate = moved.get(_when(point)), point.rate(doses.measure)
            # The start's own row tells of what it began from, which is another model.
            if point.cell.arm == dosed.cell and distance is not None and rate and before:
                path.append((max(distance, 0.0), 100 * (rate.value - before.value)))
        if len(path) > 1:
            paths.append(path)
    return paths


def _when(point: Point) -> tuple[str, int]:
    return point.cell.arm, point.row["iteration"]


def _mark(axes: Axes, dosed: Dosed, x: float, y: float) -> None:
    if dosed.is_chosen:
        axes.plot(x, y, "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)
    if dosed.is_paper:
        axes.plot(x, y, "s", markersize=13, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)


def _explain_marks(axes: Axes, cells: Sequence[Dosed]) -> None:
    marks = [("o", "chosen", any(each.is_chosen for each in cells))]
    marks.append(("s", "paper's dose", any(each.is_paper for each in cells)))
    for marker, label, is_there in marks:
        if is_there:
            axes.plot([], [], marker, linestyle="none", markerfacecolor="none", markeredgecolor=INK, label=label)
