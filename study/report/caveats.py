"""What a figure of two arms does not show, measured where the records allow it.

A rule that collapses may only have been trained harder, a rule that is kept may only have been decoded better: each
caveat is a paragraph and, where there are numbers, a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from cluster.config import parse_config, suite_environments
from cluster.errors import ConfigError
from study.report.differences import over_seeds
from study.report.findings import Findings, percent, points
from study.report.rates import number
from study.report.records import Cell, Point, Study


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Caveat:
    """One reason to read the figure with care."""

    title: str
    text: str
    table: Table | None = field(default=None)


def caveats(findings: Findings) -> list[Caveat]:
    """All that apply to a study."""
    study = findings.study
    found: list[Caveat | None] = [_seeds(study), _dose(study)]
    if len(study.shown_suites) > 1:
        if len(study.arms) > 1:
            found.append(_matched(study))
        found.append(_decoding(findings))
    found.append(_entropy(study))
    found.append(
        Caveat(
            "A small model",
            "Models of this system's built-in size solve tasks largely by what they have met before, and what they can "
            "lose or keep under a shifted rule was put there by their lessons. Compare signs with larger models, not "
            "sizes. The suites are the same tasks for every policy and every seed, so that a lucky choice of tasks is "
            "shared by all of them.",
        )
    )
    return [caveat for caveat in found if caveat is not None]


def matched_success(study: Study, arm: str, other: str, seed: int, suite: str) -> tuple[Point, Point, Point] | None:
    """The evaluation of `arm` whose headline under the training rule is nearest to the final one of `other`.

    That evaluation under the training rule, the same under `suite`, and the final one of `other` under the training
    rule; None where one is missing.
    """
    target = study.last(other, seed, study.trained_suite)
    measure = study.headline(study.trained_suite).name
    wanted = target.rate(measure) if target else None
    trained = [point for point in study.series(arm, seed, study.trained_suite) if point.rate(measure)]
    if target is None or wanted is None or not trained:
        return None
    nearest = min(trained, key=lambda point: abs(_value(point, measure) - wanted.value))
    same = [
        point
        for point in study.series(arm, seed, suite)
        if (point.cell.arm, point.row["iteration"]) == (nearest.cell.arm, nearest.row["iteration"])
    ]
    return (nearest, same[0], target) if same else None


def _seeds(study: Study) -> Caveat:
    count = len({seed for _, seed in study.cells})
    if count == 1:
        text = (
            "One seed was run. Every interval here is over tasks: it says how sure these policies' rates are, and "
            "nothing of how another run of the same method would end."
        )
    else:
        text = (
            f"{count} seeds were run. A difference is called significant only if it holds over the tasks and over the "
            "seeds; Student's interval over so few seeds is wide, as it should be."
        )
    return Caveat("Seeds", text)


def _dose(study: Study) -> Caveat:
    rows, steps_of = [], {}
    for arm in study.arms:
        cells = [cell for (name, _), cell in study.cells.items() if name == arm]
        rate = number(_inner(cells[0], "learner", "optimizer", "learning_rate")) if cells else None
        steps = [sum(number(row.get("learner/optimizer_steps")) or 0.0 for row in cell.metrics) for cell in cells]
        count = fmean(steps) if any(steps) else None
        steps_of[arm] = count
        product = f"{rate * count:.3g}" if rate is not None and count is not None else "not recorded"
        rows.append([arm, f"{rate:g}" if rate is not None else "not recorded", _count(count), product])
    counts = [count for count in steps_of.values() if count]
    uneven = len(counts) > 1 and max(counts) > 1.2 * min(counts)
    text = (
        "The arms had equal compute, not equal steps: "
        if uneven
        else "How far a policy moves depends on learning rate times steps at least as much as on the method. "
    )
    if uneven:
        ratio = max(counts) / min(counts)
        text += (
            f"one made {ratio:.1f} times as many updates as another. How far a policy moves depends on learning rate "
            "times steps at least as much as on the method. "
        )
    text += "Under the same dose, either method may keep or lose the rule; an arm with a lower rate is the control."
    return Caveat("Learning rate × steps", text, Table(("arm", "learning rate", "updates", "rate × updates"), rows))


def _matched(study: Study) -> Caveat:
    suite, rows = study.shown_suites[1], []
    measure, shifted_measure = study.headline(study.trained_suite), study.headline(suite).name
    for arm in study.arms:
        for other in (name for name in study.arms if name != arm):
            for seed in study.seeds:
                found = matched_success(study, arm, other, seed, suite)
                final = study.last(other, seed, suite)
                if found is None or final is None or not final.rate(shifted_measure):
                    continue
                near, shifted, target = found
                away = abs(_value(near, measure.name) - _value(target, measure.name))
                note = "" if away <= 0.05 else f"none nearer than {100 * away:.0f} points"
                rows.append(
                    [
                        f"{arm}, seed {seed}, iteration {near.row['iteration']}"
                        + (f" ({near.cell.arm})" if near.cell.arm != arm else ""),
                        percent(_value(near, measure.name)),
                        percent(_value(shifted, shifted_measure)),
                        f"{other}, at the end",
                        percent(_value(target, measure.name)),
                        percent(_value(final, shifted_measure)),
                        note,
                    ]
                )
    text = (
        f"Equal compute is not equal skill. Here each arm is taken at the evaluation whose {measure.title} under the "
        f"training rule are nearest to what the other arm ends with; where both columns of {study.suites[suite]} "
        "agree, the difference at the end comes with how far an arm was trained and not with how."
    )
    words = study.suites[suite]
    headings = ("arm", "training rule", words, "beside", "training rule", words, "")
    return Caveat("What shifts, at matched skill under the training rule", text, Table(headings, rows))


def _decoding(findings: Findings) -> Caveat:
    study, suite, title = findings.study, findings.study.shown_suites[1], "Decoding: brought out, or learned?"
    if len(study.temperatures) == 1:
        return Caveat(
            title,
            "Everything was drawn at one temperature. Training that only makes a policy surer of what it knew raises "
            "its score too; to tell that from learning, measure the initial policy at several temperatures "
            "(`evaluation.temperatures`).",
        )
    temperatures = sorted(study.temperatures, reverse=True)
    names, measure = (study.beginning, *study.arms), study.headline(suite).name
    rates = {name: {at: findings.rate(name, suite, measure, at) for at in temperatures} for name in names}
    rows = [[name, *(percent(rate.value) if rate else "–" for rate in rates[name].values())] for name in names]
    text = [
        "A sharper policy draws its best answer more often without knowing more. What training has taught is what "
        "remains when both are decoded at their best temperature; that one is chosen afterwards, which flatters both."
    ]
    best = {name: max((rate.value for rate in found.values() if rate), default=None) for name, found in rates.items()}
    start, drawn = best[study.beginning], rates[study.beginning][study.temperatures[0]]
    for arm in study.arms:
        now, final = best[arm], rates[arm][study.temperatures[0]]
        if start is None or now is None or not drawn or not final:
            continue
        told = f"{arm}: {points(final.value - drawn.value)} points at temperature {study.temperatures[0]:g}, "
        if all(rates[arm][at] or not rates[study.beginning][at] for at in temperatures):
            text.append(f"{told}{points(now - start)} points best against best.")
        else:
            text.append(
                f"{told}and measured at fewer temperatures than {study.beginning}, which reaches {percent(start)}."
            )
    headings = (study.suites[suite], *("greedy" if at == 0 else f"T = {at:g}" for at in temperatures))
    return Caveat(title, " ".join(text), Table(headings, rows))


def _entropy(study: Study) -> Caveat | None:
    suites = study.shown_suites[:2]
    rows = []
    for name in (study.beginning, *study.arms):
        for seed in study.seeds:
            points = [study.last(name, seed, suite) for suite in suites]
            told = [number(point.row.get("entropy")) if point else None for point in points]
            if any(value is not None for value in told):
                rows.append([name, str(seed), *("–" if value is None else f"{value:.3f}" for value in told)])
    if not rows:
        return None
    text = (
        "How undecided each policy was about its next token, in nats, on what it drew at temperature "
        f"{study.temperatures[0]:g}: a policy of low entropy is a sharp one, whatever it knows."
    )
    return Caveat("Entropy", text, Table(("policy", "seed", *(study.suites[suite] for suite in suites)), rows))


def budget_notes(study: Study) -> list[str]:
    """Where the arms are not comparable: unfinished, of different length, or not asked the same."""
    ends = {}
    for arm in study.arms:
        last = [study.last(arm, seed, study.trained_suite) for seed in study.seeds]
        ends[arm] = over_seeds([rate for point in last if point and (rate := point.rate(study.ledger))])
    spent = {arm: end.value for arm, end in ends.items() if end}
    notes = []
    if study.budget:
        notes = [
            f"{arm} has used {100 * value / study.budget:.0f} % of the budget so far."
            for arm, value in spent.items()
            if value < 0.95 * study.budget
        ]
    if len(spent) > 1 and min(spent.values()) < 0.9 * max(spent.values()):
        notes.append("The arms did not end at equal compute; compare the curves, not the bars.")
    missing = [f"{arm} seed {seed}" for arm in study.arms for seed in study.seeds if (arm, seed) not in study.cells]
    notes += _uneven_suites(study)
    return [*notes, *([f"Not measured yet: {', '.join(missing)}."] if missing else [])]


def _uneven_suites(study: Study) -> list[str]:
    """Where policies were not asked the same: another number of attempts makes success another measure."""
    notes = []
    for suite, words in study.suites.items():
        asked = {cell.arm: _asked(cell, suite) for cell in study.cells.values()}
        first = next(iter(asked))
        for arm, options in asked.items():
            keys = sorted(key for key in {*options, *asked[first]} if options.get(key) != asked[first].get(key))
            told = ", ".join(f"{key} {options.get(key)} and not {asked[first].get(key)}" for key in keys)
            if told:
                notes.append(f"Not comparable, {words}: {arm} was measured with {told} as {first} was.")
    return notes


def _asked(cell: Cell, suite: str) -> dict[str, Any]:
    """All options of what a suite asked, whatever the arm was trained on."""
    try:
        env, _ = suite_environments(parse_config(cell.config))[suite]
    except (ConfigError, KeyError):
        own = _inner(cell, "evaluation", "suites", suite, "env")
        return {**(_inner(cell, "env") or {}), **(own or {})}
    return env.model_dump(mode="json")


def _value(point: Point, measure: str) -> float:
    rate = point.rate(measure)
    return rate.value if rate else float("nan")


def _inner(cell: Cell, *keys: str) -> Any:
    found: Any = cell.config
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _count(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,.0f}".replace(",", " ")
