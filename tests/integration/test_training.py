"""Whole runs on real Ray, vLLM and DeepSpeed: they learn, survive deaths, and go on exactly where they were stopped."""

import json
import os
import signal
import subprocess
import sys
import time
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
        self._processes: set[psutil.Process] = set()
        self._log = folder / f"log_{time.monotonic_ns()}.txt"
        command = [sys.executable, "-m", "cluster.cli", "rl", *words, f"cluster.folder={folder}"]
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def said(self) -> str:
        return self._log.read_text()

    def until(self, words: str) -> None:
        """Wait until it says so."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            self._note_processes()
            time.sleep(0.05)

    def _note_processes(self) -> None:
        try:
            self._processes |= set(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return

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
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said()
            self._note_processes()
            time.sleep(0.5)
        _, alive = psutil.wait_procs(self._processes, timeout=20)
        assert not alive, f"outlived the run: {alive}"
        return self.said()

    def result(self) -> Path:
        """The folder of a run that ended well."""
        said = self.ended()
        assert self.process.returncode == 0, said
        return Path(said.strip().splitlines()[-1])


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{table}.jsonl").read_text().splitlines()]


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
def test_a_stopped_run_goes_on_exactly(tmp_path: Path) -> None:
    options = ("configs/smoke.yaml", "cluster.dashboard=false", *SMALL, "cluster.iterations=5")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    expected = Run(tmp_path / "whole", *options).result()
    stopped = Run(tmp_path / "stopped", *options)
    stopped.until("iteration 2/5")
    stopped.process.send_signal(signal.SIGTERM)
    assert "go on with --resume" in stopped.ended()
    [run] = [each for each in (tmp_path / "stopped").iterdir() if each.is_dir()]
    assert len(rows(run, "metrics")) < 5
    assert Run(tmp_path / "stopped", "--resume", str(run)).result() == run
    for table in ("metrics", "evaluations"):
        assert [comparable(row) for row in rows(run, table)] == [comparable(row) for row in rows(expected, table)]
    ours, theirs = (load_file(each / "policy" / "model.safetensors") for each in (run, expected))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
