"""A study on real Ray, vLLM and DeepSpeed: stopped and started again, or made side by side, it comes to the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config import load_words
from study.cells import Study
from study.compare import compare
from study.report.build import build_report
from tests.support.runs import Run

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 420
CONFIG = """
env: {name: add_up, largest: 9, max_attempts: 2}
rollout:
  max_answer_tokens: 16
  engine: {max_context_tokens: 256, cpu_cache_gib: 0.25}
learner:
  model: models/nano_add_up
  minibatches: 2
  optimizer: {learning_rate: 1.0e-3}
  value_head: {stop_gradient: true}
  loss: {importance_cap: null}
data: {count: 64}
evaluation: {episodes: 30, suites: {in_distribution: {split: train, title: training rule}}}
cluster: {dashboard: false, iterations: 1000, episodes_per_iteration: 24, checkpoint_every: 1, keep_checkpoints: 1}
compare:
  budget: 2.0e+10
  evaluations: 2
  temperatures: [0.0]
  init: {command: sft, options: {cluster: {iterations: 2, evaluate_at_start: false}}}
  arms:
    sft: {command: sft}
    hybrid: {command: rl, options: {cluster: {demonstrations_per_iteration: 8}}}
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "study.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def side_by_side(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The study with both arms at the same time."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        config = load_words(
            [str(config_file), "compare.side_by_side=2", f"learner.model={ROOT / 'models/nano_add_up'}"]
        )
        yield compare(Study.of(config, tmp_path_factory.mktemp("studies") / "side_by_side"))
    finally:
        ray.shutdown()


def rows(study: Path) -> dict[str, list[dict[str, Any]]]:
    """The evaluations of each cell, without what the clock says."""
    return {
        folder.name: [
            {name: value for name, value in json.loads(line).items() if "seconds" not in name}
            for line in (folder / "evaluations.jsonl").read_text().splitlines()
        ]
        for folder in sorted((study / "cells").iterdir())
    }


def started(config: Path, study: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "study.cli", "compare", str(config), "--out", str(study)]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


def until(process: "subprocess.Popen[bytes]", log: Path, words: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while words not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_both_arms_begin_at_one_policy_and_end_at_equal_compute(side_by_side: Path) -> None:
    found = rows(side_by_side)
    assert set(found) == {"init_seed0", "sft_seed0", "hybrid_seed0"}
    for arm in ("sft_seed0", "hybrid_seed0"):
        spent = [row["compute/flops"] for row in found[arm]]
        # One iteration more or less would be further from the budget.
        assert abs(spent[-1] - 2e10) <= spent[-1] / found[arm][-1]["iteration"] / 2
        assert sorted({row["temperature"] for row in found[arm] if row["compute/flops"] == spent[-1]}) == [0.0, 1.0]
        assert {row["temperature"] for row in found[arm] if row["compute/flops"] != spent[-1]} == {1.0}
    page, numbers = build_report(side_by_side)
    assert page.is_file() and "training rule, tasks solved: init" in numbers[0]


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_hybrid_learns_from_play_and_from_demonstrations_at_once(side_by_side: Path) -> None:
    lines = (side_by_side / "cells" / "hybrid_seed0" / "metrics.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        assert row["learner/sft_loss"] > 0 and "learner/policy_loss" in row
        assert row["rollout/learned_from"] <= 24


@pytest.mark.timeout(3 * TIMEOUT_SECONDS)
def test_a_study_that_was_stopped_goes_on_and_comes_to_the_same(
    side_by_side: Path, config_file: Path, tmp_path: Path
) -> None:
    ray.shutdown()
    study, log = tmp_path / "study", tmp_path / "log.txt"
    process = started(config_file, study, log)
    until(process, log, "rl | learn | iteration 2/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 130, log.read_text()
    assert "start the study again to go on" in log.read_text()
    finished = {name: os.stat(study / "cells" / name / "cell.json") for name in ("init_seed0", "sft_seed0")}
    again = started(config_file, study, log)
    assert again.wait(TIMEOUT_SECONDS) == 0, log.read_text()
    assert rows(study) == rows(side_by_side)
    for name, before in finished.items():
        after = os.stat(study / "cells" / name / "cell.json")
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (study / "report.html").is_file()


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_cells_side_by_side_stop_together_and_leave_nothing(config_file: Path, tmp_path: Path) -> None:
    ray.shutdown()
    study = tmp_path / "study"
    words = ("compare.side_by_side=2", "cluster.cores_per_run=1", "compare.budget=1.0e+15")
    run = Run(tmp_path, str(config_file), "--out", str(study), *words, kind="compare")
    logs = [study / "cells" / f"{arm}_seed0" / "log.txt" for arm in ("sft", "hybrid")]
    for log in logs:
        run.until("iteration 2/", log=log)
    assert run.stopped(run.process.terminate) <= 15, run.said()
    assert run.process.returncode == 130 and "start the study again to go on" in run.said()
    for log in logs:
        assert "the newest checkpoint is that of iteration" in log.read_text()


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_study_of_another_configuration_is_refused_before_anything_starts(
    side_by_side: Path, config_file: Path
) -> None:
    command = [sys.executable, "-m", "study.cli", "compare", str(config_file), "--out", str(side_by_side)]
    made = subprocess.run([*command, "learner.epochs=2"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert "this cell was made with another configuration" in made.stderr
