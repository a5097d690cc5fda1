"""What the records say, in sentences: which differences are more than chance, and which are not.

findings = Findings(study)
findings.sentences()      [Finding(text="sft, shifted rule: hands solved fall from 31.2 % to 0.5 % …", kind="lower"), …]
findings.three_numbers()  ["shifted rule, hands solved: init 16.5 %, sft 0.5 %, rl 30.3 %", …]

Measures and their titles are those that the environment of each suite names.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from cluster.measuring.asked import Asked
from envs.catalog import make_environment
from envs.protocol import EnvError, Measure, Part
from study.report.differences import LEVEL, ClusterOf, Difference, compare, holm, over_seeds
from study.report.judging import Judged, Plays, Unit
from study.report.rates import Rate
from study.report.records import Point, Study

Kind = Literal["higher", "lower", "unsure", "same"]
PARTS: tuple[Part, ...] = ("whole", "rule", "rest", "sight")
Question = tuple[str, str, str, Measure, float]
"""What is compared: one arm with another, on a suite, by a measure, at a temperature."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison in a sentence."""

    text: str
    kind: Kind
    """`unsure` is a difference that holds over tasks and not over seeds; `same` is one that chance explains."""
    p: float = 1.0
    """Over tasks and seeds, alone."""


class Findings:
    """The comparisons of a study; each is computed once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._clusters: dict[str, ClusterOf] = {}
        self._judged = Judged({measure.name for suite in study.suites for measure in study.measures(suite).all})
        self.difference = cache(self._difference)
        """(one, other, suite, measure, temperature, of_other) → Difference or None; `of_other` is the temperature that
        the other is drawn at, where it is another."""

    def rate(self, arm: str, suite: str, measure: str, temperature: float | None = None) -> Rate | None:
        """An arm's final rate, over its seeds."""
        points = [self.study.last(arm, seed, suite, temperature) for seed in self.study.seeds]
        return over_seeds([rate for point in points if point and (rate := point.rate(measure))])

    def sentences(self) -> list[Finding]:
        """Every comparison that the report tells, the shifted rule first."""
        asked = dict.fromkeys((*self._of_headlines(), *self._of_components()))
        return [finding for question in asked if (finding := self._sentence(*question)) is not None]

    def three_numbers(self) -> list[str]:
        """What a reader in a hurry should know: the headline of each suite, and if the shifted rule is followed."""
        study = self.study
        wanted = [(suite, study.headline(suite)) for suite in study.shown_suites]
        if (suite := study.shifted("rule")) is not None:
            wanted += [(suite, measure) for measure in study.measures(suite).of("rule")[:1]]
        lines = []
        for suite, measure in dict.fromkeys(wanted):
            rates = [(arm, self.rate(arm, suite, measure.name)) for arm in (study.beginning, *study.arms)]
            told = ", ".join(f"{arm} {percent(rate.value)}" for arm, rate in rates if rate is not None)
            if told:
                lines.append(f"{study.suites[suite]}, {measure.title}: {told}")
        return lines

    def _of_headlines(self) -> Iterator[Question]:
        """Every policy against every other, wherever there was something to be told of."""
        study = self.study
        for suite in (*study.shifted_suites, study.trained_suite):
            if not study.asked[suite].chooses:
                for pair in self._opponents():
                    yield (*pair, suite, study.headline(suite), study.temperatures[0])
        for temperature in study.temperatures[1:]:
            for suite in study.shown_suites[1:2]:
                for pair in self._opponents():
                    yield (*pair, suite, study.headline(suite), temperature)

    def _of_components(self) -> Iterator[Question]:
        """What each arm loses or gains of what the rule changes, of what it leaves alone, and of what is seen."""
        study, told = self.study, []
        if (suite := study.shifted("rule")) is not None:
            told += [(suite, measure) for part in PARTS for measure in study.measures(suite).of(part)[:2]]
        if (suite := study.shifted("look")) is not None:
            told += [(suite, measure) for measure in study.measures(suite).of("sight")[:1]]
        for suite, measure in told:
            for arm in study.arms:
                yield arm, study.beginning, suite, measure, study.temperatures[0]

    def _opponents(self) -> list[tuple[str, str]]:
        """Each arm against what it started from, then each arm against the arms before it."""
        arms = self.study.arms
        between = [(arms[later], arms[first]) for later in range(len(arms)) for first in range(later)]
        return [*((arm, self.study.beginning) for arm in arms), *between]

    def _pairs(
        self, one: str, other: str, suite: str, temperature: float, of_other: float | None = None
    ) -> list[tuple[Point, Point]]:
        study, at = self.study, temperature if of_other is None else of_other
        both = [
            (study.last(one, seed, suite, temperature), self._opponent(one, other, seed, suite, at))
            for seed in study.seeds
        ]
        # A run that was measured but once has nothing to be compared with.
        return [(first, last) for first, last in both if first and last and first.row is not last.row]

    def _opponent(self, one: str, other: str, seed: int, suite: str, at: float) -> Point | None:
        """The other arm's end; where that is the policy before training, what this arm itself began as."""
        study = self.study
        if other == study.beginning and study.starts.get(one, other) != other:
            return next(iter(study.series(one, seed, suite, at)), None)
        return study.last(other, seed, suite, at)

    def _difference(
        self, one: str, other: str, suite: str, measure: str, temperature: float, of_other: float | None = None
    ) -> Difference | None:
        pairs = self._pairs(one, other, suite, temperature, of_other)
        if not pairs:
            return None
        return compare(pairs, measure, self.plays, self.cluster_of(suite))

    def plays(self, point: Point, measure: str) -> Plays:
        """Which plays of an evaluation pass by a measure."""
        return self._judged.plays(point, measure)

    def cluster_of(self, suite: str) -> ClusterOf:
        """Which tasks of a suite are one problem."""
        if suite not in self._clusters:
            self._clusters[suite] = _clusters_of(self.study, suite)
        return self._clusters[suite]

    def _sentence(self, one: str, other: str, suite: str, measure: Measure, temperature: float) -> Finding | None:
        pairs = self._pairs(one, other, suite, temperature)
        found = self.difference(one, other, suite, measure.name, temperature)
        rates = [[point.rate(measure.name) for point in side] for side in zip(*pairs, strict=True)]
        if found is None or any(rate is None for side in rates for rate in side):
            return None
        of_one, of_other = (over_seeds([rate for rate in side if rate]) for side in rates)
        assert of_one is not None and of_other is not None  # since there is a pair
        before = other == self.study.beginning
        kind = kind_of(found)
        verb = _verb(kind, found.value, falls=before)
        where = f"{one}, {self.study.suites[suite]}{_drawn(temperature, self.study)}"
        against = f"from {percent(of_other.value)} to {percent(of_one.value)}"
        if not before:
            against = f"{percent(of_one.value)} against {percent(of_other.value)} of {other}"
        difference = (
            f"{points(found.value)} points, 95 % interval {points(found.low)} to {points(found.high)}, "
            f"{'paired' if found.is_paired else 'unpaired'}, n = {found.n}"
        )
        text = f"{where}: {measure.title} {verb} {against} ({difference}). {_how_sure(found)}"
        return Finding(text, kind, found.p)


def percent(value: float) -> str:
    """`31.2 %`."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference in percentage points, with its sign: `−30.7`."""
    return f"{100 * value:+.1f}".replace("-", "−")


def p_words(p: float) -> str:
    """`p = 0.012`; what is smaller than can be told is `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def kind_of(found: Difference) -> Kind:
    """What a difference allows to be said."""
    if found.is_significant:
        return "higher" if found.value > 0 else "lower"
    return "unsure" if found.holds_over_tasks else "same"


def _verb(kind: Kind, value: float, *, falls: bool) -> str:
    if kind == "same":
        return "do not clearly change," if falls else "are not clearly different:"
    if falls:
        return "rise" if value > 0 else "fall"
    return "are higher:" if value > 0 else "are lower:"


def _how_sure(found: Difference) -> str:
    tasks = f"{p_words(found.task_p)} over tasks"
    if found.seed_p is None:
        verdict = "Significant" if found.is_significant else "Not significant"
        return f"{verdict}, {tasks} (one seed: of these two policies, not of the methods)."
    count = len(found.by_seed)
    seeds = f"{p_words(found.seed_p)} over {count} seeds"
    if found.is_significant:
        return f"Significant, {tasks} and {seeds}."
    each = ", ".join(map(points, found.by_seed))
    if found.holds_over_tasks:
        return f"Beyond chance for these policies ({tasks}), but not for the methods ({seeds}: {each})."
    return f"Not significant, {tasks} and {seeds} ({each})."


def _drawn(temperature: float, study: Study) -> str:
    if temperature == study.temperatures[0]:
        return ""
    return ", greedy" if temperature == 0 else f", at temperature {temperature:g}"


def _clusters_of(study: Study, suite: str) -> ClusterOf:
    """Which tasks are one problem: the environment of the suite knows; without it, each task is one of its own."""

    def each_task(unit: Unit) -> Hashable:
        return unit[:3]

    asks = study.asked[suite].asks
    if asks is None:
        return each_task
    env, verifier = asks
    # In words, where there are such: the same tasks, and no picture need be drawn to tell them apart.
    words = {"modality": "text"} if hasattr(env, "modality") else {}
    try:
        asked = Asked(make_environment(env.model_copy(update=words), verifier))
    except (EnvError, OSError):
        return each_task

    def by_problem(unit: Any) -> Hashable:
        return asked.cluster(unit) if asked.knows(unit) else each_task(unit)

    return by_problem


def count_of_tests(findings: Sequence[Finding]) -> str:
    """How many comparisons there were, and what that means."""
    if len(findings) == 1:
        return "One comparison, tested at the 5 % level."
    alone = sum(finding.p < LEVEL for finding in findings)
    corrected = sum(p < LEVEL for p in holm([finding.p for finding in findings]))
    return (
        f"{len(findings)} comparisons, each tested alone at the 5 % level, at which about one in twenty would look "
        f"significant by chance: {alone} are. Corrected for their number (Holm), {corrected} are."
    )
