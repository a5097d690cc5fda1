"""What became of each task: figures of one study, or of several with a column for each.

draw_tasks(tasks)  →  {"curves": (Figure, "what it shows"), …}      those that the records allow

    curves       the headline measure against compute, under the rule of training, under the shifted one …
    bars         the same before training and at the end; of several tasks, bars_rule and bars_look
    fixation     wrong answers that the rule of training calls right
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from envs.protocol import Shift
from study.report.drawing import (
    INK,
    add_legend,
    colour_of,
    draw_curves,
    draw_points,
    grid,
    in_lines,
    label_compute,
    styled,
)
from study.report.findings import Findings
from study.report.headline import capital
from study.report.paired_figures import draw_pairs
from study.report.records import Study
from study.report.tasks import ROWS, WORDS, Tasks

Drawn = tuple[Figure, str]
FIXATION = "rule_fixation"
BAND = "Lines are means of the seeds, bands their 95 % intervals over tasks and seeds."


def draw_tasks(tasks: Tasks) -> dict[str, Drawn]:
    """Each figure that the records allow, with its caption."""
    with styled():
        return _drawn(tasks)


def _drawn(tasks: Tasks) -> dict[str, Drawn]:
    drawn = {"curves": _curves(tasks)}
    if tasks.is_one:
        (one,) = tasks.findings
        drawn["bars"] = _bars(tasks, [(one, suite) for suite in one.study.shown_suites])
    else:
        for shift in ("rule", "look"):
            if groups := [(one, suite) for one in tasks.findings if (suite := tasks.suite(one.study, shift))]:
                drawn[f"bars_{shift}"] = _bars(tasks, groups)
    drawn |= draw_pairs(tasks)
    shifted = [(study, suite) for study in tasks.studies if (suite := study.shifted("rule"))]
    if fixed := [(study, suite) for study, suite in shifted if _is_recorded(study, suite, FIXATION)]:
        drawn["fixation"] = _fixation(tasks, fixed)
    return drawn


def _curves(tasks: Tasks) -> Drawn:
    studies = tasks.studies
    # The look has a row of its own where there is room; of several tasks, most have no pictures.
    shifts: list[Shift] = [shift for shift in WORDS if tasks.is_one or shift != "look"]
    shifts = [shift for shift in shifts if any(tasks.suite(study, shift) for study in studies)]
    figure, axes = grid(len(shifts), len(studies), 1.75 if tasks.is_one else 1.2)
    for row, shift in zip(axes, shifts, strict=True):
        for axis, study in zip(row, studies, strict=True):
            suite = tasks.suite(study, shift)
            if suite is None:
                axis.set_visible(False)
                continue
            draw_curves(axis, study, suite, study.headline(suite).name, inks=tasks, seeds=tasks.is_one)
            if tasks.is_one:
                axis.set_title(study.suites[suite], loc="left", fontsize=8)
        study = studies[0]
        row[0].set_ylabel(f"{study.headline(study.trained_suite).title} (%)" if tasks.is_one else ROWS[shift])
    if not tasks.is_one:
        for axis, study in zip(axes[0], studies, strict=True):
            axis.set_title(tasks.title(study, study.headline(study.trained_suite).title), fontsize=6.5)
    label_compute(figure, axes, studies)
    add_legend(figure, *axes[0])
    what = (
        "What each task is measured by"
        if not tasks.is_one
        else capital(studies[0].headline(studies[0].trained_suite).title)
    )
    return figure, f"{what} against training compute. {BAND}"


def _bars(tasks: Tasks, groups: Sequence[tuple[Findings, str]]) -> Drawn:
    """A group for each suite: before training, and each arm at the end."""
    figure, ((axes,),) = grid(1, 1, 2.0)
    start = groups[0][0].study.beginning
    names = (start, *tasks.arms)
    width = 0.84 / len(names)
    for group, (findings, suite) in enumerate(groups):
        for index, name in enumerate(names):
            place = group + (index - (len(names) - 1) / 2) * width
            arm = findings.study.beginning if name == start else name
            _bar(axes, tasks, findings, suite, arm, place, width)
    for name in names:
        axes.bar(0, 0, color=colour_of(name, tasks), alpha=0.6, label=name)
    titles = {one.study.headline(suite).title for one, suite in groups}
    labels = [
        one.study.suites[suite] if tasks.is_one else tasks.title(one.study, one.study.headline(suite).title)
        for one, suite in groups
    ]
    axes.set_xticks(range(len(groups)), labels, fontsize=6.5)
    axes.set_ylabel(f"{titles.pop() if len(titles) == 1 else 'measure of each task'} (%)")
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(visible=False, axis="x")
    add_legend(figure, axes)
    shift = groups[0][0].study.asked[groups[0][1]].shift
    where = (
        "" if tasks.is_one else {"rule": ", under the shifted rule", "look": ", with the shifted look"}.get(shift, "")
    )
    return figure, f"Before training and at the end of it{where}: means with their 95 % intervals; each dot is a seed."


def _bar(axes: Axes, tasks: Tasks, findings: Findings, suite: str, arm: str, place: float, width: float) -> None:
    """Its height in figures, its interval, and each seed."""
    study, measure = findings.study, findings.study.headline(suite).name
    rate = findings.rate(arm, suite, measure)
    if rate is None:
        return
    axes.bar(place, 100 * rate.value, width * 0.9, color=colour_of(arm, tasks), alpha=0.6)
    draw_points(axes, [(place, rate)], INK, "")
    told = [point.rate(measure) for seed in study.seeds if (point := study.last(arm, seed, suite))]
    seeds = [one for one in told if one is not None]
    for number, one in enumerate(seeds if len(seeds) > 1 else ()):
        away = (number - (len(seeds) - 1) / 2) * width * 0.6 / len(seeds)
        axes.plot(place + away, 100 * one.value, ".", color=INK, markersize=2.5, markeredgewidth=0)
    top = 100 * max([rate.high or rate.value, *(one.value for one in seeds)])
    axes.annotate(f"{100 * rate.value:.0f}", (place, top + 1), ha="center", va="bottom", fontsize=5.5)


def _fixation(tasks: Tasks, fixed: Sequence[tuple[Study, str]]) -> Drawn:
    figure, axes = grid(1, len(fixed), 1.75)
    for axis, (study, suite) in zip(axes[0], fixed, strict=True):
        draw_curves(axis, study, suite, FIXATION, inks=tasks, seeds=tasks.is_one)
        axis.set_title(study.suites[suite] if tasks.is_one else in_lines(tasks.label(study), 10), fontsize=7)
    axes[0][0].set_ylabel("of wrong answers (%)")
    label_compute(figure, axes, [study for study, _ in fixed])
    add_legend(figure, *axes[0])
    return figure, (
        "Kept to the old rule: of the wrong answers to questions that the shift changes, those that the rule of "
        f"training calls right. {BAND}"
    )


def _is_recorded(study: Study, suite: str, measure: str) -> bool:
    rows = (row for cell in study.cells.values() for row in cell.rows)
    return any(row["suite"] == suite and measure in row for row in rows)
