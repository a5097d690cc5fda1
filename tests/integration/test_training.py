"""Whole runs on real Ray, vLLM and DeepSpeed: they learn, survive deaths, and go on exactly where they were stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 420
SMALL = ("cluster.episodes_per_iteration=24", "evaluation.episodes=40", "cluster.checkpoint_every=2")


class Run:
    """A `ruleshift` command in a process of its own, and the folder of its run."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self._log = folder / f"log_{time.monotonic_ns()}.txt"
        command = [sys.executable, "-m", "cluster.cli", "rl", *words, f"cluster.folder={folder}"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=self._log.open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )

    def said(self) -> str:
        return self._log.read_text()

    def until(self, words: str) -> None:
        """Wait until it says so."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def actor(self, kind: str) -> psutil.Process:
        """One of its actors' processes."""
        [found] = [
            each
            for each in psutil.Process(self.process.pid).children(recursive=True)
            if " ".join(each.cmdline()).startswith(f"ray::{kind}")
        ]
        return found

    def ended(self) -> str:
        """Wait for its end; everything it said."""
        self.process.wait(TIMEOUT_SECONDS)
        return self.said()

    def result(self) -> Path:
        """The folder of a run that ended well."""
        said = self.ended()
        assert self.process.returncode == 0, said
        return Path(said.strip().splitlines()[-1])


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{table}.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = {each.pid for each in psutil.process_iter()}
    yield tmp_path
    left = [
        each
        for each in psutil.process_iter(["cmdline"])
        if each.pid not in before and "VLLM::" in " ".join(each.info["cmdline"] or [])
    ]
    assert not left, "an engine outlived its run"


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_smoke_learns(folder: Path) -> None:
    run = Run(folder, "configs/smoke.yaml", "cluster.dashboard=false").result()
    before, after = rows(run, "evaluations")
    assert before["success"] < 0.5
    assert after["success"] > before["success"] + 0.15
    assert all(row["push/gap"] < 1e-4 for row in rows(run, "metrics"))
    assert (run / "policy" / "model.safetensors").is_file()


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_run_survives_the_death_of_a_worker_and_of_a_rank(folder: Path) -> None:
    run = Run(folder, "configs/smoke.yaml", "cluster.dashboard=false", *SMALL, "cluster.iterations=6")
    run.until("iteration 1/6")
    run.actor("RolloutWorker").send_signal(signal.SIGKILL)
    run.until("iteration 3/6")
    run.actor("LearnerWorker").send_signal(signal.SIGKILL)
    finished = run.result()
    assert "start anew from the newest checkpoint" in run.said()
    found = rows(finished, "metrics")
    assert [row["iteration"] for row in found] == list(range(1, 7))
    assert all(row["rollout/episodes"] == 24 for row in found)


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Without what the clock says, and what two ways of adding up the same numbers differ by."""
    return {
        name: value
        for name, value in row.items()
        if not name.startswith("seconds/")
        and "device_seconds" not in name
        and "rollout_gap" not in name
        and name != "push/gap"
    }


@pytest.mark.timeout(3 * TIMEOUT_SECONDS)
def test_a_stopped_run_goes_on_exactly(folder: Path) -> None:
    options = ("configs/smoke.yaml", "cluster.dashboard=false", *SMALL, "cluster.iterations=5")
    for name in ("whole", "stopped"):
        (folder / name).mkdir()
    expected = Run(folder / "whole", *options).result()
    stopped = Run(folder / "stopped", *options)
    stopped.until("iteration 2/5")
    stopped.process.send_signal(signal.SIGTERM)
    assert "go on with --resume" in stopped.ended()
    [run] = [each for each in (folder / "stopped").iterdir() if each.is_dir()]
    assert len(rows(run, "metrics")) < 5
    assert Run(folder / "stopped", "--resume", str(run)).result() == run
    for table in ("metrics", "evaluations"):
        assert [comparable(row) for row in rows(run, table)] == [comparable(row) for row in rows(expected, table)]
    ours, theirs = (load_file(each / "policy" / "model.safetensors") for each in (run, expected))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
