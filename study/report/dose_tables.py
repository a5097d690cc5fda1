"""What a page tells of doses beside sentences and figures: what was chosen from what, and where there was no choice."""

from study.report.caveats import Caveat, Table
from study.report.choosing import Candidate, Choice, Selection, sentence_of
from study.report.dose import Doses
from study.report.findings import percent, points


def chosen_table(selection: Selection) -> Table:
    """Every run that could have been chosen, the best of each method first."""
    words = f"{selection.suite}: {selection.study.title(selection.measure)}"
    rows = [
        [choice.method, candidate.cell, _value(candidate), _verdict(choice, place)]
        for choice in selection.choices
        for place, candidate in enumerate(choice.ranked)
    ]
    return Table(("method", "run", words, ""), rows)


def rate_caveats(doses: Doses) -> list[Caveat]:
    """Where a single learning rate stands for a method, or validation would choose another than is called chosen."""
    found = []
    if doses.suite is not None and (alone := doses.at_one_rate()):
        told = ", ".join(f"{method} {doses.of(method)[0].told}" for method in alone)
        found.append(_single(told))
    for choice in doses.selection.choices if doses.selection else ():
        before = [dosed.cell for dosed in doses.of(choice.method) if dosed.is_chosen]
        if choice.cell not in before:
            found.append(_other(choice, before[0]))
    return found


def _single(told: str) -> Caveat:
    return Caveat(
        "A single learning rate",
        f"Trained at one learning rate alone: {told}. What is said of these is a statement about a dose: the same "
        "method may keep at a lower rate what it loses here, and lose at a higher one what it keeps. A study with "
        "`compare.sweep` and `compare.select` tells the two apart.",
    )


def _other(choice: Choice, before: str) -> Caveat:
    return Caveat(
        f"Validation would choose another {choice.method} here",
        f"What is called chosen, {before}, was chosen on other seeds. On these, "
        f"{sentence_of(choice, 'would be chosen')}.",
    )


def _value(candidate: Candidate) -> str:
    lines, rate = [percent(candidate.rate.value)], candidate.rate
    if rate.low is not None and rate.high is not None:
        lines.append(f"{100 * rate.low:.1f}–{100 * rate.high:.1f}")
    if len(candidate.by_seed) > 1:
        lines.append("seeds: " + ", ".join(map(percent, candidate.by_seed.values())))
    return "\n".join(lines)


def _verdict(choice: Choice, place: int) -> str:
    if place or choice.ahead is None:
        return "" if place else "chosen"
    sure = "more than chance" if choice.is_clear else "chance may have chosen"
    interval = f"{points(choice.ahead.low)} to {points(choice.ahead.high)}"
    return f"chosen, {points(choice.ahead.value)} points before the second\n{interval}: {sure}"
