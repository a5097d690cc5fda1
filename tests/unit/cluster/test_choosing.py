"""Which checkpoint is the best: by which suite, by which measure, and which way it is better."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Config, load_config, suite_shifts
from cluster.measuring.choosing import BestMetric, best_metric, direction, measures_of, noted
from cluster.planning.hardware import Hardware
from cluster.planning.plan import make_plan

CONFIGS = Path(__file__).parents[3] / "configs"
LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=200, memory_gib=800)
SHIFTED = "evaluation.suites.shifted={env: {actions: relative, training_actions: absolute}}"


def routes(*options: str) -> Config:
    return load_config([CONFIGS / "envs" / "route_navigation.yaml"], ["evaluation.suites.in_distribution={}", *options])


def name_of(config: Config) -> str:
    chosen = best_metric(config)
    assert chosen is not None
    return chosen.name


def row(suite: str, **measures: float) -> dict[str, Any]:
    return {"suite": suite, **measures}


def test_the_headline_of_the_environment_chooses() -> None:
    assert name_of(routes()) == "in_distribution/per_step_accuracy/turn_direction"
    assert name_of(load_config([CONFIGS / "envs" / "add_up.yaml"])) == "in_distribution/success"


def test_a_validation_suite_under_the_training_rule_goes_before_any_other() -> None:
    turns = "per_step_accuracy/turn_direction"
    validation = "evaluation.suites.held_out={split: validation}"
    shifted_validation = SHIFTED.replace("{env", "{split: validation, env")
    assert name_of(routes(validation)) == f"held_out/{turns}"
    assert name_of(routes(shifted_validation)) == f"in_distribution/{turns}"
    assert name_of(routes("evaluation.suites.in_distribution=null", shifted_validation, validation)).startswith("held")
    assert name_of(routes("evaluation.suites.in_distribution=null", SHIFTED)) == f"shifted/{turns}"
    assert name_of(routes(validation, "cluster.best_metric=in_distribution/success")) == "in_distribution/success"


def test_what_a_suite_shifts_is_told_from_its_options_unless_it_says_so_itself() -> None:
    config = routes(SHIFTED, "evaluation.suites.town={env: {city: {style: oldtown}}}")
    assert suite_shifts(config) == {"in_distribution": "none", "shifted": "rule", "town": "other"}
    told = routes("evaluation.suites.town={shift: look, env: {city: {style: oldtown}}}", SHIFTED)
    assert suite_shifts(told)["town"] == "look"


@pytest.mark.parametrize(
    ("measure", "sign"),
    [
        *((name, 1) for name in ("success", "per_step_accuracy/turn_direction", "pass@4", "success_by_attempt/2")),
        *((name, 1) for name in ("checks/numbers_used", "checks_at_first_attempt/cards_recognised", "mean_reward")),
        *((name, -1) for name in ("generalisation_loss", "rule_fixation", "regurgitated", "attempts_used")),
        *((name, -1) for name in ("checks/training_numbers_used", "checks_at_first_attempt/right_under_training_rule")),
        *(
            (name, None)
            for name in ("entropy", "ends/solved", "outcomes/correct", "num_clusters", "succes", "success_n")
        ),
    ],
)
def test_it_is_known_which_way_a_measure_is_better(measure: str, sign: int | None) -> None:
    assert direction(measure) == sign


def test_every_measure_that_may_choose_has_a_direction_and_passes_the_plan() -> None:
    options = ["evaluation.generalisation_loss=20", "evaluation.samples_per_task=2", "evaluation.pass_at=[2]", SHIFTED]
    known = measures_of(routes(*options), "shifted")
    assert {"pass@2", "rule_fixation", "generalisation_loss", "checks/place_recognised"} <= set(known)
    assert "rule_fixation" not in measures_of(routes(*options), "in_distribution")
    assert all(direction(measure) is not None for measure in known)
    assert known[0] == "per_step_accuracy/turn_direction"
    for measure in known:
        config = routes(*options, f"cluster.best_metric=shifted/{measure}", "learner.model=models/nano_gp_l")
        findings = make_plan(config, "rl", LAPTOP).refusals
        assert "cluster.best_metric" not in [finding.key for finding in findings]


def test_the_best_is_the_highest_or_of_a_loss_the_lowest() -> None:
    success = BestMetric(suite="a", measure="success", sign=1)
    loss = BestMetric(suite="a", measure="generalisation_loss", sign=-1)
    values = [(0.2, 3.0), (0.5, 2.0), (0.4, 2.5)]
    for metric, expected in ((success, (1, 0.5)), (loss, (1, 2.0))):
        best: Any = {}
        for iteration, (solved, lost) in enumerate(values):
            rows = [row("b", success=0.9, generalisation_loss=lost), row("a", success=solved, generalisation_loss=lost)]
            best = noted(best, metric, rows, iteration)
        assert (best["iteration"], best["value"]) == expected
        assert best["metric"] == metric.name


def test_a_best_that_another_measure_chose_is_none() -> None:
    old = {"iteration": 3, "metric": "a/mean_reward", "value": 4.0}
    metric = BestMetric(suite="a", measure="success", sign=1)
    assert noted(old, metric, [row("a", success=0.1)], 4) == {"iteration": 4, "metric": "a/success", "value": 0.1}
    assert noted(old, metric, [row("b", success=0.1)], 4) == old
    assert noted(old, None, [row("a", success=0.1)], 4) == old


@given(st.lists(st.integers(0, 5), min_size=1), st.sampled_from([1, -1]))
def test_the_first_of_the_best_stays(values: list[int], sign: Any) -> None:
    metric, best = BestMetric(suite="a", measure="m", sign=sign), {}
    for iteration, value in enumerate(values):
        best = noted(best, metric, [row("a", m=value)], iteration)
    extreme = max(values) if sign == 1 else min(values)
    assert (best["value"], best["iteration"]) == (extreme, values.index(extreme))
