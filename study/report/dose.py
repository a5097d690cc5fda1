"""What holds at the learning rate that validation chose, and what at the paper's: neither alone is a statement about a
method.

    doses = Doses(findings)
    doses.cells            [Dosed(cell="sft", method="sft", rate=0.0015, is_chosen=False, is_paper=True), …]
    headline(doses)        the most that may be said: what both doses allow together
    sentences(doses)       what holds at the one, and what at the other
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from study.report.choosing import Selection, choose, description_of, frozen_in, methods_of
from study.report.findings import Findings, Kind, kind_of, percent
from study.report.rates import number

CHOSEN, PAPER = "the learning rate that validation chose", "the paper's dose"


@dataclass(frozen=True, slots=True)
class Dosed:
    """One run at one learning rate, over its seeds."""

    cell: str
    method: str
    rate: float | None
    """Its learning rate; None where it was not recorded."""
    is_chosen: bool
    """Whether its learning rate is the one that validation under the training rule chooses."""
    is_paper: bool
    """Whether it is the paper's."""

    @property
    def told(self) -> str:
        """Its learning rate, as in `1.5e-3`, or its name where that is not known."""
        return self.cell if self.rate is None else rate_words(self.rate)


class Doses:
    """All runs of a study by method and learning rate."""

    def __init__(self, findings: Findings) -> None:
        self.findings, self.study = findings, findings.study
        self.selection: Selection | None = choose(findings)
        self.measure = self.study.headline(self.study.trained_suite).name
        self.suite = self.study.shifted("rule")
        roles = description_of(self.study).get("roles") or {}
        frozen = frozen_in(self.study)
        self.cells: list[Dosed] = []
        for method, names in methods_of(self.study).items():
            told = {name: (roles.get(name) or {}).get("dose") for name in names}
            # Where the study's file calls none of them chosen, these seeds have chosen.
            chosen = frozen.intersection(names) or (self.selection.cells if self.selection else frozenset())
            of_method = [
                Dosed(name, method, self._rate(name), name in chosen, told[name] in ("paper", "both")) for name in names
            ]
            self.cells += sorted(of_method, key=lambda dosed: dosed.rate or 0.0)

    @property
    def methods(self) -> list[str]:
        """In the study's order."""
        return list(dict.fromkeys(dosed.method for dosed in self.cells))

    def of(self, method: str) -> list[Dosed]:
        """A method's runs, the gentlest first."""
        return [dosed for dosed in self.cells if dosed.method == method]

    def at_one_rate(self) -> list[str]:
        """The methods that were trained at a single rate, which nobody has chosen."""
        alone = [(method, found[0]) for method in self.methods if len(found := self.of(method)) == 1]
        return [method for method, dosed in alone if not dosed.is_chosen]

    def at(self, place: str) -> list[Dosed]:
        """The runs at `CHOSEN` or `PAPER`, one for each method that has it."""
        found = {
            dosed.method: dosed for dosed in self.cells if (dosed.is_chosen if place == CHOSEN else dosed.is_paper)
        }
        return list(found.values())

    def fate(self, dosed: Dosed, suite: str) -> Kind | None:
        """What has become of the measure since the start; None where it was not measured."""
        study = self.study
        found = self.findings.difference(dosed.cell, study.beginning, suite, self.measure, study.temperatures[0])
        return kind_of(found) if found else None

    def against(self, one: Dosed, other: Dosed) -> Kind | None:
        """How the first ends beside the second, under the shifted rule."""
        at = self.study.temperatures[0]
        found = self.suite and self.findings.difference(one.cell, other.cell, self.suite, self.measure, at)
        return kind_of(found) if found else None

    def _rate(self, name: str) -> float | None:
        cell = next((cell for (arm, _), cell in self.study.cells.items() if arm == name), None)
        found: Any = cell.config if cell else None
        for key in ("learner", "optimizer", "learning_rate"):
            found = found.get(key) if isinstance(found, dict) else None
        return number(found)


def headline(doses: Doses) -> str | None:
    """Which method loses the shifted rule at which dose; it names the dose wherever that decides."""
    if doses.suite is None or not doses.findings.rate(doses.study.beginning, doses.suite, doses.measure):
        return None
    places = [place for place in (CHOSEN, PAPER) if doses.at(place)]
    told = [*(_loses(doses, method, places, doses.suite) for method in doses.methods), *_compared(doses, places)]
    if alone := doses.at_one_rate():
        names = _joined(list(map(_capital, alone)))
        told.append(f"{names} had one learning rate: what is said of it is said of that dose.")
    if any(told) and len(doses.study.seeds) == 1:
        told.append("One seed was run: this is said of these policies, and not yet of the methods.")
    return " ".join(filter(None, told)) or None


def sentences(doses: Doses) -> list[str]:
    """What has become of the measure at either dose, under the shifted rule first."""
    suites = (doses.suite, doses.study.trained_suite) if doses.suite else ()
    return [found for suite in suites if (found := _of_suite(doses, suite))]


def _of_suite(doses: Doses, suite: str) -> str | None:
    """`Shifted rule, success, 17.7 % at the start: at the paper's dose, SFT (1.5e-3) falls to 0.3 % and RL …`."""
    start = doses.findings.rate(doses.study.beginning, suite, doses.measure)
    if start is None:
        return None
    parts = [
        f"at {place}, {_joined([_became(doses, dosed, suite) for dosed in found])}"
        for place in (CHOSEN, PAPER)
        if (found := doses.at(place))
    ]
    marked = {dosed.method for place in (CHOSEN, PAPER) for dosed in doses.at(place)}
    if rest := [_became(doses, dosed, suite) for dosed in doses.cells if dosed.method not in marked]:
        parts.append(f"{'besides' if parts else 'at the end'}, {_joined(rest)}")
    words = doses.study.suites[suite]
    opening = f"{words[:1].upper()}{words[1:]}, {doses.study.title(doses.measure)}, {percent(start.value)} at the start"
    return f"{opening}: {'; '.join(parts)}."


def rate_words(rate: float) -> str:
    """A learning rate as people write it.

    >>> rate_words(0.0015), rate_words(1e-4), rate_words(0.25)
    ('1.5e-3', '1e-4', '0.25')
    """
    if rate >= 0.01 or rate <= 0:
        return f"{rate:g}"
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _became(doses: Doses, dosed: Dosed, suite: str) -> str:
    rate, fate = doses.findings.rate(dosed.cell, suite, doses.measure), doses.fate(dosed, suite)
    name = f"{_capital(dosed.method)} ({dosed.told})"
    if rate is None or fate is None:
        return f"{name} is not measured yet"
    if fate in ("same", "unsure"):
        return f"{name} does not clearly change ({percent(rate.value)})"
    return f"{name} {'rises' if fate == 'higher' else 'falls'} to {percent(rate.value)}"


def _loses(doses: Doses, method: str, places: Sequence[str], suite: str) -> str | None:
    """Where the method loses the rule, and where that is not shown."""
    fates: dict[str, Kind] = {}
    fates |= {f"at {place}": found[0] for place in places if (found := _fates(doses, method, doses.at(place), suite))}
    everywhere = "at either dose"
    if not fates:
        every = doses.of(method)
        fates = {f"at {each.told}": found[0] for each in every if (found := _fates(doses, method, [each], suite))}
        everywhere = "at any of its learning rates"
    if len(fates) > 1 and len(set(fates.values())) == 1:
        fates = {everywhere: next(iter(fates.values()))}
    told = [
        f"{_verb(fate, 'it' if number else 'the shifted rule')} {where}"
        for number, (where, fate) in enumerate(fates.items())
    ]
    return f"{_introduced(method)} {_joined(told)}{': the dose decides' if len(told) > 1 else ''}." if told else None


def _fates(doses: Doses, method: str, found: Sequence[Dosed], suite: str) -> list[Kind]:
    """What is beyond chance over the tasks alone is no more clear to a reader than what is not."""
    told = [doses.fate(dosed, suite) for dosed in found if dosed.method == method]
    return [fate if fate in ("higher", "lower") else "same" for fate in told if fate]


def _compared(doses: Doses, places: Sequence[str]) -> list[str]:
    """How the last method ends beside the first, at each dose."""
    told = []
    for place in places:
        first, *others = doses.at(place)
        for one in others:
            if kind := doses.against(one, first):
                words = {"higher": "above", "lower": "below"}.get(kind, "not clearly apart from")
                told.append(f"At {place}, {_capital(one.method)} ends {words} {_capital(first.method)}.")
    return told


def _verb(fate: Kind, what: str) -> str:
    return {"lower": f"loses {what}", "higher": f"gains under {what}"}.get(fate, f"does not clearly lose {what}")


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _introduced(method: str) -> str:
    """For whoever does not know the letters."""
    return {"sft": "Imitation (SFT)", "rl": "Play (RL)"}.get(method, method)


def _capital(words: str) -> str:
    return words.upper() if words in ("sft", "rl") else words
