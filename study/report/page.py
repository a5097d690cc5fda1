"""The report's page: one file that needs nothing else, neither a server nor a network.

    make_page(findings, figures)  →  the text of report.html

Whatever a model or a configuration says is escaped as text, or embedded as JSON that no tag can end.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from study.report.caveats import Caveat, Table, budget_notes, caveats
from study.report.differences import over_seeds
from study.report.dose import Doses, sentences
from study.report.dose import headline as claim_of
from study.report.dose_tables import chosen_table, rate_caveats
from study.report.drawing import as_inline_svg
from study.report.elicitation import told_apart
from study.report.findings import Finding, Findings, count_of_tests
from study.report.headline import headline
from study.report.numbers import packed
from study.report.rates import Rate, measures_of
from study.report.records import COMPUTE, Point, Study
from study.report.viewer import chosen_episodes

_HERE = Path(__file__).parent
_HEADINGS = {
    "compute/flops": "FLOPs",
    "compute/paper_flops": "FLOPs, paper's ledger",
    "compute/device_seconds": "device-seconds",
    "compute/trained_tokens": "tokens trained on",
    "compute/sampled_tokens": "tokens drawn",
}
_MAIN = (
    *("success", "first_try_success", "parse_rate", "rule_fixation", "regurgitated", "regurgitated_formula"),
    *("checks/numbers_read", "checks_at_first_attempt/training_numbers_used"),
    *("mean_reward", "entropy", "num_clusters"),
)
"""Measures that the page shows at once, behind those that the environment names; the others can be unfolded."""


def make_page(findings: Findings, doses: Doses, figures: Mapping[str, tuple[Figure, str]]) -> str:
    """The whole page."""
    study = findings.study
    arms = ", ".join(study.arms) if study.init else "one run"
    seeds = len({seed for _, seed in study.cells})
    episodes = {
        **chosen_episodes(study),
        "suites": dict(study.suites),
        "beginning": study.beginning,
        "first_suite": (*study.shown_suites[1:], study.trained_suite)[0],
    }
    return Template(part_of_page("page.html")).substitute(
        title=escape(study.name),
        subtitle=escape(f"{arms}; {seeds} seed{'s' if seeds > 1 else ''}; {', '.join(study.suites.values())}"),
        style=part_of_page("page.css"),
        script=part_of_page("page.js"),
        summary=_summary(findings, doses),
        figures="\n".join(as_figure(name, figure, caption) for name, (figure, caption) in figures.items()),
        findings=_findings(findings, doses),
        tables=_final_tables(findings) + _way_table(findings),
        caveats="\n".join(map(as_caveat, [*rate_caveats(doses), *caveats(findings)])),
        compute=compute_table(study),
        configs=_configs(study),
        number_data=as_script(
            {**packed(study), "ledger": study.ledger, "headline": study.headline(study.trained_suite).name}
        ),
        episode_data=as_script(episodes),
    )


def as_script(data: Any) -> str:
    """JSON that may stand in a script element whatever its strings hold: no tag or comment can begin in it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def as_table(table: Table, caption: str = "") -> str:
    """An HTML table of plain words; a cell's second line stands small."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def part_of_page(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _cell(text: str) -> str:
    first, *rest = text.split("\n")
    return f"<td>{escape(first)}{''.join(f'<small>{escape(line)}</small>' for line in rest)}</td>"


def as_text(words: str) -> str:
    """A sentence whose numbers stay on one line with their signs, and whose options look like options."""
    escaped = re.sub(r"\b([pn]) (=|&lt;) ", r"\1&nbsp;\2&nbsp;", escape(words).replace(" %", "&nbsp;%"))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def _summary(findings: Findings, doses: Doses) -> str:
    claim = f"<p><strong>{as_text(told)}</strong></p>" if (told := claim_of(doses)) else ""
    told = "".join(f"<p>{as_text(sentence)}</p>" for sentence in headline(findings))
    lines = "".join(f"<li>{as_text(line)}</li>" for line in findings.three_numbers())
    notes = "".join(f'<p class="warning">{escape(note)}</p>' for note in budget_notes(findings.study))
    return f'{claim}<div class="told">{told}</div><ul class="key">{lines}</ul>{notes}'


def as_figure(name: str, figure: Figure, caption: str) -> str:
    return f"<figure>{as_inline_svg(figure, name)}<figcaption>{as_text(caption)}</figcaption></figure>"


def _findings(findings: Findings, doses: Doses) -> str:
    at_doses = "".join(f"<p>{as_text(sentence)}</p>" for sentence in sentences(doses))
    chosen = as_table(chosen_table(doses.selection)) if doses.selection else ""
    listed = findings_list([*findings.sentences(), *told_apart(findings, doses.measure)])
    return f"{at_doses}{listed}{chosen and '<h3>What validation chose</h3>'}{chosen}"


def findings_list(found: Sequence[Finding]) -> str:
    """What was found, and how many tests that took."""
    if not found:
        return "<p>There is one evaluation and nothing to compare it with.</p>"
    told = [finding for finding in found if finding.kind != "same"]
    rest = [finding for finding in found if finding.kind == "same"]
    listed = _listed(told) if told else "<p>Nothing is beyond chance.</p>"
    if rest:
        listed += f"<details><summary>{len(rest)} that show nothing beyond chance</summary>{_listed(rest)}</details>"
    return f'{listed}<p class="note">{escape(count_of_tests(found))}</p>'


def _listed(found: Sequence[Finding]) -> str:
    items = "".join(f'<li class="{finding.kind}">{as_text(finding.text)}</li>' for finding in found)
    return f'<ul class="findings">{items}</ul>'


def _final_tables(findings: Findings) -> str:
    """Every measure before training and at the end, tables for each suite and temperature."""
    study, names = findings.study, (findings.study.beginning, *findings.study.arms)
    parts = []
    for suite in (study.trained_suite, *study.shifted_suites):
        for temperature in study.temperatures:
            points = {name: [study.last(name, seed, suite, temperature) for seed in study.seeds] for name in names}
            there = [point for part in points.values() for point in part if point]
            measures = list(dict.fromkeys(measure for point in there for measure in measures_of(point.row)))
            if not there:
                continue
            title = f"{study.suites[suite]}, {'greedy' if temperature == 0 else f'temperature {temperature:g}'}"
            rows = {name: [study.title(name), *(seeds_cell(points[arm], name) for arm in names)] for name in measures}
            first = dict.fromkeys([*(measure.name for measure in study.measures(suite).all), *_MAIN])
            main = [rows[name] for name in first if name in rows]
            rest = [row for name, row in rows.items() if name not in first]
            parts.append(as_table(Table(("", *names), main), title))
            parts.append(f"<details><summary>the rest of it</summary>{as_table(Table(('', *names), rest))}</details>")
    count = len({seed for _, seed in study.cells})
    note = "Each number with its 95 % interval and what it was counted over. " + (
        "With several seeds: their mean, the wider of Student's interval over seeds and the seeds' own over tasks, "
        "and each seed below."
        if count > 1
        else "The interval respects that equal problems are one."
    )
    return f'<h3>Before training and at the end</h3><p class="note">{as_text(note)}</p>{"".join(parts)}'


def seeds_cell(points: Sequence[Point | None], measure: str) -> str:
    rates = [rate for point in points if point and (rate := point.rate(measure))]
    joined = over_seeds(rates)
    if joined is None:
        return "–"
    lines = [_value(joined), *_interval(joined)]
    if len(rates) > 1:
        lines.append("seeds: " + ", ".join(map(_value, rates)))
    return "\n".join(lines)


def _value(rate: Rate) -> str:
    if rate.low is not None and 0 <= rate.value <= 1 and rate.n is not None:
        return f"{100 * rate.value:.1f} %"
    return f"{rate.value:.4g}"


def _interval(rate: Rate) -> list[str]:
    if rate.low is None or rate.high is None or (rate.n is None and rate.low == rate.high):
        return []
    if rate.n is None:
        return [f"{rate.low:.4g} to {rate.high:.4g}"]
    return [f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n = {rate.n}"]


def _way_table(findings: Findings) -> str:
    """The evaluations along the way, at the main temperature."""
    study = findings.study
    columns = [(suite, study.headline(suite)) for suite in (study.trained_suite, *study.shifted_suites)]
    if (suite := study.shifted("rule")) is not None:
        columns[2:2] = [(suite, measure) for measure in study.measures(suite).of("rule")[:1]]
    columns = list(dict.fromkeys(columns))
    rows = []
    for arm in study.arms:
        for seed in study.seeds:
            by_suite = {suite: study.series(arm, seed, suite) for suite, _ in columns}
            for point in by_suite[study.trained_suite]:
                mark = (point.cell.arm, point.row["iteration"])
                row = [arm, str(seed), str(mark[1]) if mark[0] == arm else mark[0], f"{point.at(study.ledger):.3g}"]
                for suite, measure in columns:
                    same = (other for other in by_suite[suite] if (other.cell.arm, other.row["iteration"]) == mark)
                    row.append(seeds_cell([next(same, None)], measure.name))
                rows.append(row)
    headings = [f"{study.suites[suite]}: {measure.title}" for suite, measure in columns]
    table = Table(("arm", "seed", "iteration", _HEADINGS.get(study.ledger, study.ledger), *headings), rows)
    return f"<details open><summary>Along the way</summary>{as_table(table)}</details>"


def as_caveat(caveat: Caveat) -> str:
    table = as_table(caveat.table) if caveat.table and caveat.table.rows else ""
    return f"<h3>{escape(caveat.title)}</h3><p>{as_text(caveat.text)}</p>{table}"


def compute_table(study: Study) -> str:
    rows = []
    for (arm, seed), cell in study.cells.items():
        last = cell.rows[-1] if cell.rows else {}
        spent = [_amount(last.get(key)) for key in COMPUTE]
        rows.append([arm, str(seed), str(last.get("iteration", "–")), *spent])
    budget = f" The budget of each arm was {study.budget:.3g} in {study.ledger}." if study.budget else ""
    note = (
        "What training had cost at the last evaluation, evaluations excluded. FLOPs: what was really multiplied, each "
        "part of the model for what passed it; the paper's ledger charges every answer its whole dialogue again."
        + budget
    )
    return f'<p class="note">{escape(note)}</p>' + as_table(
        Table(("arm", "seed", "iteration", *(_HEADINGS[key] for key in COMPUTE)), rows)
    )


def _amount(value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:.3g}" if abs(value) >= 1e6 else f"{value:,.0f}".replace(",", " ")


def _configs(study: Study) -> str:
    versions = [[name, str(version)] for name, version in study.versions.items()]
    parts = [as_table(Table(("software", "version"), versions)) if versions else "<p>No versions were recorded.</p>"]
    texts: Iterable[tuple[str, str]] = [
        *([("the study", study.config_text)] if study.config_text else []),
        *((f"{arm}, seed {seed}", cell.config_text) for (arm, seed), cell in study.cells.items()),
    ]
    parts += [
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>" for title, text in texts
    ]
    return "\n".join(parts)
