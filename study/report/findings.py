"""What the records say, in sentences: which differences are more than chance, and which are not.

findings = Findings(study)
findings.sentences()      [Finding(text="sft, shifted rule: success falls from 31.2 % to 0.5 % …", kind="lower"), …]
findings.three_numbers()  ["shifted rule, success: init 16.5 %, sft 0.5 %, rl 30.3 %", …]
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from cluster.config import load_config, suite_environments
from cluster.errors import RuleshiftError
from cluster.measuring.asked import Asked
from cluster.record.episode_log import EpisodeRecord
from envs.catalog import make_environment
from envs.protocol import EnvError
from rollout.episode import EpisodeEnd
from study.report.differences import ClusterOf, Difference, Judge, compare, over_seeds
from study.report.records import Point, Rate, Study

AT_FIRST_ATTEMPT = "checks_at_first_attempt/"
COUNTED = f"{AT_FIRST_ATTEMPT}numbers_used"
Kind = Literal["higher", "lower", "unsure", "same"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison in a sentence."""

    text: str
    kind: Kind
    """`unsure` is a difference that holds over tasks and not over seeds; `same` is one that chance explains."""


class Findings:
    """The comparisons of a study; each is computed once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._clusters: dict[str, ClusterOf] = {}
        self.difference = cache(self._difference)
        """(one, other, suite, measure, temperature) → Difference or None."""

    @property
    def reading(self) -> str | None:
        """The measure of questions read right; None where nothing is recorded."""
        check = self.study.reading_check
        return f"{AT_FIRST_ATTEMPT}{check}" if check else None

    @property
    def kept(self) -> list[str]:
        """Whether the rule is followed, whatever comes of it: as formulas count, and as questions are read."""
        recorded = {key for cell in self.study.cells.values() for row in cell.rows for key in row}
        return [measure for measure in (COUNTED, self.reading) if measure in recorded]

    def rate(self, arm: str, suite: str, measure: str, temperature: float | None = None) -> Rate | None:
        """An arm's final rate, over its seeds."""
        points = [self.study.last(arm, seed, suite, temperature) for seed in self.study.seeds]
        return over_seeds([rate for point in points if point and (rate := point.rate(measure))])

    def sentences(self) -> list[Finding]:
        """Every comparison that the report tells, the shifted rule first."""
        study = self.study
        found = []
        for suite in (*study.shifted_suites, study.trained_suite):
            for measure in ("success", *(self.kept if suite != study.trained_suite else ())):
                for one, other in self._opponents():
                    found.append(self._sentence(one, other, suite, measure, study.temperatures[0]))
        for temperature in study.temperatures[1:]:
            for suite in study.shifted_suites[:1]:
                for one, other in self._opponents():
                    found.append(self._sentence(one, other, suite, "success", temperature))
        return [finding for finding in found if finding is not None]

    def three_numbers(self) -> list[str]:
        """What a reader in a hurry should know: success under each rule, and whether the shifted one is followed."""
        study, suites = self.study, [self.study.trained_suite, *self.study.shifted_suites[:1]]
        wanted = [(suite, "success") for suite in suites]
        if study.shifted_suites:
            wanted += [(study.shifted_suites[0], measure) for measure in self.kept[:1]]
        lines = []
        for suite, measure in wanted:
            rates = [(arm, self.rate(arm, suite, measure)) for arm in (study.beginning, *study.arms)]
            told = ", ".join(f"{arm} {percent(rate.value)}" for arm, rate in rates if rate is not None)
            if told:
                lines.append(f"{study.suites[suite]}, {measure_words(measure)}: {told}")
        return lines

    def _opponents(self) -> list[tuple[str, str]]:
        """Each arm against what it started from, then each arm against the arms before it."""
        arms = self.study.arms
        between = [(arms[later], arms[first]) for later in range(len(arms)) for first in range(later)]
        return [*((arm, self.study.beginning) for arm in arms), *between]

    def _pairs(self, one: str, other: str, suite: str, temperature: float) -> list[tuple[Point, Point]]:
        study = self.study
        both = [
            (study.last(one, seed, suite, temperature), study.last(other, seed, suite, temperature))
            for seed in study.seeds
        ]
        # A run that was measured but once has nothing to be compared with.
        return [(first, last) for first, last in both if first and last and first.row is not last.row]

    def _difference(self, one: str, other: str, suite: str, measure: str, temperature: float) -> Difference | None:
        pairs = self._pairs(one, other, suite, temperature)
        return compare(pairs, measure, self._judge(measure), self._cluster_of(suite)) if pairs else None

    def _judge(self, measure: str) -> Judge | None:
        if measure == "success":
            return _solved
        if not measure.startswith(AT_FIRST_ATTEMPT):
            return None
        return lambda episode: _passes(episode, measure.removeprefix(AT_FIRST_ATTEMPT))

    def _cluster_of(self, suite: str) -> ClusterOf:
        if suite not in self._clusters:
            self._clusters[suite] = _clusters_of(self.study, suite)
        return self._clusters[suite]

    def _sentence(self, one: str, other: str, suite: str, measure: str, temperature: float) -> Finding | None:
        pairs = self._pairs(one, other, suite, temperature)
        found = self.difference(one, other, suite, measure, temperature)
        rates = [[point.rate(measure) for point in side] for side in zip(*pairs, strict=True)]
        if found is None or any(rate is None for side in rates for rate in side):
            return None
        of_one, of_other = (over_seeds([rate for rate in side if rate]) for side in rates)
        assert of_one is not None and of_other is not None  # since there is a pair
        before = other == self.study.beginning
        kind = _kind(found)
        verb = _verb(kind, found.value, falls=before)
        where = f"{one}, {self.study.suites[suite]}{_drawn(temperature, self.study)}"
        against = f"from {percent(of_other.value)} to {percent(of_one.value)}"
        if not before:
            against = f"{percent(of_one.value)} against {percent(of_other.value)} of {other}"
        difference = (
            f"{points(found.value)} points, 95 % interval {points(found.low)} to {points(found.high)}, "
            f"{'paired' if found.is_paired else 'unpaired'}, n = {found.n}"
        )
        text = f"{where}: {measure_words(measure)} {verb} {against} ({difference}). {_how_sure(found)}"
        return Finding(text, kind)


def percent(value: float) -> str:
    """`31.2 %`."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference in percentage points, with its sign: `−30.7`."""
    return f"{100 * value:+.1f}".replace("-", "−")


def measure_words(measure: str) -> str:
    """A measure's name in words."""
    if measure == COUNTED:
        return "formulas that count as the rule says, at the first attempt"
    if measure.startswith(AT_FIRST_ATTEMPT):
        return f"{measure.removeprefix(AT_FIRST_ATTEMPT).replace('_', ' ')} at the first attempt"
    return measure.replace("_", " ").replace("/", " ")


def p_words(p: float) -> str:
    """`p = 0.012`; what is smaller than can be told is `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _solved(episode: EpisodeRecord) -> bool | None:
    return None if episode.end == EpisodeEnd.FAILED else episode.end == EpisodeEnd.SOLVED


def _passes(episode: EpisodeRecord, check: str) -> bool | None:
    return episode.turns[0].checks.get(check) if episode.turns and episode.end != EpisodeEnd.FAILED else None


def _kind(found: Difference) -> Kind:
    if found.is_significant:
        return "higher" if found.value > 0 else "lower"
    return "unsure" if found.holds_over_tasks else "same"


def _verb(kind: Kind, value: float, *, falls: bool) -> str:
    if kind == "same":
        return "does not clearly change," if falls else "is not clearly different:"
    if falls:
        return "rises" if value > 0 else "falls"
    return "is higher:" if value > 0 else "is lower:"


def _how_sure(found: Difference) -> str:
    tasks = f"{p_words(found.task_p)} over tasks"
    if found.seed_p is None:
        verdict = "Significant" if found.is_significant else "Not significant"
        return f"{verdict}, {tasks}. One seed: this speaks of these two policies, not of the methods."
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

    def each_task(episode: EpisodeRecord) -> Hashable:
        return (episode.env, episode.split, episode.seed)

    for cell in study.cells.values():
        try:
            env, verifier = suite_environments(load_config([cell.folder / "config.yaml"]))[suite]
            asked = Asked(make_environment(env, verifier))
        except (RuleshiftError, EnvError, KeyError, OSError):
            continue

        def by_problem(episode: Any, asked: Asked = asked) -> Hashable:
            return asked.cluster(episode) if asked.knows(episode) else each_task(episode)

        return by_problem
    return each_task


def count_of_tests(findings: Sequence[Finding]) -> str:
    """How many comparisons there were, and what that means."""
    if len(findings) == 1:
        return "One comparison, tested at the 5 % level."
    return (
        f"{len(findings)} comparisons, each tested at the 5 % level and none corrected for their number: about one in "
        "twenty would look significant by chance alone."
    )
