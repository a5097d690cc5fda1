"""A disk that fills up at any moment: what is told, what stays whole, and that it goes on once there is room."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import load_config
from cluster.errors import RunError
from cluster.planning.disk_checks import expected_checkpoint_bytes
from cluster.planning.hardware import look
from cluster.planning.plan import make_plan
from cluster.record.checkpoints import Checkpoints, verify_checkpoint
from cluster.record.console import Progress
from cluster.record.disk import DiskFull, fill, free_bytes, in_bytes, told_when_full
from cluster.record.files import append_rows, read_rows, replace
from cluster.record.run_directory import RunDirectory
from learner.checkpoint_files import PIECE_BYTES, CheckpointFiles, WrittenFile, room_for_copies
from tests.support.small_disk import small_disk

DISK_BYTES = 4 * 2**20
STATE = {"weights": torch.arange(120_000.0), "step": 3}
"""Half a megabyte."""


@pytest.fixture(scope="module")
def run() -> Iterator[RunDirectory]:
    """One with a checkpoint, on a small disk."""
    with small_disk(DISK_BYTES) as disk:
        run = RunDirectory.create(disk.seen / "runs", "small")
        write(run, 1)
        yield run


@contextmanager
def full(folder: Path, leave_bytes: int = 0) -> Iterator[None]:
    """The folder's disk has no more room than that."""
    ballast = fill(folder, leave_bytes)
    try:
        yield
    finally:
        ballast.unlink()


def write(run: RunDirectory, iteration: int, room: int = 2**20) -> Path:
    """A checkpoint as two ranks write it; OSError or DiskFull where there is no room for it."""
    partial = run.checkpoint_partial(iteration)
    ranks = [CheckpointFiles(room) for _ in range(2)]
    for rank, files in enumerate(ranks):
        files.save({**STATE, "rank": rank}, partial / f"rank_{rank}.pt")
        files.write('{"step": 3}', partial / f"rank_{rank}.json")
    written: dict[Path, WrittenFile] = {}
    for files in ranks:
        found = files.written(wait=True)
        assert found is not None
        if found.fault:
            raise found.fault
        written |= found.files
    return run.commit_checkpoint(partial, iteration, written)


@settings(max_examples=60, deadline=None)
@given(left=st.integers(0, 2**20 + 2**17), room=st.sampled_from([1, 2**16, 2**24]))
def test_a_disk_that_fills_up_at_any_write_leaves_the_newest_checkpoint_whole(
    run: RunDirectory, left: int, room: int
) -> None:
    [(iteration, before)] = run.checkpoints()
    with full(run.path, left):
        try:
            with told_when_full(run.path):
                write(run, iteration + 1, room)
        except DiskFull:
            assert run.newest_checkpoint() == before
        else:
            verify_checkpoint(run.checkpoints()[-1][1])
        verify_checkpoint(before)
    newest = write(run, iteration + 1, room)
    assert run.newest_checkpoint() == newest
    assert torch.load(newest / "rank_1.pt")["weights"].equal(STATE["weights"])
    assert run.prune(1) == [iteration]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 30_000), min_size=1, max_size=8), left=st.integers(0, 60_000))
def test_rows_are_written_whole_or_not_at_all_and_go_on_when_there_is_room(
    run: RunDirectory, lengths: list[int], left: int
) -> None:
    rows = [{"row": number, "text": "x" * length} for number, length in enumerate(lengths)]
    path, kept = run.path / "rows.jsonl", []
    try:
        with full(run.path, left):
            for row in rows:
                try:
                    append_rows(path, [row])
                    kept.append(row)
                except DiskFull:
                    continue
            assert path.read_bytes().count(b"\n") == len(kept)
            assert read_rows(path) == kept
        append_rows(path, [{"after": 1}])
        assert read_rows(path) == [*kept, {"after": 1}]
    finally:
        path.unlink(missing_ok=True)


def test_a_file_that_cannot_be_replaced_stays_and_nothing_lies_beside_it(run: RunDirectory) -> None:
    run.write_config("env: {}\n")
    with (
        full(run.path),
        pytest.raises(
            DiskFull, match=r"config\.yaml: the disk is full: 900\.0 kB are needed and 0\.0 kB are free; make"
        ),
    ):
        replace(run.config, b"x" * 900_000)
    assert run.config.read_text() == "env: {}\n"
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_a_line_that_the_log_has_no_room_for_is_no_traceback(run: RunDirectory) -> None:
    progress = Progress("rl", 3, log=run.log, is_terminal=False)
    progress.say("before")
    with full(run.path), pytest.raises(DiskFull, match=r"log\.txt: the disk is full"):
        progress.say("x" * 10_000)
    progress.say("after")
    assert [line.rpartition("| ")[2] for line in run.log.read_text().splitlines()] == ["before", "after"]


def test_room_is_made_before_it_is_needed_but_never_of_what_the_run_stands_on_or_the_best() -> None:
    with small_disk(DISK_BYTES) as disk:
        run = RunDirectory.create(disk.seen / "runs", "several")
        for iteration in (1, 2, 3):
            write(run, iteration)
        size = run.checkpoint_bytes()
        assert 960_000 < size < 970_000
        assert run.make_room(1, standing=3) == []
        (run.checkpoint_partial(4) / "left over").write_bytes(b"x" * 500_000)
        with full(run.path, size // 2):
            # Number 3 may be damaged, for all that is known: the run stands on another.
            assert run.make_room(size, standing=2) == [1]
            with pytest.raises(
                DiskFull, match=r"checkpoints: the disk is full: 4\.0 MB are needed and \d\.\d MB are free"
            ):
                run.make_room(4_000_000, standing=3, best=2)
        assert sorted(path.name for path in run.checkpoints_folder.iterdir()) == ["000002", "000003"]


def test_a_plan_says_where_checkpoints_have_too_little_room() -> None:
    with small_disk(DISK_BYTES) as disk:
        config = load_config(["configs/smoke.yaml"], [f"cluster.folder={disk.seen}/runs", "cluster.keep_checkpoints=5"])
        size = expected_checkpoint_bytes(config)
        [told] = (note for note in make_plan(config, "rl", look()).notes if note.key == "cluster.keep_checkpoints")
        assert f"take {in_bytes(6 * size)}, {in_bytes(size)} each, and 4.2 MB are free" in told.rule
        for silent in (make_plan(config, "evaluate", look()), make_plan(config, "rl", look(), elsewhere=True)):
            assert not any(note.key == "cluster.keep_checkpoints" for note in silent.notes)


def test_ballast_leaves_what_is_asked_for() -> None:
    with small_disk(DISK_BYTES) as disk, full(disk.seen, 100_000):
        assert 90_000 < free_bytes(disk.seen / "not yet" / "made") <= 100_000


def test_other_errors_and_other_mistakes_are_passed_on(tmp_path: Path) -> None:
    for error in (OSError(errno.EACCES, "denied"), RunError("No space left on device, says a worker"), ValueError("x")):
        with pytest.raises(type(error)) as raised, told_when_full():
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/dev/null"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/dev/null"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_whoever_finds_it(error: Exception) -> None:
    with pytest.raises(DiskFull, match=r"/dev/null: the disk is full"), told_when_full(Path("/dev/null")):
        raise error


def test_what_ranks_wrote_elsewhere_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    partial = checkpoints.begin(1)
    written = {partial / "rank_0.pt": WrittenFile(size=3, sha256="0")}
    with pytest.raises(RunError, match=r"rank_0\.pt: .* set cluster\.folder to a folder that all hosts see"):
        checkpoints.commit(partial, 1, written)
    assert checkpoints.whole() == []


def test_a_copy_is_of_the_moment_it_is_taken(tmp_path: Path) -> None:
    """The file is written only while the state is another one already."""
    weights = torch.zeros(3 * PIECE_BYTES // 4)
    files = CheckpointFiles(room=2**30)
    files.save({"weights": weights, "tied": weights[:2]}, tmp_path / "state.pt")
    weights += 1
    assert files.written(wait=True) is not None
    found = torch.load(tmp_path / "state.pt")
    assert not found["weights"].any() and found["tied"].data_ptr() == found["weights"].data_ptr()


def test_copies_have_a_share_of_the_memory_that_is_free() -> None:
    assert 2**20 < room_for_copies(1) < 2**46
    assert abs(room_for_copies(4) * 4 / room_for_copies(1) - 1) < 0.5


def test_a_disk_is_filled_while_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between asking for room and taking it, somebody else has taken some."""
    with small_disk(DISK_BYTES) as disk:

        def free_before_another_wrote(path: Path) -> int:
            monkeypatch.undo()
            free = free_bytes(path)
            (disk.seen / "other").write_bytes(b"x" * 40_960)
            return free

        monkeypatch.setattr("cluster.record.disk.free_bytes", free_before_another_wrote)
        fill(disk.seen, 8192)
        assert free_bytes(disk.seen) == 8192
