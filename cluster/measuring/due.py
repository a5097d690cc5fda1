"""When a policy is measured or exported, and when it has become as good as the run was to make it. Pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.config import Config
from cluster.measuring.choosing import direction, split_name
from cluster.options import ClusterConfig


def is_measured(cluster: ClusterConfig, iteration: int, *, is_over: bool, spent: float, measured_at: float) -> bool:
    """Whether all suites are played behind this iteration; `measured_at` is what had been spent when they last were."""
    if iteration == 0:
        return cluster.evaluate_at_start or 0 in cluster.evaluate_at
    if iteration in cluster.evaluate_at or (cluster.evaluate_every and iteration % cluster.evaluate_every == 0):
        return True
    if cluster.budget and cluster.evaluations:
        share = cluster.budget / cluster.evaluations
        if spent // share > measured_at // share:
            return True
    return cluster.evaluate_at_end and is_over


def is_exported(cluster: ClusterConfig, iteration: int) -> bool:
    """Whether the policy behind this iteration is kept as a folder."""
    return iteration in cluster.export_at or bool(cluster.export_every and iteration % cluster.export_every == 0)


def has_arrived(config: Config, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether these evaluations of one policy say of each measure in `cluster.until` that it has come that far."""
    until, temperature = config.cluster.until, config.evaluation.temperatures[0]
    told = {row["suite"]: row for row in rows if float(row["temperature"]) == temperature}
    return bool(until) and all(_is_reached(told, name, value) for name, value in until.items())


def _is_reached(told: Mapping[str, Mapping[str, Any]], name: str, value: float) -> bool:
    suite, measure = split_name(name)
    found, sign = told.get(suite, {}).get(measure), direction(measure)
    return found is not None and sign is not None and sign * found >= sign * value
