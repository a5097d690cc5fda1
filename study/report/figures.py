"""The figures of a study's report.

draw_all(findings)  →  {"curves": (Figure, "what it shows"), …}      those that the records allow

What studies of several tasks show together is drawn in task_figures.py and paired_figures.py; here is what one has
besides: the parts of its task, its attempts, its sweep.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from envs.protocol import Measure, Part
from study.report.drawing import (
    BEGINNING,
    MARKERS,
    PALETTE,
    add_legend,
    colour_of,
    draw_curves,
    draw_points,
    label_compute,
    marker_of,
    panels,
    place_of,
    styled,
    value_label,
)
from study.report.findings import Findings
from study.report.rates import Rate
from study.report.records import Study
from study.report.task_figures import draw_tasks
from study.report.tasks import Tasks
from study.report.transfer import transfer_matrix

_PARTS: Mapping[Part, str] = {"rule": "changed by the rule", "rest": "left alone by it", "sight": "what is seen"}


def draw_all(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Each figure that the records allow, with its caption."""
    study = findings.study
    with styled():
        drawn = draw_tasks(Tasks.of([findings]))
        if (suite := study.shifted("rule")) and (told := _told_apart(study, suite)):
            drawn["parts"] = _parts(findings, suite, told)
        if by_attempt := _by_attempt(findings):
            drawn["by_attempt"] = by_attempt
        drawn |= transfer_matrix(findings)
        for key in swept_keys(study):
            drawn[f"sweep_{key.rpartition('.')[2]}"] = _sweep(findings, key)
    return drawn


def _parts(findings: Findings, suite: str, measures: Sequence[Measure]) -> tuple[Figure, str]:
    study = findings.study
    figure, axes = panels(len(measures), 1.5)
    for axis, measure in zip(axes, measures, strict=True):
        draw_curves(axis, study, suite, measure.name)
        axis.set_ylabel(_PARTS[measure.part] + " (%)")
        axis.set_title(measure.title, loc="left", fontsize=8)
    label_compute(figure, [axes[-1:]], [study])
    add_legend(figure, axes[0])
    return figure, (
        f"What becomes of the parts of the task ({study.suites[suite]}): of what the rule changes, of what it "
        "leaves alone and, with pictures, of what is seen."
    )


def _told_apart(study: Study, suite: str) -> list[Measure]:
    """The first measure of each part, where there are several parts."""
    measures = study.measures(suite)
    return [found[0] for part in _PARTS if (found := measures.of(part))]


def _by_attempt(findings: Findings) -> tuple[Figure, str] | None:
    study = findings.study
    suites = study.shown_suites[:2]
    found: Mapping[tuple[str, str], list[tuple[float, Rate]]] = {
        (suite, name): _attempts(findings, suite, name) for suite in suites for name in (study.beginning, *study.arms)
    }
    if max(map(len, found.values())) < 2:
        return None
    figure, axes = panels(len(suites), 1.7)
    for axis, suite in zip(axes, suites, strict=True):
        for name in (study.beginning, *study.arms):
            curve, colour = found[suite, name], colour_of(name, study)
            marker = marker_of(name, study)
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


def swept_keys(study: Study) -> list[str]:
    """The options that a sweep has given several values."""
    values: dict[str, set[str]] = {}
    for made in study.sweep.values():
        for key, value in made["values"].items():
            values.setdefault(key, set()).add(str(value))
    return [key for key, found in values.items() if len(found) > 1]


def _sweep(findings: Findings, key: str) -> tuple[Figure, str]:
    """Success at the end against an option's value; arms that differ in something else are lines of their own."""
    study = findings.study
    values = {str(made["values"][key]): made["values"][key] for made in study.sweep.values() if key in made["values"]}
    place = place_of(list(values.values()))
    lines: dict[str, list[tuple[float, str]]] = {}
    for name in study.arms:
        made = study.sweep.get(name)
        if made and key in made["values"]:
            rest = [f"{other.rpartition('.')[2]} {value}" for other, value in made["values"].items() if other != key]
            lines.setdefault(", ".join([made["arm"], *rest]), []).append((place(made["values"][key]), name))
    suites = study.shown_suites[:2]
    figure, axes = panels(len(suites), 1.7)
    for axis, suite in zip(axes, suites, strict=True):
        for index, (label, points) in enumerate(lines.items()):
            curve = [
                (value, rate)
                for value, name in sorted(points)
                if (rate := findings.rate(name, suite, study.headline(suite).name))
            ]
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            axis.plot([x for x, _ in curve], [100 * rate.value for _, rate in curve], color=colour, label=label)
            draw_points(axis, curve, colour, marker)
        if start := findings.rate(study.beginning, suite, study.headline(suite).name):
            axis.axhline(100 * start.value, color=BEGINNING, linestyle="--", linewidth=1, label=study.beginning)
        axis.set_ylabel(f"{study.headline(suite).title} (%)")
        axis.set_title(study.suites[suite], loc="left", fontsize=8)
    axes[-1].set_xticks([place(value) for value in values.values()], list(map(value_label, values.values())))
    axes[-1].set_xlabel(key)
    add_legend(figure, axes[0])
    return figure, f"At the end of training by {key}, at equal compute; dashed, the policy before it."
