"""How the figures of a report are drawn: one column wide, in colours that colour-blind readers tell apart.

styled(), panels(count)                   where every figure begins
draw_curves, draw_points, add_legend      what most of them consist of
save(figure, stem)                        stem.png and stem.svg
as_inline_svg(figure, "success")          SVG for a page, whose ink is the page's ink
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.report.findings import measure_words
from study.report.records import Point, Rate, Study

WIDTH = 3.4
"""Inches: a column of a paper."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without those that vanish on paper or on a dark screen."""
BEGINNING = "#808080"
MARKERS = "os^Dv*"
INK = "#010203"
"""Stands for the colour of a page's text."""
_UNITS = {
    "compute/flops": "training compute (FLOPs)",
    "compute/paper_flops": "training compute, paper's ledger (FLOPs)",
    "compute/device_seconds": "training time (device-seconds)",
    "compute/trained_tokens": "tokens trained on",
    "compute/sampled_tokens": "tokens drawn",
    "iteration": "iteration",
}
_STYLE: Any = {
    "font.size": 8,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ruleshift",
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def styled() -> AbstractContextManager[None]:
    """Every figure is drawn in this context."""
    return mpl.rc_context(_STYLE)


def axis_label(name: str) -> str:
    """What stands beside an axis, with its unit: `training compute (FLOPs)` for `compute/flops`."""
    return _UNITS.get(name, measure_words(name))


def colour_of(arm: str, study: Study) -> str:
    """An arm's colour, the same in every figure."""
    return BEGINNING if arm not in study.arms else PALETTE[study.arms.index(arm) % len(PALETTE)]


def panels(count: int, height: float = 1.9, *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Axes one below the other, a column wide."""
    with styled():
        figure = Figure(figsize=(WIDTH, height * count + 0.3), layout="constrained")
        axes = figure.subplots(count, 1, sharex=share_x, squeeze=False)[:, 0]
    return figure, list(axes)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG on white; which files these are."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")]
    with styled():
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, dpi=200, facecolor="white", metadata=metadata)
    return files


def as_inline_svg(figure: Figure, name: str) -> str:
    """The figure for the inside of a page: no background, names of its own, ink in the colour of the text."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace(INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


def add_legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it covers no point."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        inches = 0.065 * max(map(len, labels)) + 0.45
        columns = max(1, min(len(labels), int(WIDTH / inches)))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def draw_curves(axes: Axes, study: Study, suite: str, measure: str) -> None:
    """A measure against compute: every point with its interval, the mean of the seeds and the band between them."""
    for arm in study.arms:
        colour, marker = colour_of(arm, study), MARKERS[study.arms.index(arm) % len(MARKERS)]
        curves = [_curve(study.series(arm, seed, suite), study.ledger, measure) for seed in study.seeds]
        curves = [curve for curve in curves if curve]
        if not curves:
            continue
        for curve in curves:
            draw_points(axes, curve, colour, marker)
        grid, values = _on_one_grid(curves)
        axes.plot(grid, values.mean(axis=0), color=colour, label=arm)
        if len(curves) > 1:
            axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    axes.set_ylim(-3, 103)


def draw_points(axes: Axes, curve: Sequence[tuple[float, Rate]], colour: str, marker: str, label: str = "") -> None:
    """Points in percent, each with its interval where it has one."""
    for x, rate in curve:
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [100 * rate.low, 100 * rate.high], color=colour, alpha=0.45, linewidth=0.8)
    axes.plot(
        [x for x, _ in curve],
        [100 * rate.value for _, rate in curve],
        linestyle="none",
        marker=marker,
        color=colour,
        alpha=0.75,
        markeredgewidth=0,
        label=label,
    )


def _curve(points: Sequence[Point], ledger: str, measure: str) -> list[tuple[float, Rate]]:
    found = [(point.at(ledger), rate) for point in points if (rate := point.rate(measure))]
    return sorted(found, key=lambda pair: pair[0])


def _on_one_grid(curves: Sequence[Sequence[tuple[float, Rate]]]) -> tuple[np.ndarray, np.ndarray]:
    """The seeds' curves in percent where all of them have been; straight lines between their points."""
    start, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    places = sorted({x for curve in curves for x, _ in curve if start <= x <= end} | {start})
    values = [np.interp(places, [x for x, _ in curve], [100 * rate.value for _, rate in curve]) for curve in curves]
    return np.array(places), np.array(values)
