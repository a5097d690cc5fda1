"""Whole runs on a disk that fills up: room is made while that can be done, then it is told, and nothing is lost."""

import re
from pathlib import Path

import pytest

from cluster.record.checkpoints import verify_checkpoint
from cluster.record.disk import fill
from cluster.record.run_directory import RunDirectory
from tests.support.runs import TIMEOUT_SECONDS, Run, rows
from tests.support.small_disk import small_disk

SMALL = ("cluster.episodes_per_iteration=24", "evaluation.episodes=40", "cluster.iterations=12")
KEPT = ("cluster.checkpoint_every=1", "cluster.keep_checkpoints=100", "cluster.transcripts_every=1")
DISK_BYTES = 200 * 2**20


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_run_on_a_disk_that_fills_up_is_told_keeps_its_newest_checkpoint_and_goes_on(tmp_path: Path) -> None:
    with small_disk(DISK_BYTES) as disk:
        first = Run(tmp_path, "configs/smoke.yaml", "cluster.dashboard=false", *SMALL, *KEPT, disk=disk)
        first.until("iteration 2/12")
        [folder] = disk.seen.iterdir()
        run = RunDirectory(folder)
        size = run.checkpoint_bytes()
        # Room for no more than one and a half: older ones have to go.
        ballast = fill(folder, size * 3 // 2)
        first.until("have made room for another")
        assert re.search(r"only \d+\.\d MB are free, and a checkpoint takes \d+\.\d MB", first.said())
        ballast.unlink()
        ballast = fill(folder, 0)
        said = first.ended()
        assert first.process.returncode == 2, said
        assert "Traceback" not in said
        told = said.strip().splitlines()[-1]
        assert re.match(rf"ruleshift: {disk.path}/\S+: the disk is full: .*free; make room there and start again", told)

        *_, (iteration, newest) = run.checkpoints()
        verify_checkpoint(newest)
        assert not list(run.checkpoints_folder.glob("*.partial"))
        assert [row["iteration"] for row in rows(folder, "metrics")][:iteration] == list(range(1, iteration + 1))
        ballast.unlink()
        again = Run(tmp_path, "--resume", str(disk.path / folder.name), disk=disk)
        said = again.ended()
        assert again.process.returncode == 0, said
        assert [row["iteration"] for row in rows(folder, "metrics")] == list(range(1, 13))
        assert (folder / "policy" / "model.safetensors").is_file()
