"""One figure of several runs and studies: any recorded number against any other.

    overlay([Path("runs/a"), Path("runs/study")], "compute/flops", "rule_shift/success")  →  Overlay([Curve, …], …)

A name that begins with a suite is a measure of the evaluations, at one temperature; any other is a column of the
evaluations or of the iterations' metrics. Both are brought together by the iteration that they were recorded at. The
seeds of a study's arm are one curve, their mean, unless each is wanted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.errors import RunError
from cluster.faults import hint
from study.report.differences import over_seeds
from study.report.drawing import MARKERS, PALETTE, add_legend, axis_label, panels, styled
from study.report.rates import Rate, measures_of, rate_of
from study.report.records import Cell, Study, read_records
from study.report.smoothing import savitzky_golay

_LINES = ("-", "--", ":")
Place = tuple[Rate, Rate]
"""What was recorded at once: across, and up."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A run, or the mean of an arm's seeds, in order of training."""

    label: str
    points: Sequence[Place]
    seeds: Sequence[Sequence[Place]] = ()
    """What it is the mean of."""
    is_ends: bool = False
    """Whether its points are the ends of seeds, which nothing joins."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Curves, and what they are of."""

    curves: Sequence[Curve]
    x: str
    y: str
    """Labels of the axes."""
    is_path: bool
    """Whether one measure stands against another, so that neither is how long it has gone on."""


def overlay(
    folders: Sequence[Path],
    x: str,
    y: str | None = None,
    temperature: float | None = None,
    *,
    each: bool = False,
    ends: bool = False,
) -> Overlay:
    """A curve for each run, and for each arm of a study; RunError says what there is where a name is unknown."""
    studies = [read_records(folder) for folder in folders]
    y = y or _headline(studies[0])
    curves = [
        curve
        for study in studies
        for curve in _curves(study, x, y, temperature, each=each, ends=ends, is_one_of_several=len(studies) > 1)
    ]
    if not curves:
        raise RunError(f"--x {x} --y {y}: no run has rows with both; {_known(studies, (x, y))}")
    is_path = any(_is_measure(study, x) for study in studies)
    return Overlay(curves, _words(studies, x), _words(studies, y), is_path)


def draw_overlay(drawn: Overlay, window: int | None = None) -> Figure:
    """The figure; raw points always show, and the line goes through them or, with a window, is smoothed."""
    across, up = (_scale([place[side] for curve in drawn.curves for place in curve.points]) for side in (0, 1))
    with styled():
        figure, (axes,) = panels(1, 2.0 + 0.13 * len(drawn.curves))
        for index, curve in enumerate(drawn.curves):
            _draw(axes, curve, index, (across, up), None if drawn.is_path else window, is_path=drawn.is_path)
        axes.set_xlabel(f"{drawn.x} (%)" if across == 100 else drawn.x)
        axes.set_ylabel(f"{drawn.y} (%)" if up == 100 else drawn.y)
        add_legend(figure, axes)
    return figure


def _curves(
    study: Study, x: str, y: str, temperature: float | None, *, each: bool, ends: bool, is_one_of_several: bool
) -> Iterator[Curve]:
    is_run = all(cell.folder == study.folder for cell in study.cells.values())
    name = study.folder.name if is_one_of_several or is_run else ""
    by_arm: dict[str, dict[str, Sequence[Place]]] = {}
    for (arm, _), cell in study.cells.items():
        if points := _points(cell, x, y, temperature):
            by_arm.setdefault(arm, {})[cell.folder.name if cell.folder != study.folder else ""] = points
    for arm, seeds in by_arm.items():
        if ends:
            yield Curve(" ".join(filter(None, (name, arm))), [points[-1] for points in seeds.values()], is_ends=True)
        elif each or len(seeds) == 1:
            for inner, points in seeds.items():
                yield Curve(" ".join(filter(None, (name, inner))), points)
        else:
            label = " ".join(filter(None, (name, f"{arm}, {len(seeds)} seeds")))
            yield Curve(label, _mean(list(seeds.values())), list(seeds.values()))


def _points(cell: Cell, x: str, y: str, temperature: float | None) -> Sequence[Place]:
    across, up = _recorded(cell, x, temperature), _recorded(cell, y, temperature)
    return [(across[iteration], up[iteration]) for iteration in sorted(up) if iteration in across]


def _recorded(cell: Cell, name: str, temperature: float | None) -> Mapping[int, Rate]:
    """What the run has of that name, by iteration; evaluations go before the metrics of iterations."""
    suite, _, measure = name.partition("/")
    rows = [row for row in cell.rows if row["suite"] == suite]
    if rows:
        told = sorted({float(row["temperature"]) for row in rows})
        wanted = temperature if temperature is not None else 1.0 if 1.0 in told else told[-1]
        rows, name = [row for row in rows if float(row["temperature"]) == wanted], measure
    else:
        rows = [*cell.metrics, *cell.rows]
    return {int(row["iteration"]): rate for row in rows if (rate := rate_of(row, name)) and "iteration" in row}


def _mean(curves: Sequence[Sequence[Place]]) -> Sequence[Place]:
    """The first places of all, then the second of all, as far as every seed has come."""
    means = []
    for places in zip(*curves, strict=False):
        across, up = over_seeds([place[0] for place in places]), over_seeds([place[1] for place in places])
        if across is not None and up is not None:
            means.append((across, up))
    return means


def _draw(axes: Axes, curve: Curve, index: int, scales: tuple[int, int], window: int | None, *, is_path: bool) -> None:
    """Curves differ in colour and marker, and when colours run out in the line too."""
    colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
    style = "none" if curve.is_ends else _LINES[index // len(PALETTE) % len(_LINES)]
    across, up = scales
    places, values = [across * x.value for x, _ in curve.points], [up * y.value for _, y in curve.points]
    line = values if window is None else list(savitzky_golay(values, window=window, x=places))
    axes.plot(places, line, color=colour, linestyle=style, linewidth=0.7 if is_path else 1.4)
    axes.plot(places, values, linestyle="none", marker=marker, color=colour, alpha=0.6, markeredgewidth=0)
    axes.plot([], [], color=colour, linestyle=style, marker=marker, label=curve.label)
    for seed in curve.seeds:
        dots = [across * x.value for x, _ in seed], [up * y.value for _, y in seed]
        axes.plot(*dots, linestyle="none", marker=".", color=colour, alpha=0.4, markersize=3, markeredgewidth=0)
    ends = [(up * y.low, up * y.high) for _, y in curve.points if y.low is not None and y.high is not None]
    if curve.seeds and not is_path and len(ends) == len(places):
        lows, highs = zip(*ends, strict=True)
        axes.fill_between(places, lows, highs, color=colour, alpha=0.16, linewidth=0)
        return
    for x, y in curve.points:
        if y.low is not None and y.high is not None:
            axes.plot([across * x.value] * 2, [up * y.low, up * y.high], color=colour, alpha=0.45, linewidth=0.8)
        if is_path and x.low is not None and x.high is not None:
            axes.plot([across * x.low, across * x.high], [up * y.value] * 2, color=colour, alpha=0.45, linewidth=0.8)


def _scale(rates: Iterable[Rate]) -> int:
    """100 where all are shares, told by their intervals."""
    return 100 if all(rate.n is not None and 0 <= rate.value <= 1 for rate in rates) else 1


def _is_measure(study: Study, name: str) -> bool:
    return name.partition("/")[0] in study.suites


def _headline(study: Study) -> str:
    if not study.suites:
        raise RunError(
            f"{study.folder}: nothing was measured yet; name a column of metrics.jsonl, as --y learner/sft_loss"
        )
    return f"{study.trained_suite}/{study.headline(study.trained_suite).name}"


def _words(studies: Sequence[Study], name: str) -> str:
    suite, _, measure = name.partition("/")
    titled = next((study for study in studies if suite in study.suites), None)
    return axis_label(name) if titled is None else f"{titled.suites[suite]}: {titled.title(measure)}"


def _known(studies: Sequence[Study], wanted: Sequence[str]) -> str:
    """What was probably meant, or else the most telling of what there is."""
    rows = [(study, row) for study in studies for cell in study.cells.values() for row in cell.rows]
    measured = {f"{row['suite']}/{measure}" for _, row in rows for measure in measures_of(row)}
    named = {f"{row['suite']}/{measure.name}" for study, row in rows for measure in study.measures(row["suite"]).all}
    last = [row for study in studies for cell in study.cells.values() for row in (*cell.metrics[-1:], *cell.rows[-1:])]
    columns = {name for row in last for name in row if name == "iteration" or name.startswith(("compute/", "learner/"))}
    unknown = next((name for name in wanted if name not in measured | columns), None)
    if unknown is None:
        return "they were never recorded at the same iteration"
    told = hint(unknown, sorted(measured | columns), "there are")
    return told if told.startswith("did you mean") else f"there are {', '.join(sorted(named | columns)) or 'no rows'}"
