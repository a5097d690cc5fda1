"""docs/questions.md: every question that was answered, from its kept tables alone.

keep(study, name, question, folder)   the tables of one study, beside those of the others
write_page(folder, page)              the figures and the page
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cluster.compare_options import INIT
from cluster.config import Config, suite_environments
from cluster.errors import RunError
from cluster.question_options import START, QuestionConfig
from cluster.record.files import replace
from study.marks import mark_of
from study.questions import contrasts as held
from study.questions import points as kept
from study.questions.catalog import file_of, load, names
from study.questions.contrasts import Contrast, passes, selections
from study.questions.efficiency import efficiencies, flips
from study.questions.figures import arms_of, draw, words
from study.questions.points import ACCOUNTS, LEDGERS, Kept, ends
from study.report.differences import LEVEL, over_seeds
from study.report.drawing import save
from study.report.findings import p_words, percent
from study.report.findings import points as in_points
from study.report.records import Study

_HEAD = """# Questions

What the paper ablated and what came after it, asked of models of a million parameters. Each question is a file of
`configs/questions/`; `ruleshift questions` lists them, `ruleshift questions NAME` asks one again, and
`ruleshift questions --collect runs/questions` writes this page from what was recorded. Intervals are of 95 %, over
tasks and, where there are several, seeds, each for itself; p-values are corrected for the number of comparisons of a
question (Holm). Arms of one question have one budget, unless it says otherwise; what they start from is not charged.
A model this small shows what can happen, and not what will at another size.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with what was kept of its study."""

    name: str
    config: Config
    question: QuestionConfig
    points: Sequence[Kept]
    contrasts: Sequence[Contrast]
    made: Mapping[str, Any]
    """Of what and in how long: `model`, `budget`, `ledger`, `minutes` of all runs together."""

    @classmethod
    def of(cls, said: str, folder: Path) -> "Answer | None":
        """Of a question by its name or its file; None where it was not answered yet."""
        name = file_of(said).stem
        if not (folder / f"{name}.csv").is_file():
            return None
        config, question = load(said)
        points, contrasts = kept.read(folder / f"{name}.csv"), held.read(folder / f"{name}_contrasts.csv")
        made = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return cls(name, config, question, points, contrasts, made)

    @property
    def titles(self) -> dict[str, str]:
        """What suites and measures are called."""
        suites = self.config.evaluation.suites
        titles = {name: suite.title or name.replace("_", " ") for name, suite in suites.items()}
        for name, (env, _) in suite_environments(self.config).items():
            titles |= {f"{name}/{measure.name}": measure.title for measure in env.measures().all}
        return titles

    @property
    def ledger(self) -> str:
        """The account that the arms have one budget in."""
        return {full: short for short, full in LEDGERS.items()}[self.made["ledger"]]

    @property
    def found(self) -> list[str]:
        """A sentence for each contrast."""
        return [told(contrast, self) for contrast in self.contrasts]


def keep(study: Study, name: str, question: QuestionConfig, folder: Path) -> None:
    """The tables of a study that has asked it; RunError where that has not ended."""
    marks = [mark_of(inner) for inner in sorted((study.folder / "cells").iterdir())]
    if unmade := sum(not mark.is_done for mark in marks):
        raise RunError(f"{study.folder}: {unmade} of its runs have not ended; ask again, which goes on with them")
    folder.mkdir(parents=True, exist_ok=True)
    kept.write(kept.points_of(study, question), folder / f"{name}.csv")
    held.write(held.contrasts_of(study, question), folder / f"{name}_contrasts.csv")
    options = OmegaConf.create(study.config_text)
    made = {
        "model": Path(str(OmegaConf.select(options, "learner.model"))).name,
        "budget": study.budget,
        "ledger": study.ledger,
        "minutes": round(sum(mark.seconds or 0.0 for mark in marks) / 60, 1),
    }
    replace(folder / f"{name}.json", (json.dumps(made) + "\n").encode())


def write_page(folder: Path, page: Path) -> list[str]:
    """The page and its figures, in which a question stands as soon as it was answered; which are not yet."""
    answers = [answer for name in names() if (answer := Answer.of(name, folder)) is not None]
    for answer in answers:
        files = save(draw(answer.points, answer.question.figure, answer.titles, answer.ledger), folder / answer.name)
        files[0].unlink()  # the page shows the drawing, and both are in the study's own report
    missing = [name for name in names() if name not in {answer.name for answer in answers}]
    parts = [_HEAD, *(section(answer, folder.name) for answer in answers)]
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.\n")
    replace(page, "\n".join(parts).encode())
    return missing


def section(answer: Answer, folder: str) -> str:
    """One question: figure, table, what was found, what it rests on, what would change it."""
    question = answer.question
    lines = [f"## {question.asks}", "", f"![{answer.name}]({folder}/{answer.name}.svg)", "", *_table(answer), ""]
    if chosen := selections(answer.points, question):
        lines += [*_selectors(answer, chosen), ""]
    for name in question.efficiency:
        lines += [*_efficiencies(answer, name), ""]
    found = " ".join(answer.found) or "No arms were held against each other."
    lines += [f"**Found.** {found}{_crossings(answer)}", ""]
    lines += [f"**Rests on.** {rests_on(answer)}", "", f"**Would change it.** {question.would_change}", ""]
    lines += [f"`ruleshift questions {answer.name}`, {answer.made['minutes']:.0f} minutes of a core.", ""]
    return "\n".join(lines)


def told(contrast: Contrast, answer: Answer) -> str:
    """`rl ends at 30.3 % of … against 0.5 % of sft (+29.8 points, +26.0 to +33.1; p < 0.001).`"""
    against = "where it began" if contrast.second == START else f"of `{contrast.second}`"
    if contrast.against:
        against += f" by “{words(contrast.against, answer.titles)}”"
    is_share = all(point.n is not None for point in answer.points if point.name == contrast.by)
    show, differ = (percent, in_points) if is_share else (_number, _signed)
    verdict = "" if contrast.corrected < LEVEL else " Not beyond chance, for so many comparisons."
    unit = " points" if is_share else ""
    measured = words(contrast.by, answer.titles)
    return (
        f"{measured[0].upper()}{measured[1:]}: `{contrast.first}` {show(contrast.of_first)} against "
        f"{show(contrast.of_second)} {against} ({differ(contrast.value)}{unit}, {differ(contrast.low)} to "
        f"{differ(contrast.high)}; {p_words(contrast.corrected)}).{verdict}"
    )


def rests_on(answer: Answer) -> str:
    """How many seeds, tasks and models it was, and what the question says itself."""
    points, made = answer.points, answer.made
    seeds = sorted({point.seed for point in points})
    tasks = sorted({point.n for point in points if point.n is not None and point.measure == "success"})
    spent = f", {made['budget']:.2g} {ACCOUNTS[answer.ledger]} an arm" if made["budget"] else ""
    of_tasks = f", {tasks[-1]} tasks a suite" if tasks else ""
    shown = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    extra = f" {answer.question.rests_on}" if answer.question.rests_on else ""
    alone = " One seed tells of these policies, not of the ways to train them." if len(seeds) == 1 else ""
    return f"{len(arms_of(points))} arms from `{made['model']}`, {shown}{of_tasks}{spent}.{alone}{extra}"


def _table(answer: Answer) -> list[str]:
    columns = [name for name in answer.question.wanted if name not in answer.question.selectors]
    seeds = {arm: len({point.seed for point in answer.points if point.arm == arm}) for arm in arms_of(answer.points)}
    several = len(set(seeds.values())) > 1
    heading = ["arm", *(["seeds"] if several else []), *(words(name, answer.titles) for name in columns)]
    rows = [f"| {' | '.join(heading)} |", f"|{' --- |' * len(heading)}"]
    for arm, count in seeds.items():
        cells = [f"`{arm}`", *([str(count)] if several else []), *(_cell(answer.points, arm, name) for name in columns)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(points: Sequence[Kept], arm: str, name: str) -> str:
    """`16.5 → 30.3 (26.1–34.6)`; of how far a policy has moved from its start, the end alone."""
    start, end = (
        over_seeds([point.rate for point in ends(points, arm, name, when).values()]) for when in ("start", "end")
    )
    start = None if "kl_to_start" in name else start
    if end is None:
        return "–"
    if end.n is None:
        return " → ".join(_number(rate.value) for rate in (start, end) if rate is not None)
    interval = f" ({100 * end.low:.1f}–{100 * end.high:.1f})" if end.low is not None and end.high is not None else ""
    return " → ".join(f"{100 * rate.value:.1f}" for rate in (start, end) if rate is not None) + interval


def _selectors(answer: Answer, chosen: Sequence[held.Selector]) -> list[str]:
    outcome = words(answer.question.outcome or "", answer.titles)
    rows = [
        f"| what a start is chosen by | rank correlation with {outcome} at the end | regret |",
        "| --- | --- | --- |",
    ]
    rows += [
        f"| {words(each.by, answer.titles)} | {each.spearman:+.2f} ({each.starts} starts) | "
        f"{100 * each.regret:.1f} points |".replace("-", "−")
        for each in chosen
    ]
    return rows


def _efficiencies(answer: Answer, name: str) -> list[str]:
    """What each arm gains for what it spends, and how high it stands on the way."""
    elsewhere = {arm for arm, options in answer.config.compare.arms.items() if options.start not in (None, INIT)}
    found = efficiencies(answer.points, name, elsewhere)
    per = {"flops": (1e12, "10¹² "), "paper_flops": (1e12, "10¹² "), "trained_tokens": (1e6, "a million ")}
    rows = [
        f"| {words(name, answer.titles)} | "
        + " | ".join(f"points for {unit}{ACCOUNTS[ledger]}" for ledger, (_, unit) in per.items())
        + " | points above its start on average |",
        f"|{' --- |' * (len(per) + 2)}",
    ]
    for arm in dict.fromkeys(one.arm for one in found):
        of_arm = {one.ledger: one for one in found if one.arm == arm}
        spent = [of_arm[ledger].per_spent * amount if ledger in of_arm else None for ledger, (amount, _) in per.items()]
        height = of_arm["flops"].height if "flops" in of_arm else None
        cells = ["–" if value is None else _signed(100 * value) for value in (*spent, height)]
        rows.append(f"| `{arm}` | {' | '.join(cells)} |")
    if changed := [f"`{first}` or `{second}`" for first, second in flips(found)]:
        rows += ["", f"By these means, which gains more depends on the account: {', '.join(changed)}."]
    elif len({one.arm for one in found if one.gain > 0}) > 1:
        rows += ["", "By these means, the arms that gain have the same order in each account."]
    return rows


def _crossings(answer: Answer) -> str:
    """From how much compute on the first of two arms is ahead, in each account."""
    if answer.question.figure.kind != "curves":
        return ""
    told = []
    for contrast in answer.contrasts:
        if contrast.second == START or contrast.against or contrast.value <= 0 or contrast.corrected >= LEVEL:
            continue
        where: Mapping[str, float | None] = {
            ledger: passes(answer.points, contrast.first, contrast.second, contrast.by, ledger) for ledger in ACCOUNTS
        }
        if known := {ledger: at for ledger, at in where.items() if at is not None}:
            amounts = ", ".join(f"{at:.2g} {ACCOUNTS[ledger]}" for ledger, at in known.items())
            told.append(f" `{contrast.first}` is ahead of `{contrast.second}` for good behind {amounts}.")
    return "".join(told)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")
