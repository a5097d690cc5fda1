"""The figures of a report, one column wide, in colours that colour-blind readers tell apart.

draw_all(findings)  →  {"success": (Figure, "what it shows"), …}      those that the records allow
save(figure, stem)  →  stem.png and stem.svg
as_inline_svg(figure, "success")  →  SVG for a page, whose ink is the page's ink
"""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.report.findings import Findings, measure_words
from cluster.report.records import Point, Rate, Study

WIDTH = 3.4
"""Inches: a column of a paper."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without those that vanish on paper or on a dark screen."""
BEGINNING = "#808080"
MARKERS = "os^Dv*"
_INK = "#010203"
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
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK
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


def draw_all(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Each figure that the records allow, with its caption."""
    study = findings.study
    with styled():
        drawn = {"success": _success(study), "bars": _bars(findings)}
        if findings.reading and study.shifted_suites:
            drawn["read_right"] = _read_right(findings)
        if by_attempt := _by_attempt(findings):
            drawn["by_attempt"] = by_attempt
        if study.reading_check == "cards_recognised":
            drawn["recognition"] = _recognition(findings)
    return drawn


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
    return svg.replace(_INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


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


def _success(study: Study) -> tuple[Figure, str]:
    suites = [study.trained_suite, *study.shifted_suites[:3]]
    figure, axes = panels(len(suites), 1.8)
    for axis, suite in zip(axes, suites, strict=True):
        draw_curves(axis, study, suite, "success")
        axis.set_ylabel("success (%)")
        axis.set_title(study.suites[suite], loc="left", fontsize=8)
    axes[-1].set_xlabel(axis_label(study.ledger))
    add_legend(figure, axes[0])
    several = len({seed for _, seed in study.cells}) > 1
    band = "Lines: the mean of the seeds; bands: from the lowest seed to the highest. " if several else ""
    return figure, f"Success against training compute. {band}Every evaluation is a point, with its 95 % interval."


def _bars(findings: Findings) -> tuple[Figure, str]:
    study = findings.study
    suites, names = [study.trained_suite, *study.shifted_suites[:3]], (study.beginning, *study.arms)
    figure, (axes,) = panels(1, 2.1)
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        colour, label = colour_of(name, study), name
        for group, suite in enumerate(suites):
            points = [study.last(name, seed, suite) for seed in study.seeds]
            rates = [rate for point in points if point and (rate := point.rate("success"))]
            if not rates:
                continue
            place = group + (index - (len(names) - 1) / 2) * width
            mean = 100 * sum(rate.value for rate in rates) / len(rates)
            axes.bar(place, mean, width * 0.9, color=colour, alpha=0.55, label=label)
            label = ""
            spread = (np.arange(len(rates)) - (len(rates) - 1) / 2) * width * 0.7 / len(rates)
            marker = MARKERS[study.arms.index(name) % len(MARKERS)] if name in study.arms else "o"
            draw_points(axes, list(zip(place + spread, rates, strict=True)), _INK, marker)
    axes.set_xticks(range(len(suites)), [_wrapped(study.suites[suite]) for suite in suites])
    axes.set_ylabel("success (%)")
    axes.set_ylim(0, 103)
    axes.grid(visible=False, axis="x")
    add_legend(figure, axes)
    return (
        figure,
        "Success before training and at the end of it: the mean of the seeds, and each seed with its interval.",
    )


def _read_right(findings: Findings) -> tuple[Figure, str]:
    study, measure = findings.study, str(findings.reading)
    suite = study.shifted_suites[0]
    figure, (axes,) = panels(1, 2.0)
    draw_curves(axes, study, suite, measure)
    axes.set_ylabel(f"{str(study.reading_check).replace('_', ' ')} (%)")
    axes.set_xlabel(axis_label(study.ledger))
    axes.set_title(study.suites[suite], loc="left", fontsize=8)
    add_legend(figure, axes)
    return (
        figure,
        "How many questions are read as the shifted rule says, whatever is answered then; at the first attempt.",
    )


def _by_attempt(findings: Findings) -> tuple[Figure, str] | None:
    study = findings.study
    suites = [study.trained_suite, *study.shifted_suites[:1]]
    found: Mapping[tuple[str, str], list[tuple[float, Rate]]] = {
        (suite, name): _attempts(findings, suite, name) for suite in suites for name in (study.beginning, *study.arms)
    }
    if max(map(len, found.values())) < 2:
        return None
    figure, axes = panels(len(suites), 1.7)
    for axis, suite in zip(axes, suites, strict=True):
        for name in (study.beginning, *study.arms):
            curve, colour = found[suite, name], colour_of(name, study)
            marker = MARKERS[study.arms.index(name) % len(MARKERS)] if name in study.arms else "x"
            axis.plot([x for x, _ in curve], [100 * rate.value for _, rate in curve], color=colour, label=name)
            draw_points(axis, curve, colour, marker)
        axis.set_ylabel("right answers (%)")
        axis.set_ylim(-3, 103)
        axis.set_title(study.suites[suite], loc="left", fontsize=8)
        axis.set_xticks(range(1, max(map(len, found.values())) + 1))
    axes[-1].set_xlabel("attempt")
    add_legend(figure, axes[0])
    return (
        figure,
        "Of the answers given at each attempt, those that are right: where the curve is flat, revisions are redraws.",
    )


def _attempts(findings: Findings, suite: str, name: str) -> list[tuple[float, Rate]]:
    curve: list[tuple[float, Rate]] = []
    while rate := findings.rate(name, suite, f"success_by_attempt/{len(curve) + 1}"):
        curve.append((len(curve) + 1.0, rate))
    return curve


def _recognition(findings: Findings) -> tuple[Figure, str]:
    study, measure = findings.study, str(findings.reading)
    figure, (axes,) = panels(1, 2.2)
    for arm in study.arms:
        marker = MARKERS[study.arms.index(arm) % len(MARKERS)]
        for suite in study.suites:
            pairs = [
                (100 * read.value, rate)
                for seed in study.seeds
                for point in study.series(arm, seed, suite)
                if (read := point.rate(measure)) and (rate := point.rate("success"))
            ]
            shifted = suite != study.trained_suite
            label = f"{arm}, {study.suites[suite]}"
            draw_points(axes, pairs, colour_of(arm, study), marker if shifted else "x", label)
    axes.set_xlabel("cards recognised (%)")
    axes.set_ylabel("success (%)")
    add_legend(figure, axes)
    return figure, "Recognition against success: every evaluation is a point."


def _wrapped(words: str) -> str:
    """In two lines where it is long."""
    middle = words.rfind(" ", 0, 15)
    return words if len(words) <= 14 or middle < 0 else f"{words[:middle]}\n{words[middle + 1 :]}"
