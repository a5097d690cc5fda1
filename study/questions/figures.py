"""The figure of an answer, from the kept points alone.

draw(points, question, titles)  →  a figure a column wide; `titles` has what suites and measures are called
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.question_options import FigureConfig
from study.questions.contrasts import curve
from study.questions.points import Kept, ends
from study.report.differences import over_seeds
from study.report.drawing import (
    BEGINNING,
    INK,
    MARKERS,
    PALETTE,
    add_legend,
    axis_label,
    in_lines,
    panels,
    place_of,
    styled,
    value_label,
)
from study.report.rates import Rate, measure_words

Titles = Mapping[str, str]
LINES = ("-", "--", ":", "-.")
LABEL_WIDTH = 24
"""Characters of a label in the height of a panel."""


def draw(points: Sequence[Kept], figure: FigureConfig, titles: Titles, ledger: str) -> Figure:
    """All panels, one below the other."""
    drawn: Mapping[str, Callable[[Axes, str], None]] = {
        "curves": lambda axes, name: _curves(axes, points, name, ledger),
        "sweep": lambda axes, name: _sweep(axes, points, name, figure),
        "scatter": lambda axes, name: _scatter(axes, points, name, str(figure.x)),
        "bars": lambda axes, name: _bars(axes, points, name),
    }
    across = {
        "curves": axis_label(f"compute/{ledger}"),
        "sweep": (figure.x or "").rpartition(".")[2].replace("_", " "),
        "scatter": words(str(figure.x), titles) + ("" if _scale(points, str(figure.x)) == 1 else " (%)"),
        "bars": "",
    }
    with styled():
        made, axes = panels(len(figure.y), 1.7, share_x=figure.kind != "bars" or len(figure.y) > 1)
        for axis, name in zip(axes, figure.y, strict=True):
            drawn[figure.kind](axis, name)
            gains = "gain, points" if figure.gains else "%" if _scale(points, name) == 100 else ""
            axis.set_ylabel(in_lines(words(name, titles) + (f" ({gains})" if gains else ""), LABEL_WIDTH))
        axes[-1].set_xlabel(in_lines(across[figure.kind], 2 * LABEL_WIDTH))
        add_legend(made, *axes)
    return made


def words(name: str, titles: Titles) -> str:
    """`shifted rule: hands solved`."""
    suite, _, measure = name.partition("/")
    return f"{titles.get(suite, suite.replace('_', ' '))}: {titles.get(name, measure_words(measure))}"


def arms_of(points: Sequence[Kept]) -> list[str]:
    """In the study's order."""
    return list(dict.fromkeys(point.arm for point in points))


def _scale(points: Sequence[Kept], name: str) -> int:
    """100 where all values are shares, told by what they were counted over."""
    told = [point for point in points if point.name == name]
    return 100 if told and all(point.n is not None and 0 <= point.value <= 1 for point in told) else 1


def _ink(index: int) -> tuple[str, str, str]:
    return PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], LINES[index // len(PALETTE) % len(LINES)]


def _curves(axes: Axes, points: Sequence[Kept], name: str, ledger: str) -> None:
    scale = _scale(points, name)
    for index, arm in enumerate(arms_of(points)):
        colour, marker, line = _ink(index)
        places = curve(points, arm, name, ledger)
        across, up = [x for x, _ in places], [scale * rate.value for _, rate in places]
        axes.plot(across, up, color=colour, marker=marker, linestyle=line, label=arm)
        lows = [scale * rate.low for _, rate in places if rate.low is not None]
        highs = [scale * rate.high for _, rate in places if rate.high is not None]
        if len(lows) == len(highs) == len(places):
            axes.fill_between(across, lows, highs, color=colour, alpha=0.14, linewidth=0)


def _sweep(axes: Axes, points: Sequence[Kept], name: str, figure: FigureConfig) -> None:
    """A line for each arm and each combination of whatever else is swept."""
    key, scale = str(figure.x), _scale(points, name)
    lines: dict[str, list[tuple[Any, Rate]]] = {}
    for arm in arms_of(points):
        one = next(point for point in points if point.arm == arm)
        if key in one.values and (rate := _end(points, arm, name, gains=figure.gains)) is not None:
            rest = [f"{_last(other)} {value_label(value)}" for other, value in one.values.items() if other != key]
            lines.setdefault(", ".join([one.of, *rest]), []).append((one.values[key], rate))
    places = place_of([value for line in lines.values() for value, _ in line])
    for index, (label, line) in enumerate(lines.items()):
        colour, marker, style = _ink(index)
        line.sort(key=lambda each: places(each[0]))
        across = [places(value) for value, _ in line]
        axes.plot(
            across, [scale * rate.value for _, rate in line], color=colour, marker=marker, linestyle=style, label=label
        )
        _whiskers(axes, across, [rate for _, rate in line], scale, colour)
    if figure.gains:
        axes.axhline(0, color=BEGINNING, linewidth=0.8, linestyle=":")
    else:
        starts = [point.value for point in points if point.name == name and point.when == "start"]
        if starts and len({round(value, 6) for value in starts}) <= len({point.seed for point in points}):
            axes.axhline(scale * fmean(starts), color=BEGINNING, linewidth=0.8, linestyle=":", label="start")
    values = sorted({str(value): value for line in lines.values() for value, _ in line}.values(), key=places)
    axes.set_xticks([places(value) for value in values], [value_label(value) for value in values])
    axes.minorticks_off()


def _scatter(axes: Axes, points: Sequence[Kept], name: str, across: str) -> None:
    scales = _scale(points, across), _scale(points, name)
    bases = list(dict.fromkeys(point.of for point in points))
    for index, base in enumerate(bases):
        colour, marker, _ = _ink(index)
        pairs = []
        for arm in dict.fromkeys(point.arm for point in points if point.of == base):
            xs, ys = ends(points, arm, across), ends(points, arm, name)
            pairs += [(scales[0] * xs[seed].value, scales[1] * ys[seed].value) for seed in xs if seed in ys]
        if pairs:
            axes.plot(*zip(*pairs, strict=True), linestyle="none", color=colour, marker=marker, alpha=0.75, label=base)


def _bars(axes: Axes, points: Sequence[Kept], name: str) -> None:
    """What each arm ends at, and a line where it began."""
    scale, arms = _scale(points, name), arms_of(points)
    for index, arm in enumerate(arms):
        colour = _ink(index)[0]
        if (rate := _end(points, arm, name, gains=False)) is not None:
            axes.barh(index, scale * rate.value, color=colour, alpha=0.8, height=0.7)
            if rate.low is not None and rate.high is not None:
                axes.plot([scale * rate.low, scale * rate.high], [index, index], color=INK, linewidth=1.0)
        if (start := over_seeds([point.rate for point in ends(points, arm, name, "start").values()])) is not None:
            axes.plot([scale * start.value] * 2, [index - 0.42, index + 0.42], color=BEGINNING, linewidth=1.6)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()


def _end(points: Sequence[Kept], arm: str, name: str, *, gains: bool) -> Rate | None:
    """An arm's end over its seeds, or how much more that is than its start."""
    last = ends(points, arm, name)
    if not gains:
        return over_seeds([point.rate for point in last.values()])
    first = ends(points, arm, name, "start")
    found = [last[seed].value - first[seed].value for seed in last if seed in first]
    return over_seeds([Rate(value) for value in found])


def _whiskers(axes: Axes, across: Sequence[float], rates: Sequence[Rate], scale: int, colour: str) -> None:
    for x, rate in zip(across, rates, strict=True):
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [scale * rate.low, scale * rate.high], color=colour, alpha=0.5, linewidth=0.8)


def _last(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")
