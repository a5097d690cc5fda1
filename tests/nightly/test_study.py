"""The effect, at nano scale: at equal compute, imitation loses the rule that training never shows; play does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from study.report.rates import Rate
from study.report.records import Point, Study, read_study

ROOT = Path(__file__).parents[2]
SEED = 7
"""None that the recipe was found with, nor one of the published table."""
READ = "checks/numbers_read"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    files = ("configs/nano/gp_l.yaml", "configs/nano/demo.yaml")
    command = [sys.executable, "-m", "study.cli", "compare", *files, "--out", str(folder)]
    made = subprocess.run([*command, f"compare.seeds=[{SEED}]"], cwd=ROOT, check=False)
    assert made.returncode == 0
    assert (folder / "report.html").is_file()
    return read_study(folder)


def end_of(study: Study, arm: str, suite: str) -> Point:
    point = study.last(arm, SEED, suite)
    assert point is not None
    return point


def rate(study: Study, arm: str, suite: str, measure: str = "success") -> Rate:
    found = end_of(study, arm, suite).rate(measure)
    assert found is not None
    return found


def standard_error(found: Rate) -> float:
    assert found.low is not None and found.high is not None
    return (found.high - found.low) / 2 / 1.96


@pytest.mark.timeout(3600)
def test_both_arms_learn_the_rule_of_training(study: Study) -> None:
    before = rate(study, "init", "in_distribution")
    for arm in ("sft", "rl"):
        assert rate(study, arm, "in_distribution").value > before.value + 2 * standard_error(before)


@pytest.mark.timeout(3600)
def test_both_arms_have_the_same_compute(study: Study) -> None:
    assert study.budget is not None
    for arm in ("sft", "rl"):
        assert study.budget <= end_of(study, arm, "rule_shift").at(study.ledger) < 1.05 * study.budget


@pytest.mark.timeout(3600)
def test_imitation_forgets_the_shifted_rule(study: Study) -> None:
    assert rate(study, "sft", "rule_shift").value < 0.05
    assert rate(study, "sft", "rule_shift", READ).value < 0.80


@pytest.mark.timeout(3600)
def test_play_keeps_it(study: Study) -> None:
    before, after = rate(study, "init", "rule_shift"), rate(study, "rl", "rule_shift")
    assert after.value >= before.value - 2 * standard_error(before)
    assert after.value >= rate(study, "sft", "rule_shift").value + 0.05
    assert rate(study, "rl", "rule_shift", READ).value > 0.97
