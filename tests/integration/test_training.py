"""Whole runs on real Ray, vLLM and DeepSpeed: they learn, survive deaths, and go on exactly where they were stopped."""

from pathlib import Path

import pytest

from tests.support.runs import TIMEOUT_SECONDS, Run, rows

SMALL = ("cluster.episodes_per_iteration=24", "evaluation.episodes=40", "cluster.checkpoint_every=2")


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_smoke_learns(tmp_path: Path) -> None:
    run = Run(tmp_path, "configs/smoke.yaml", "cluster.dashboard=false").result()
    before, after = rows(run, "evaluations")
    assert before["success"] < 0.55
    assert after["success"] > 0.6
    assert all(row["push/gap"] < 1e-4 for row in rows(run, "metrics"))
    assert (run / "policy" / "model.safetensors").is_file()


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_run_survives_the_death_of_a_worker_and_of_a_rank(tmp_path: Path) -> None:
    run = Run(tmp_path, "configs/smoke.yaml", "cluster.dashboard=false", *SMALL, "cluster.iterations=6")
    run.until("iteration 1/6")
    run.kill("RolloutWorker")
    run.until("iteration 3/6")
    run.kill("LearnerWorker")
    finished = run.result()
    assert "Another takes the place of smoke-rollout-0." in run.said()
    assert "start anew from the newest checkpoint" in run.said()
    found = rows(finished, "metrics")
    assert [row["iteration"] for row in found] == list(range(1, 7))
    assert all(row["rollout/episodes"] == 24 for row in found)


HYBRID = (
    "learner.advantage.kind=grpo",
    "cluster.samples_per_task=4",
    "learner.advantage.flat_groups=redraw",
    "cluster.demonstrate_failed=true",
    "learner.sft_schedule.gate={by: success, below: 0.95}",
    "learner.pulls_every=2",
    "evaluation.kl_to_start=16",
    "evaluation.kl_every=1",
)


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_hybrid_imitates_where_it_failed_and_plays_others_for_flat_groups(tmp_path: Path) -> None:
    options = ("cluster.dashboard=false", *SMALL, "cluster.iterations=4", "cluster.evaluate_at_end=false")
    run = Run(tmp_path, "configs/smoke.yaml", *options, *HYBRID).result()
    found = rows(run, "metrics")
    # Of six tasks of four samples, some have all right or all wrong: other tasks are played for these.
    assert all(24 <= row["rollout/episodes"] <= 24 * 4 and row["rollout/flat_groups"] < 1 for row in found)
    assert all(row["rollout/episodes"] > 24 for row in found if row["rollout/flat_groups"])
    assert any(row["rollout/flat_groups"] for row in found)
    assert all(row["learner/sft_weight"] == 1 for row in found)
    # Where every task was solved by one of its samples, nothing is imitated.
    assert any(row.get("learner/sft_loss", 0) > 0 for row in found)
    assert [row.get("learner/pull_policy", 0) > 0 for row in found] == [True, False, True, False]
    moved = [row.get("kl/in_distribution", 0.0) for row in found]
    assert moved[0] == 0 and all(abs(each) > 0 for each in moved[1:])


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_imitation_says_after_each_update_how_far_it_has_moved(tmp_path: Path) -> None:
    options = ("cluster.dashboard=false", "cluster.iterations=4", "learner.model=models/nano_add_up", "data.count=512")
    told = ("evaluation.episodes=40", "evaluation.kl_to_start=16", "evaluation.kl_every=1")
    run = Run(tmp_path, "configs/nano/add_up_sft.yaml", *options, *told, kind="sft").result()
    moved = [row.get("kl/in_distribution", 0.0) for row in rows(run, "metrics")]
    assert moved[0] == 0 and all(0 < abs(each) < 0.1 for each in moved[1:]) and len(set(moved)) == 4
