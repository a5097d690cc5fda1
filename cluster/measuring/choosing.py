"""Which measure marks the best checkpoint, and which way it is better. Pure functions of options and rows.

best_metric(config)                      →  BestMetric(suite="validation", measure="success", sign=1)
measures_of(config, "validation")        →  those of its measures that can choose a checkpoint
noted(best, metric, rows, iteration)     →  the best so far
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.config import Config, suite_environments, suite_shifts

LOSS = "generalisation_loss"
_HIGHER = (
    *("success", "first_try_success", "step_success", "success_by_attempt", "per_step_accuracy", "parse_rate"),
    *("checks", "checks_at_first_attempt", "mean_reward", "pass@", "vote@", "likeliest@", "success_within"),
    *("by_need@", "by_confidence@", "thinking"),
)
_LOWER = (
    *(LOSS, "kl_to_start", "rule_fixation", "regurgitated", "regurgitated_formula", "attempts_used", "num_failed"),
    "num_truncated",
)
_FAULTS = ("training_numbers_used", "right_under_training_rule")
"""Checks that tell of the old rule where another holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestMetric:
    """A measure on a suite; the better, the higher its value times the sign."""

    suite: str
    measure: str
    sign: Literal[1, -1]

    @property
    def name(self) -> str:
        """As it is written in a configuration."""
        return f"{self.suite}/{self.measure}"


def best_metric(config: Config) -> BestMetric | None:
    """What the configuration names, or else the headline on a suite that may choose; None where nothing can."""
    suite, measure = split_name(config.cluster.best_metric or "")
    if config.cluster.best_metric is None:
        if not config.evaluation.suites:
            return None
        suite = _choosing_suite(config)
        measure = suite_environments(config)[suite][0].measures().headline.name
    sign = direction(measure)
    return None if sign is None else BestMetric(suite=suite, measure=measure, sign=sign)


def split_name(name: str) -> tuple[str, str]:
    """`rule_shift` and `per_step_accuracy/turn_direction` of the two with a slash between."""
    suite, _, measure = name.partition("/")
    return suite, measure


def direction(measure: str) -> Literal[1, -1] | None:
    """Whether more of it is better, 1, or less, -1; None where neither is."""
    name, _, inner = measure.partition("/")
    if measure in _LOWER or inner in _FAULTS:
        return -1
    return 1 if name in _HIGHER or name.partition("@")[0] + "@" in _HIGHER else None


def measures_of(config: Config, suite: str) -> tuple[str, ...]:
    """By which of a suite's measures a checkpoint can be chosen, those first that the environment itself names."""
    evaluation, env = config.evaluation, suite_environments(config)[suite][0]
    named = [measure.name for measure in env.measures().all]
    checks = ["readable", *(inner for name, _, inner in (one.partition("/") for one in named) if "checks" in name)]
    told = evaluation.suites[suite].fixation or any(getattr(env, f"training_{rule}") for rule in env.rule_options)
    return tuple(
        dict.fromkeys(
            [
                *named,
                *("success", "first_try_success", "step_success", "per_step_accuracy", "parse_rate", "mean_reward"),
                *(f"{prefix}/{check}" for prefix in ("checks", "checks_at_first_attempt") for check in checks),
                *(f"success_by_attempt/{attempt}" for attempt in range(1, env.max_attempts + 1)),
                *(f"success_within/{attempt}" for attempt in range(1, env.max_attempts + 1)),
                *(f"{way}@{k}" for k in evaluation.pass_at for way in ("pass", "vote", "likeliest")),
                *(f"{way}@{k}" for k in evaluation.stop_at for way in ("by_need", "by_confidence")),
                *(["rule_fixation"] if told else []),
                *(["regurgitated"] if evaluation.regurgitation else []),
                *([LOSS] if evaluation.generalisation_loss else []),
                *("attempts_used", "num_failed", "num_truncated"),
            ]
        )
    )


def noted(
    best: Mapping[str, Any], metric: BestMetric | None, rows: Sequence[Mapping[str, Any]], iteration: int
) -> Mapping[str, Any]:
    """The best checkpoint after these evaluations; one that another measure has chosen is no longer the best."""
    if metric is None:
        return best
    value = next((row.get(metric.measure) for row in rows if row["suite"] == metric.suite), None)
    before = best.get("value") if best.get("metric") == metric.name else None
    if value is None or (before is not None and metric.sign * value <= metric.sign * before):
        return best
    return {"iteration": iteration, "metric": metric.name, "value": value}


def _choosing_suite(config: Config) -> str:
    """Never one with a shift, unless there is no other: a method must not be tuned to what is to be new to it."""
    suites, shifts = config.evaluation.suites, suite_shifts(config)
    trained = [name for name, shift in shifts.items() if shift == "none"]
    validation = [name for name in trained if suites[name].split == "validation"]
    return next(iter([*validation, *trained, *suites]))
