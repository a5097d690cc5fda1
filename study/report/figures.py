"""The figures of a report.

draw_all(findings)  →  {"success": (Figure, "what it shows"), …}      those that the records allow
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from study.report.drawing import (
    BEGINNING,
    INK,
    MARKERS,
    PALETTE,
    add_legend,
    axis_label,
    colour_of,
    draw_curves,
    draw_points,
    panels,
    styled,
)
from study.report.findings import AT_FIRST_ATTEMPT, Findings, measure_words
from study.report.records import Rate, Study, number
from study.report.transfer import transfer_matrix


def draw_all(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Each figure that the records allow, with its caption."""
    study = findings.study
    with styled():
        drawn = {"success": _success(study), "bars": _bars(findings)}
        if findings.kept and study.shifted_suites:
            drawn["rule_kept"] = _rule_kept(findings)
        if by_attempt := _by_attempt(findings):
            drawn["by_attempt"] = by_attempt
        if recognised := _recognised(study):
            drawn["recognition"] = _recognition(study, recognised)
        drawn |= transfer_matrix(findings)
        for key in swept_keys(study):
            drawn[f"sweep_{key.rpartition('.')[2]}"] = _sweep(findings, key)
    return drawn


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
            draw_points(axes, list(zip(place + spread, rates, strict=True)), INK, marker)
    axes.set_xticks(range(len(suites)), [_wrapped(study.suites[suite]) for suite in suites])
    axes.set_ylabel("success (%)")
    axes.set_ylim(0, 103)
    axes.grid(visible=False, axis="x")
    add_legend(figure, axes)
    return (
        figure,
        "Success before training and at the end of it: the mean of the seeds, and each seed with its interval.",
    )


def _rule_kept(findings: Findings) -> tuple[Figure, str]:
    study = findings.study
    suite = study.shifted_suites[0]
    figure, axes = panels(len(findings.kept), 1.8)
    for axis, measure in zip(axes, findings.kept, strict=True):
        draw_curves(axis, study, suite, measure)
        axis.set_ylabel("first attempts (%)")
        told = measure_words(measure).removesuffix(" at the first attempt").removesuffix(",")
        axis.set_title(f"{study.suites[suite]}: {told}", loc="left", fontsize=8)
    axes[-1].set_xlabel(axis_label(study.ledger))
    add_legend(figure, axes[0])
    return figure, "Whether answers follow the shifted rule, whatever comes of them, before any feedback could tell."


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


def _recognised(study: Study) -> str | None:
    """The measure of pictures that were seen right, at the first attempt; None where nothing was shown."""
    measures = [f"{AT_FIRST_ATTEMPT}{check}" for check in ("cards_recognised", "landmark_recognised")]
    recorded = {key for cell in study.cells.values() for row in cell.rows for key in row}
    return next((measure for measure in measures if measure in recorded), None)


def _recognition(study: Study, measure: str) -> tuple[Figure, str]:
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
    axes.set_xlabel(f"{measure_words(measure)} (%)")
    axes.set_ylabel("success (%)")
    add_legend(figure, axes)
    return figure, "Recognition against success: every evaluation is a point."


def swept_keys(study: Study) -> list[str]:
    """The options that a sweep has given several numbers."""
    values: dict[str, set[float | None]] = {}
    for made in study.sweep.values():
        for key, value in made["values"].items():
            values.setdefault(key, set()).add(number(value))
    return [key for key, found in values.items() if len(found) > 1 and None not in found]


def _sweep(findings: Findings, key: str) -> tuple[Figure, str]:
    """Success at the end against an option's value; arms that differ in something else are lines of their own."""
    study = findings.study
    lines: dict[str, list[tuple[float, str]]] = {}
    for name in study.arms:
        made = study.sweep.get(name)
        if made and key in made["values"]:
            rest = [f"{other.rpartition('.')[2]} {value}" for other, value in made["values"].items() if other != key]
            lines.setdefault(", ".join([made["arm"], *rest]), []).append((float(made["values"][key]), name))
    suites = [study.trained_suite, *study.shifted_suites[:1]]
    figure, axes = panels(len(suites), 1.7)
    for axis, suite in zip(axes, suites, strict=True):
        for index, (label, points) in enumerate(lines.items()):
            curve = [(value, rate) for value, name in sorted(points) if (rate := findings.rate(name, suite, "success"))]
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            axis.plot([x for x, _ in curve], [100 * rate.value for _, rate in curve], color=colour, label=label)
            draw_points(axis, curve, colour, marker)
        if start := findings.rate(study.beginning, suite, "success"):
            axis.axhline(100 * start.value, color=BEGINNING, linestyle="--", linewidth=1, label=study.beginning)
        axis.set_ylabel("success (%)")
        axis.set_title(study.suites[suite], loc="left", fontsize=8)
    values = sorted({value for points in lines.values() for value, _ in points})
    if values[0] > 0 and values[-1] > 20 * values[0]:
        axes[-1].set_xscale("log")
    else:
        axes[-1].set_xticks(values)
    axes[-1].set_xlabel(key)
    add_legend(figure, axes[0])
    return figure, f"Success at the end of training by {key}, at equal compute; dashed, the policy before it."


def _wrapped(words: str) -> str:
    """In two lines where it is long."""
    middle = words.rfind(" ", 0, 15)
    return words if len(words) <= 14 or middle < 0 else f"{words[:middle]}\n{words[middle + 1 :]}"
