"""How the figures of a report are drawn: one column wide, in colours that colour-blind readers tell apart.

styled(), panels(count), grid(rows, columns)   where every figure begins
draw_curves, draw_points, add_legend           what most of them consist of
save(figure, stem)                             stem.png and stem.svg
as_inline_svg(figure, "curves")                SVG for a page, whose ink is the page's ink
"""

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import floor, log10
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter

from study.report.curves import Curve, mean_curve, seed_curves
from study.report.rates import Rate, measure_words, number
from study.report.records import Study

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
    "compute/paper_flops": "training compute by the paper's count (FLOPs)",
    "compute/device_seconds": "training time (device-seconds)",
    "compute/trained_tokens": "tokens trained on",
    "compute/sampled_tokens": "tokens drawn",
    "iteration": "iteration",
}
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_STYLE: Any = {
    "font.size": 8,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
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


class HasArms(Protocol):
    """A study, or several, whose arms have each a colour and a marker."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...


def styled() -> AbstractContextManager[None]:
    """Every figure is drawn in this context."""
    return mpl.rc_context(_STYLE)


def axis_label(name: str) -> str:
    """What stands beside an axis, with its unit: `training compute (FLOPs)` for `compute/flops`."""
    return _UNITS.get(name, measure_words(name))


def colour_of(arm: str, study: HasArms) -> str:
    """An arm's colour, the same in every figure."""
    return BEGINNING if arm not in study.arms else PALETTE[study.arms.index(arm) % len(PALETTE)]


def marker_of(arm: str, study: HasArms) -> str:
    """An arm's marker, the same in every figure."""
    return MARKERS[study.arms.index(arm) % len(MARKERS)] if arm in study.arms else "x"


def panels(count: int, height: float = 1.9, *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Axes one below the other, a column wide."""
    with styled():
        figure = Figure(figsize=(WIDTH, height * count + 0.3), layout="constrained")
        axes = figure.subplots(count, 1, sharex=share_x, squeeze=False)[:, 0]
    return figure, list(axes)


def grid(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Axes in rows and columns, a column of a paper wide in all; each row shares its y, each column its x."""
    with styled():
        figure = Figure(figsize=(WIDTH, height * rows + 0.5), layout=ConstrainedLayoutEngine(w_pad=0.02, wspace=0.02))
        axes = figure.subplots(rows, columns, sharex="col", sharey="row", squeeze=False)
    return figure, [list(row) for row in axes]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG on white; which files these are."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")]
    with styled():
        # Laid out once for all that is made of it: that takes as long as drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
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


def add_legend(figure: Figure, *axes: Axes) -> None:
    """Above the axes, where it covers no point; what several of them show stands once."""
    shown = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    if shown:
        inches = 0.065 * max(map(len, shown)) + 0.45
        columns = max(1, min(len(shown), int(WIDTH / inches)))
        figure.legend(list(shown.values()), list(shown), loc="outside upper center", ncols=columns)


def in_lines(words: str, width: int) -> str:
    """In as many lines as that many characters need, whole words on each."""
    return "\n".join(textwrap.wrap(words, width, break_long_words=False))


def draw_curves(
    axes: Axes, study: Study, suite: str, measure: str, *, inks: HasArms | None = None, seeds: bool = True
) -> None:
    """A measure against compute: the mean of the seeds in the band of its interval and, with `seeds`, their points."""
    inks = inks or study
    for arm in study.arms:
        colour, marker = colour_of(arm, inks), marker_of(arm, inks)
        curves = seed_curves(study, arm, suite, measure)
        if not curves:
            continue
        for curve in curves if seeds else ():
            # The band tells how sure the mean is; only a single seed has but its own intervals.
            draw_points(
                axes, curve if len(curves) == 1 else [(x, Rate(rate.value)) for x, rate in curve], colour, marker
            )
        draw_mean(axes, mean_curve(curves), colour, arm, marker="" if seeds else marker)
    axes.set_ylim(-3, 103)


def draw_mean(axes: Axes, curve: Curve, colour: str, label: str, marker: str = "") -> None:
    """A line in percent, in the band of its interval."""
    places, values = [x for x, _ in curve], [100 * rate.value for _, rate in curve]
    axes.plot(places, values, color=colour, label=label, marker=marker, markersize=2.5, markeredgewidth=0)
    if all(rate.low is not None and rate.high is not None for _, rate in curve):
        low, high = [100 * (rate.low or 0.0) for _, rate in curve], [100 * (rate.high or 0.0) for _, rate in curve]
        axes.fill_between(places, low, high, color=colour, alpha=0.16, linewidth=0)


def label_compute(figure: Figure, axes: Sequence[Sequence[Axes]], studies: Sequence[Study]) -> None:
    """One scale below each column, which is of a study, and one label for all."""
    spent = list(map(_spent, studies))
    power = floor(log10(max(spent))) if max(spent) > 0 else 0
    for axis, most in zip(axes[-1], spent, strict=True):
        axis.set_xlim(-0.05 * most, 1.05 * most) if most else None
        # Nothing, half and all of it, in few figures: a panel may be less than an inch wide.
        axis.xaxis.set_major_locator(FixedLocator([0, most / 2, most]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10**power:.2g}"))
    label = axis_label(studies[0].ledger)
    if len({study.ledger for study in studies}) > 1:
        label = "training compute, each task in its own account"
    unit = f"10{str(power).translate(_RAISED)}" if power else ""
    raised = label.replace("(FLOPs)", f"({unit} FLOPs)") if "(FLOPs)" in label else f"{label} ({unit})"
    figure.supxlabel(raised if unit else label, fontsize=8)


def _spent(study: Study) -> float:
    """What its arms had spent when they were last measured."""
    cells = [cell for (arm, _), cell in study.cells.items() if arm in study.arms]
    return max((number(row.get(study.ledger)) or 0.0 for cell in cells for row in cell.rows), default=0.0)


def draw_points(axes: Axes, curve: Curve, colour: str, marker: str, label: str = "") -> None:
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


def place_of(values: Sequence[Any]) -> Callable[[Any], float]:
    """Where a value stands: numbers by their size, in ratios where they span tenfold; anything else in its order.

    >>> place = place_of([1, 3, 10]); round(place(3), 2)
    0.48
    """
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if min(values) > 0 and max(values) >= 10 * min(values):
            return log10
        return float
    order = list(dict.fromkeys(map(str, values)))
    return lambda value: float(order.index(str(value)))


def value_label(value: Any) -> str:
    """What stands below a swept value."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
