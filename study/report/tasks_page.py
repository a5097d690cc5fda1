"""The page of several studies, each of a task: what they say together, and what each says by itself.

    make_tasks_page(tasks, doses, figures, title, links)  →  the text of report.html

Episodes and every number stand on the page of each study, to which this one links.
"""

from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from matplotlib.figure import Figure

from study.report.caveats import Table, budget_notes, caveats
from study.report.dose import Doses, sentences
from study.report.dose import headline as claim_of
from study.report.findings import percent
from study.report.headline import capital, headline, overall
from study.report.page import (
    as_caveat,
    as_figure,
    as_table,
    as_text,
    compute_table,
    findings_list,
    part_of_page,
)
from study.report.rates import Rate
from study.report.tasks import WORDS, Tasks


def make_tasks_page(
    tasks: Tasks,
    doses: Sequence[Doses],
    figures: Mapping[str, tuple[Figure, str]],
    title: str,
    links: Mapping[str, str],
) -> str:
    """The whole page; `doses` are those of each study, `links` lead from its name to its own page."""
    labels = [tasks.label(study) for study in tasks.studies]
    seeds = sorted({seed for study in tasks.studies for _, seed in study.cells})
    return Template(part_of_page("tasks.html")).substitute(
        title=escape(title),
        subtitle=escape(
            f"{', '.join(labels)}; {', '.join(tasks.arms)}; {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        ),
        style=part_of_page("page.css"),
        links=" ".join(f'<a href="#task-{index}">{escape(label)}</a>' for index, label in enumerate(labels)),
        summary=_summary(tasks, doses),
        figures="\n".join(as_figure(name, figure, caption) for name, (figure, caption) in figures.items()),
        tasks="\n".join(
            _section(f"task-{index}", tasks, one, links[one.study.name]) for index, one in enumerate(doses)
        ),
    )


def _summary(tasks: Tasks, doses: Sequence[Doses]) -> str:
    """What may be said of each task at the doses that it was tried at, and of each arm over all tasks."""
    claims = "".join(
        f"<p><strong>{escape(capital(tasks.label(one.study)))}.</strong> {as_text(claim)}</p>"
        for one in doses
        if (claim := claim_of(one))
    )
    told = "".join(f"<p>{as_text(sentence)}</p>" for sentence in overall(tasks))
    note = (
        "Every policy was asked under the rule that training showed, and under a rule, or with a look, that training "
        "never showed. Up and down are against the policy that an arm began with, by what each task is measured by, "
        "and only where that is more than chance over the tasks and, where there are several, over the seeds."
    )
    return f'{claims}<p>{note}</p><div class="told">{told}</div>{_table(tasks)}'


def _table(tasks: Tasks) -> str:
    """The headline of every task and suite, before training and at the end."""
    rows = []
    for one in tasks.findings:
        study = one.study
        for suite in study.shown_suites:
            measure, shift = study.headline(suite), study.asked[suite].shift
            cells = [_cell(one.rate(arm, suite, measure.name)) for arm in (study.beginning, *tasks.arms)]
            rows.append([f"{tasks.label(study)}\n{measure.title}", WORDS.get(shift, study.suites[suite]), *cells])
    return as_table(Table(("task", "", "start", *tasks.arms), rows))


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    interval = "" if rate.low is None or rate.high is None else f"\n{100 * rate.low:.1f}–{100 * rate.high:.1f}"
    return percent(rate.value) + interval


def _section(anchor: str, tasks: Tasks, doses: Doses, link: str) -> str:
    study, findings = doses.study, doses.findings
    told = "".join(f"<p>{as_text(sentence)}</p>" for sentence in (*headline(findings), *sentences(doses)))
    notes = "".join(f'<p class="warning">{escape(note)}</p>' for note in budget_notes(study))
    folded = {
        "What is more than chance": findings_list(findings.sentences()),
        "What it does not show": "".join(map(as_caveat, caveats(findings))),
        "Compute": compute_table(study),
    }
    details = "".join(f"<details><summary>{name}</summary>{text}</details>" for name, text in folded.items())
    return (
        f'<section id="{anchor}"><h2>{escape(capital(tasks.label(study)))}</h2><div class="told">{told}</div>'
        f'{notes}{details}<p><a href="{escape(link)}">Every number and the episodes of {escape(study.name)}</a></p>'
        "</section>"
    )
