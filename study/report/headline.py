"""What a study says, for someone who has read nothing else: what was asked, and which changes are more than chance.

headline(findings)  →  ["Cards in words. Hands solved, under the rule of training (J, Q and K count 10) …", "sft: up …"]

Nothing is said to be up, down or above unless it is so beyond chance, over tasks and, where there are several, over
seeds, and its interval leaves nothing else; whatever cannot be told is said to be that, with its interval.
"""

from collections.abc import Mapping, Sequence

from envs.protocol import Shift
from study.report.differences import Difference
from study.report.findings import Findings, percent, points
from study.report.records import Study
from study.report.tasks import Tasks, task_of

_HOW = {"sft": " (trained by imitation)", "rl": " (trained by play)"}
_WHERE: Mapping[Shift, str] = {
    "none": "under the rule of training",
    "rule": "under the shifted rule",
    "look": "with the shifted look",
}


def headline(findings: Findings) -> list[str]:
    """What was asked, a sentence for each arm, one that compares them, and how far it reaches."""
    study = findings.study
    told = [sentence for arm in study.arms if (sentence := _of_arm(findings, arm))]
    if (suite := study.shifted("rule")) is not None and (between := _between(findings, suite)):
        told.append(between)
    return [_asked(study), *told, *([_reach(study)] if told else [])]


def overall(tasks: Tasks) -> list[str]:
    """For each arm, in how many of the tasks it ends above or below its start."""
    sentences = []
    for arm in tasks.arms:
        clauses = []
        for shift, where in _WHERE.items():
            changes = [
                change
                for one in tasks.findings
                if arm in one.study.arms
                and (suite := tasks.suite(one.study, shift))
                and (change := _change(one, arm, suite))
            ]
            if changes:
                clauses.append(f"{where}, {_counted(changes)}")
        if clauses:
            sentences.append(f"{arm}{_how(arm, tasks.studies)}: {'; '.join(clauses)}.")
    return sentences


def _how(arm: str, studies: Sequence[Study]) -> str:
    """How an arm is trained, where all studies that have it agree."""
    commands = {study.command(arm) for study in studies if arm in study.arms}
    return _HOW.get(commands.pop() or "", "") if len(commands) == 1 else ""


def _counted(changes: Sequence[str]) -> str:
    """`down in 3 and not to be told in 1 of 4 tasks`."""
    ways = {"up": "up", "down": "down", "untold": "not to be told"}
    told = [f"{words} in {changes.count(way)}" for way, words in ways.items() if way in changes]
    return f"{listed(told)} of {len(changes)} tasks"


def _change(findings: Findings, arm: str, suite: str) -> str:
    """`up`, `down`, `untold`; empty where nothing was measured."""
    study = findings.study
    found = findings.difference(arm, study.beginning, suite, study.headline(suite).name, study.temperatures[0])
    if found is None:
        return ""
    return "untold" if not is_told(found) else "up" if found.value > 0 else "down"


def is_told(found: Difference) -> bool:
    """Whether a headline may say which of the two is higher."""
    return found.is_significant and (found.low > 0 or found.high < 0)


def unlike_arms(study: Study) -> list[tuple[str, str]]:
    """Pairs of arms, the later first: those that train by other commands or, where none do, all of them."""
    pairs = [(later, first) for index, later in enumerate(study.arms) for first in study.arms[:index]]
    unlike = [(one, other) for one, other in pairs if study.command(one) != study.command(other)]
    return unlike or pairs


def listed(parts: Sequence[str]) -> str:
    """`one`; `one and two`; `one, two and three`, with semicolons where a part has commas of its own."""
    if len(parts) < 2:
        return "".join(parts)
    comma = ";" if any("," in part for part in parts) else ","
    last = " and " if comma == "," else "; and "
    return f"{f'{comma} '.join(parts[:-1])}{last}{parts[-1]}"


def _asked(study: Study) -> str:
    """What the numbers are of."""
    task, measure = task_of(study), study.headline(study.trained_suite).title
    parts = [f"under the rule of training{_in_brackets(study, study.trained_suite, 'rule')}"]
    if (suite := study.shifted("rule")) is not None:
        parts.append(f"under one that training never shows{_in_brackets(study, suite, 'rule')}")
    if (suite := study.shifted("look")) is not None:
        parts.append(f"with a look that training never shows{_in_brackets(study, suite, 'look')}")
    start = f" Every arm starts from the policy {study.init}." if study.init else ""
    return f"{capital(task)}. The measure is {measure}, {listed(parts)}.{start}"


def _in_brackets(study: Study, suite: str, what: str) -> str:
    env = study.asked[suite].env
    told = "" if env is None else getattr(env.description(), what)
    return f" ({told})" if told else ""


def _of_arm(findings: Findings, arm: str) -> str:
    """What has become of an arm's start, suite by suite."""
    study, clauses = findings.study, []
    for suite in study.shown_suites:
        measure = study.headline(suite).name
        found = findings.difference(arm, study.beginning, suite, measure, study.temperatures[0])
        before, after = findings.rate(study.beginning, suite, measure), findings.rate(arm, suite, measure)
        if found is None or before is None or after is None:
            continue
        where = _WHERE.get(study.asked[suite].shift, study.suites[suite])
        rates = f"{percent(before.value)} → {percent(after.value)}"
        if is_told(found):
            clauses.append(f"{'up' if found.value > 0 else 'down'} {where} ({rates})")
        else:
            clauses.append(f"no change that can be told {where} ({rates}; interval of the change {_interval(found)})")
    return f"{arm}{_how(arm, [study])}: {listed(clauses)}." if clauses else ""


def _between(findings: Findings, suite: str) -> str:
    """How the arms of unlike kinds differ at the end."""
    study, told = findings.study, []
    for one, other in unlike_arms(study):
        found = findings.difference(one, other, suite, study.headline(suite).name, study.temperatures[0])
        if found is None:
            continue
        if not is_told(found):
            told.append(f"{one} and {other} cannot be told apart ({_interval(found)})")
        elif found.value > 0:
            told.append(f"{one} ends {100 * found.value:.1f} points above {other} ({_interval(found)})")
        else:
            told.append(f"{one} ends {-100 * found.value:.1f} points below {other} ({_interval(found)})")
    return f"{capital(_WHERE['rule'])}, {listed(told)}." if told else ""


def _interval(found: Difference) -> str:
    return f"{points(found.low)} to {points(found.high)} points"


def _reach(study: Study) -> str:
    seeds = len({seed for _, seed in study.cells})
    if seeds == 1:
        return "One run of each: this tells of these policies, and not of how they were trained. Intervals are of 95 %."
    return f"Told is only what is more than chance over the tasks and over {seeds} seeds. Intervals are of 95 %."


def capital(words: str) -> str:
    """As a sentence begins."""
    return words[:1].upper() + words[1:]
