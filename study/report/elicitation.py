"""Which part of what an arm has gained its start reaches by sharper draws alone.

    told_apart(findings, measure)  →  [Finding(…), …]      one for each gain under the training and the shifted rule

A policy that has only become surer of what it knew succeeds more often at temperature 1, and so does its start at a
lower temperature. What the start's best temperature does not reach is more than that. It is chosen afterwards, in the
start's favour; so the arm's best temperature stands beside it.
"""

from study.report.findings import Finding, Findings, kind_of, percent, points


def told_apart(findings: Findings, measure: str) -> list[Finding]:
    """Nothing for arms that have not clearly gained, nor where the start was drawn at one temperature alone."""
    study = findings.study
    suites = (study.trained_suite, study.shifted("rule"))
    found = [_parts(findings, arm, suite, measure) for arm in study.arms for suite in suites if suite]
    return [finding for finding in found if finding is not None]


def _parts(findings: Findings, arm: str, suite: str, measure: str) -> Finding | None:
    study, start, main = findings.study, findings.study.beginning, findings.study.temperatures[0]
    gain = findings.difference(arm, start, suite, measure, main)
    sharper = {at: rate for at in study.temperatures[1:] if (rate := findings.rate(start, suite, measure, at))}
    before, after = findings.rate(start, suite, measure), findings.rate(arm, suite, measure)
    if gain is None or kind_of(gain) != "higher" or not sharper or before is None or after is None:
        return None
    at = max(sharper, key=lambda temperature: sharper[temperature].value)
    best = sharper[at].value
    rest = findings.difference(arm, start, suite, measure, main, at)
    if rest is None:
        return None
    reached = min(max(best - before.value, 0.0), gain.value)
    interval = f"95 % interval {points(rest.low)} to {points(rest.high)}"
    kind = kind_of(rest)
    if kind == "higher":
        verdict = f"; {arm} is {points(rest.value)} points above that ({interval}), which sharper draws do not explain"
    elif kind == "lower":
        verdict = f", and more: {arm} is {points(rest.value)} points from that ({interval}); all of it is elicitation"
    else:
        verdict = f"; of the rest, {points(rest.value)} points ({interval}), chance may be all"
    return Finding(
        f"{arm}, {study.suites[suite]}: of {points(gain.value)} points gained at temperature {main:g}, the start "
        f"reaches {points(reached)} by sharper draws alone ({_drawn(at)}, {percent(best)}){verdict}. "
        + _best_beside(findings, arm, suite, measure, max(best, before.value)),
        kind,
        rest.p,
    )


def _best_beside(findings: Findings, arm: str, suite: str, measure: str, best_of_start: float) -> str:
    """Where the arm was drawn at the same temperatures: its best one beside the start's."""
    study = findings.study
    asked = [at for at in study.temperatures if findings.rate(study.beginning, suite, measure, at)]
    rates = [findings.rate(arm, suite, measure, at) for at in asked]
    values = [rate.value for rate in rates if rate]
    return f"Best against best: {points(max(values) - best_of_start)}." if len(values) == len(rates) else ""


def _drawn(temperature: float) -> str:
    return "greedily" if temperature == 0 else f"at temperature {temperature:g}"
