"""Questions, one of each kind of machinery, asked in a short form of the real thing: they compute what they ask.

They share a Ray; the cells of one go on with the engine and the rank of those before.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from safetensors.torch import load_file

from cluster.record.files import read_rows
from study.cells import Study
from study.compare import compare
from study.questions import catalog
from study.questions.contrasts import contrasts_of, selections
from study.questions.page import Answer, keep, section
from study.questions.points import Kept, ends, points_of
from study.report.records import read_study

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 400
SHORT = (
    "compare.seeds=[0]",
    "compare.side_by_side=1",
    "compare.evaluations=1",
    "evaluation.episodes=12",
    "evaluation.kl_to_start=8",
    "cluster.episodes_per_iteration=8",
    "cluster.dashboard=false",
    "data.count=64",
    "compare.init.options={data: {count: 16}, cluster: {iterations: 1, episodes_per_iteration: 16}}",
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


class Asked:
    """A question that was asked in a short form."""

    def __init__(self, name: str, folder: Path, *changes: str) -> None:
        self.name, self.folder = name, folder / name
        config, self.question = catalog.load(name, [*SHORT, *changes])
        compare(Study.of(config, self.folder))
        self.study = read_study(self.folder)
        self.points = points_of(self.study, self.question)

    def rows(self, arm: str, table: str = "evaluations") -> list[dict[str, Any]]:
        return read_rows(self.folder / "cells" / f"{arm}_seed0" / f"{table}.jsonl")

    def weights(self, arm: str, inner: str = "policy") -> dict[str, torch.Tensor]:
        return load_file(self.folder / "cells" / f"{arm}_seed0" / inner / "model.safetensors")

    def one(self, arm: str, name: str, when: str = "end") -> Kept:
        return ends(self.points, arm, name, when)[0]


def without(*arms: str) -> list[str]:
    return [f"compare.arms.{arm}=null" for arm in arms]


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_starts_are_what_one_run_was_and_what_would_choose_them_is_judged(tmp_path: Path) -> None:
    asked = Asked(
        "checkpoints",
        tmp_path,
        "compare.sweep={start: [init@0, init@2, init@4]}",
        "compare.init.options.cluster.iterations=4",
        "compare.budget=1e9",
        "evaluation.generalisation_loss=8",
        "evaluation.pass_at=[1, 4]",
        "evaluation.suites.tries={episodes: 6, samples_per_task: 4}",
        "compare.question.selectors=[validation/generalisation_loss, tries/pass@4]",
    )
    measured = {row["iteration"] for row in asked.rows("init")}
    assert measured == {0, 2, 4}
    base = load_file(ROOT / "models" / "nano_gp_l" / "model.safetensors")
    early, last = asked.weights("init", "exports/iteration_000002"), asked.weights("init")
    assert any(not torch.equal(early[name], last[name]) for name in last)
    assert any(not torch.equal(early[name], base[name].float()) for name in base)
    by_step = {(row["iteration"], row["suite"]): row for row in asked.rows("init")}
    for step in (0, 2, 4):
        began = asked.one(f"rl_start_init-{step}", "rule_shift/success", "start")
        assert began.value == by_step[step, "rule_shift"]["success"]
    chosen = selections(asked.points, asked.question)
    assert [(each.by, each.starts) for each in chosen] == [("validation/generalisation_loss", 3), ("tries/pass@4", 3)]
    assert all("pass@4" not in row for row in asked.rows("init") if row["suite"] != "tries")


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_verdicts_err_where_a_policy_learns_and_nowhere_else(tmp_path: Path) -> None:
    asked = Asked(
        "noisy_verdicts",
        tmp_path,
        *without("rejection"),
        "compare.sweep={verifier: {noise: [0.0, 0.4]}}",
        "compare.budget=1e9",
        "compare.question.contrasts=[{first: rl_noise_0.4, second: rl_noise_0, by: in_distribution/success}]",
    )
    quiet, noisy = (asked.rows(f"rl_noise_{noise}", "metrics")[0] for noise in ("0", "0.4"))
    # The first answers are drawn alike.
    assert noisy["rollout/tasks"] == quiet["rollout/tasks"] and noisy["rollout/reward"] != quiet["rollout/reward"]
    assert not any("flipped" in name for row in asked.rows("rl_noise_0.4") for name in row)
    [contrast] = contrasts_of(asked.study, asked.question)
    of_first, of_second = (asked.one(f"rl_noise_{noise}", "in_distribution/success").value for noise in ("0.4", "0"))
    assert contrast.value == pytest.approx(of_first - of_second) and contrast.corrected == contrast.p


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_an_arm_goes_on_where_another_ended_and_one_learns_from_anothers_policy(tmp_path: Path) -> None:
    asked = Asked(
        "hybrid",
        tmp_path,
        *without("sft_slow", "rl", "hybrid", "hybrid_decay", "hybrid_gated", "hybrid_failed"),
        "compare.arms.sft_half.options.cluster.budget=2e10",
        "compare.arms.sft_then_rl.options.cluster.budget=1e9",
        "compare.arms.taught={command: rl, options: {cluster: {budget: 1e9}, learner: {rl_weight: 0}}}",
        "compare.arms.taught.options.learner.distillation.teacher='policy:sft_half'",
        "compare.question.contrasts=[{first: sft_then_rl, second: sft_half, by: rule_shift/success}]",
    )
    first, then = (
        asked.one(arm, "rule_shift/success", when) for arm, when in (("sft_half", "end"), ("sft_then_rl", "start"))
    )
    assert first.value == then.value
    assert then.flops == 0, "what a start has cost is another arm's"
    config = json.loads(json.dumps(asked.study.cells["sft_then_rl", 0].config))
    assert config["learner"]["model"].endswith("cells/sft_half_seed0/policy")
    assert asked.rows("taught", "metrics")[0]["learner/kl_teacher"] > 0


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_arms_imitate_under_several_rules_and_are_tested_alike(tmp_path: Path) -> None:
    asked = Asked(
        "wider_imitation",
        tmp_path,
        *without("sft_wordings", "sft_wordings_rules", "passed", "rl"),
        "compare.budget=2e10",
        "compare.question.contrasts=[{first: sft_rules, second: sft, by: rule_shift/success}]",
    )
    rules, plain = (asked.rows(arm) for arm in ("sft_rules", "sft"))
    assert [(row["suite"], row["success_n"], row["num_clusters"]) for row in rules] == [
        (row["suite"], row["success_n"], row["num_clusters"]) for row in plain
    ]
    parts = {name.split("/")[1] for name in asked.rows("sft_rules", "metrics")[0] if name.startswith("train/")}
    assert parts == {"ten", "falling", "rising", "mixed", "high"}
    [contrast] = contrasts_of(asked.study, asked.question)
    assert contrast.n == 12 and contrast.seeds == 1


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_run_is_measured_at_doubling_distances_and_its_distance_from_the_start_grows(tmp_path: Path) -> None:
    asked = Asked(
        "dip_and_recovery",
        tmp_path,
        "compare.sweep={learner: {optimizer: {learning_rate: [1.0e-4, 3.0e-3]}}}",
        "compare.arms.sft.options.cluster.evaluate_at=[1, 2, 4, 8]",
        "cluster.iterations=8",
        "compare.budget=null",
        "compare.question.figure={kind: scatter, x: rule_shift/kl_to_start, y: [rule_shift/success]}",
        "compare.question.contrasts=[{first: sft_learning_rate_0.003, by: rule_shift/success}]",
    )
    for arm in ("sft_learning_rate_0.0001", "sft_learning_rate_0.003"):
        assert sorted({row["iteration"] for row in asked.rows(arm)}) == [1, 2, 4, 8]
    near, far = (asked.one(f"sft_learning_rate_{rate}", "rule_shift/kl_to_start").value for rate in ("0.0001", "0.003"))
    assert abs(near) < abs(far), "what is drawn tells of it, so that next to nothing may be below nothing"
    keep(asked.study, asked.name, asked.question, tmp_path / "kept")
    answer = Answer.of(asked.name, tmp_path / "kept")
    assert answer is not None and "sft_learning_rate_0.003" in section(answer, "kept")


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_arms_end_where_they_are_good_enough_and_leave_a_checkpoint_of_it(tmp_path: Path) -> None:
    asked = Asked(
        "matched_success",
        tmp_path,
        *without("sft_slow"),
        # The first evaluation is good enough for one, and none is for the other.
        "compare.until={validation/success: 0.05}",
        "compare.arms.sft.options.cluster={evaluate_every: 2, until: {validation/success: 1.01}}",
        "compare.arms.rl.options.cluster={evaluate_every: 2}",
        "cluster.iterations=5",
        "compare.budget=null",
        "compare.question.contrasts=[{first: rl, second: sft, by: rule_shift/success}]",
    )
    steps = {arm: [row["iteration"] for row in asked.rows(arm, "metrics")] for arm in ("sft", "rl")}
    assert steps == {"sft": [1, 2, 3, 4, 5], "rl": [1, 2]}
    assert sorted({row["iteration"] for row in asked.rows("sft")}) == [2, 4, 5]
    assert sorted({row["iteration"] for row in asked.rows("rl")}) == [2]
    assert asked.one("rl", "validation/success").value >= 0.05
    rl = asked.folder / "cells" / "rl_seed0"
    assert [folder.name for folder in sorted((rl / "checkpoints").iterdir())][-1].endswith("000002")
    policy = load_file(rl / "policy" / "model.safetensors")
    assert any(not torch.equal(policy[name], tensor) for name, tensor in asked.weights("init").items())
