"""When a policy is measured and exported, and when it is as good as it was to become."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import load_config, parse_config
from cluster.measuring.due import has_arrived, is_exported, is_measured
from cluster.options import ClusterConfig
from cluster.planning.hardware import Hardware
from cluster.planning.plan import make_plan

ROOT = Path(__file__).parents[3]
CPUS = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)


def measured(cluster: dict[str, Any], last: int = 50) -> list[int]:
    """Behind which iterations, where each costs one of whatever the budget is of."""
    config, found = ClusterConfig.model_validate({"iterations": last, **cluster}), list[int]()
    for iteration in range(last + 1):
        told = {"is_over": iteration == last, "spent": float(iteration), "measured_at": max([0.0, *map(float, found)])}
        if is_measured(config, iteration, **told):
            found.append(iteration)
    return found


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({}, [0, 50]),
        ({"evaluate_at_start": False, "evaluate_at_end": False}, []),
        ({"evaluate_every": 20}, [0, 20, 40, 50]),
        ({"evaluate_every": 20, "evaluate_at_start": False}, [20, 40, 50]),
        ({"evaluate_at": [5, 10, 20, 40], "evaluate_at_start": False}, [5, 10, 20, 40, 50]),
        ({"evaluate_at": [0, 7], "evaluate_at_start": False, "evaluate_at_end": False}, [0, 7]),
        ({"budget": 50, "evaluations": 2, "evaluate_at_start": False}, [25, 50]),
        ({"budget": 50, "evaluations": 2, "evaluate_at": [30]}, [0, 25, 30, 50]),
        # Whatever is measured besides takes none of the shares' places.
        ({"budget": 50, "evaluations": 2, "evaluate_at": [1, 2, 3]}, [0, 1, 2, 3, 25, 50]),
    ],
)
def test_a_policy_is_measured_whenever_anything_asks_for_it(cluster: dict[str, Any], expected: list[int]) -> None:
    assert measured(cluster) == expected


def test_exports_may_be_far_apart_and_farther() -> None:
    cluster = ClusterConfig(export_every=30, export_at=(1, 2, 4, 8))
    assert [iteration for iteration in range(1, 61) if is_exported(cluster, iteration)] == [1, 2, 4, 8, 30, 60]


def row(suite: str, temperature: float = 1.0, **measures: float) -> dict[str, Any]:
    return {"suite": suite, "temperature": temperature, **measures}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], False),
        ([row("validation", success=0.8)], False),
        ([row("validation", success=0.8, generalisation_loss=0.5)], True),
        ([row("validation", success=0.79, generalisation_loss=0.1)], False),
        ([row("validation", success=0.9, generalisation_loss=0.51)], False),
        ([row("validation", 0.0, success=0.9, generalisation_loss=0.1)], False),
        ([row("other", success=0.9, generalisation_loss=0.1)], False),
    ],
)
def test_a_run_has_arrived_where_every_measure_has(rows: list[dict[str, Any]], expected: bool) -> None:
    until = {"validation/success": 0.8, "validation/generalisation_loss": 0.5}
    config = parse_config({"env": {"name": "add_up"}, "cluster": {"until": until}})
    assert has_arrived(config, rows) == expected
    assert not has_arrived(parse_config({"env": {"name": "add_up"}}), rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["cluster.evaluate_every=5", "cluster.until={validatoin/success: 0.5}"], "no suite is called 'validatoin'"),
        (["cluster.evaluate_every=5", "cluster.until={validation/sucess: 0.5}"], "did you mean 'success'?"),
        (["cluster.until={validation/success: 0.5}"], "nothing is measured on the way; set cluster.evaluate_every"),
        (
            ["cluster.evaluate_every=5", "cluster.until={late/success: 0.5}"],
            "the suite is only measured at the end; set evaluation.suites.late.only_at_end=false",
        ),
    ],
)
def test_what_would_never_end_a_run_is_refused(options: list[str], words: str) -> None:
    suites = "evaluation.suites={validation: {split: validation}, late: {split: validation, only_at_end: true}}"
    config = load_config([ROOT / "configs" / "smoke.yaml"], [suites, *options])
    told = [str(finding) for finding in make_plan(config, "rl", CPUS).findings]
    assert any(words in one and one.startswith("cluster.until.") for one in told), told
