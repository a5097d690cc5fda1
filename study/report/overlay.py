"""One figure of several runs: any recorded number against any other.

    overlay([Path("runs/a"), Path("runs/b")], "compute/flops", "rule_shift/success")  →  [Curve, Curve]

A name that begins with a suite is a measure of the evaluations, at one temperature; any other is a column of the
iterations' metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.errors import RunError
from study.report.drawing import MARKERS, PALETTE, add_legend, axis_label, panels, styled
from study.report.records import Cell, Rate, Row, number, rate_of, read_cells
from study.report.smoothing import savitzky_golay

_LINES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's points, in order of their x."""

    label: str
    points: Sequence[tuple[float, Rate]]


def overlay(folders: Sequence[Path], x: str, y: str, temperature: float | None = None) -> list[Curve]:
    """A curve for each run, those of a study included; RunError says what there is where a name is unknown."""
    curves = []
    for folder in folders:
        for cell in read_cells(folder):
            rows, column = _source(cell, y, temperature)
            found = [
                (place, rate)
                for row in rows
                if (rate := rate_of(row, column)) and (place := number(row.get(x))) is not None
            ]
            label = folder.name if len(folders) > 1 or cell.folder == folder else ""
            inner = cell.folder.name if cell.folder != folder else ""
            curves.append(Curve(" ".join(filter(None, (label, inner))), sorted(found, key=lambda pair: pair[0])))
    if not any(curve.points for curve in curves):
        raise RunError(f"--x {x} --y {y}: no run has rows with both; {_known(folders)}")
    return [curve for curve in curves if curve.points]


def draw_overlay(curves: Sequence[Curve], x: str, y: str, window: int | None = None) -> Figure:
    """The figure; raw points always show, and the line goes through them or, with a window, is smoothed."""
    rates = all(rate.low is not None and 0 <= rate.value <= 1 for curve in curves for _, rate in curve.points)
    scale = 100 if rates else 1
    with styled():
        figure, (axes,) = panels(1, 2.0 + 0.13 * len(curves))
        for index, curve in enumerate(curves):
            _draw(axes, curve, index, scale, window)
        axes.set_xlabel(axis_label(x))
        axes.set_ylabel(f"{axis_label(y)} (%)" if rates else axis_label(y))
        add_legend(figure, axes)
    return figure


def _draw(axes: Axes, curve: Curve, index: int, scale: float, window: int | None) -> None:
    """Curves differ in colour and marker, and when colours run out in the line too."""
    colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
    style = _LINES[index // len(PALETTE) % len(_LINES)]
    places, values = [place for place, _ in curve.points], [scale * rate.value for _, rate in curve.points]
    line = values if window is None else list(savitzky_golay(values, window=window, x=places))
    axes.plot(places, line, color=colour, linestyle=style)
    axes.plot(places, values, linestyle="none", marker=marker, color=colour, alpha=0.5, markeredgewidth=0)
    axes.plot([], [], color=colour, linestyle=style, marker=marker, label=curve.label)
    for place, rate in curve.points:
        if rate.low is not None and rate.high is not None:
            ends = [scale * rate.low, scale * rate.high]
            axes.plot([place, place], ends, color=colour, alpha=0.45, linewidth=0.8)


def _source(cell: Cell, y: str, temperature: float | None) -> tuple[Sequence[Row], str]:
    suite, _, measure = y.partition("/")
    rows = [row for row in cell.rows if row["suite"] == suite]
    if not rows:
        return cell.metrics, y
    told = sorted({float(row["temperature"]) for row in rows})
    wanted = temperature if temperature is not None else 1.0 if 1.0 in told else told[-1]
    return [row for row in rows if float(row["temperature"]) == wanted], measure


def _known(folders: Sequence[Path]) -> str:
    cells = read_cells(folders[0])
    measured = sorted(
        {f"{row['suite']}/{name}" for cell in cells for row in cell.rows for name in row if "/" not in name}
    )
    recorded = sorted({name for cell in cells for row in cell.metrics[-1:] for name in row})
    measured = [name for name in measured if name.endswith(("success", "rate", "fixation"))]
    return f"{folders[0]} has {', '.join([*measured, *recorded][:40]) or 'no rows at all'}"
