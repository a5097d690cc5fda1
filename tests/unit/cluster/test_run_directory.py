"""A run's folder: nothing is overwritten, a torn line is the only damage, a torn checkpoint is never loaded."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import RunError
from cluster.record.checkpoints import MANIFEST, DamagedCheckpoint, verify_checkpoint
from cluster.record.files import DamagedRecord, append_rows, read_rows
from cluster.record.run_directory import RunDirectory

REPOSITORY = Path(__file__).parents[3]
FILES = {"learner.json": b'{"version": 3}', "rank-0/optimizer.bin": bytes(range(200)), "rank-1/empty": b""}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs", "nano")


def saved(run: RunDirectory, iteration: int, files: dict[str, bytes] | None = None) -> Path:
    partial = run.checkpoint_partial(iteration)
    for name, content in (FILES if files is None else files).items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    return run.commit_checkpoint(partial, iteration)


def test_every_run_has_a_folder_of_its_own_with_all_that_belongs_in_it(tmp_path: Path) -> None:
    runs = [RunDirectory.create(tmp_path, "nano") for _ in range(4)]
    assert len({run.path for run in runs}) == 4
    assert all(run.path.is_dir() and run.name.split("_")[1] == "nano" for run in runs)
    inner = {path.name for path in runs[0].path.iterdir()}
    assert inner == {"episodes", "images", "checkpoints", "failures"}


@pytest.mark.parametrize("name", ["", "a/b", "..\n", "a b", "../up"])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cluster\.name"):
        RunDirectory.create(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_only_the_folder_of_a_run_is_opened_as_one(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no config\.yaml"):
        RunDirectory.open(tmp_path)
    run.write_config("env:\n  name: add_up\n")
    again = RunDirectory.open(run.path)
    assert again.config.read_text() == "env:\n  name: add_up\n"


def test_rows_come_back_as_they_were_and_what_is_no_number_is_null(run: RunDirectory) -> None:
    row = {"iteration": np.int64(3), "loss": np.float32(0.5), "bad": math.nan, "far": [math.inf, 1.0], "arm": "größer"}
    run.append("metrics", row)
    run.append("metrics", {"iteration": 4, "flops": 10**20, "grid": np.arange(3)})
    assert run.rows("metrics") == [
        {"iteration": 3, "loss": 0.5, "bad": None, "far": [None, 1.0], "arm": "größer"},
        {"iteration": 4, "flops": 10**20, "grid": [0, 1, 2]},
    ]
    assert run.rows("evaluations") == []


def test_an_unknown_table_is_refused(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="there are metrics, evaluations"):
        run.append("metrisc", {})  # pyright: ignore[reportArgumentType]


rows = st.lists(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=4),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40)
@given(rows, st.data())
def test_a_file_torn_at_any_byte_loses_its_last_row_at_most_and_goes_on(
    written: list[dict[str, object]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        append_rows(path, written[:-1])
        before = path.stat().st_size if path.exists() else 0
        append_rows(path, written[-1:])
        end = data.draw(st.integers(before, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:end])
        left = read_rows(path)
        assert left in (written[:-1], written)
        append_rows(path, [{"after": 1}])
        assert read_rows(path) == [*left, {"after": 1}]


@pytest.mark.parametrize("damage", [b"", b"{torn", b"3", b"\x00\xff"])
def test_damage_in_the_middle_is_named_with_file_and_line(damage: bytes, run: RunDirectory) -> None:
    run.metrics.write_bytes(b'{"iteration":1}\n' + damage + b'\n{"iteration":3}\n')
    with pytest.raises(DamagedRecord, match=r"metrics\.jsonl, line 2"):
        run.rows("metrics")


def test_rows_after_an_iteration_are_forgotten_and_others_stay_byte_for_byte(run: RunDirectory) -> None:
    first = b'{"iteration": 1, "loss": 0.10}\n{"note":"no iteration"}\n{"iteration":2}\n'
    run.metrics.write_bytes(first + b'{"iteration":3}\n{"iteration":4}\n{"itera')
    assert run.truncate_after("metrics", "iteration", 2) == 2
    assert run.metrics.read_bytes() == first
    assert run.truncate_after("evaluations", "iteration", 2) == 0
    assert [path.name for path in run.path.iterdir() if path.is_file()] == ["metrics.jsonl"]


def test_a_process_killed_between_two_rows_leaves_both_readable(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from cluster.record.files import append_rows; "
        "path = Path(sys.argv[1]); append_rows(path, [{'row': 1}]); append_rows(path, [{'row': 2}]); os._exit(9)"
    )
    path = tmp_path / "rows.jsonl"
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=REPOSITORY, check=False)
    assert read_rows(path) == [{"row": 1}, {"row": 2}]


def test_a_committed_checkpoint_is_found_whole_and_an_unfinished_one_is_not(run: RunDirectory) -> None:
    path = saved(run, 12)
    run.checkpoint_partial(13)
    assert run.checkpoints() == [(12, path)]
    assert run.newest_checkpoint() == path
    verify_checkpoint(path)
    assert {name: (path / name).read_bytes() for name in FILES} == FILES


def _remove(file: Path, data: st.DataObject) -> None:
    file.unlink()


def _truncate(file: Path, data: st.DataObject) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])


def _flip(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory.create(tmp_path_factory.mktemp("torn"), "nano")
    saved(run, 1)
    saved(run, 2)
    return run


@pytest.mark.parametrize("damage", [_remove, _truncate, _flip])
@settings(max_examples=40)
@given(data=st.data())
def test_a_checkpoint_torn_at_any_byte_is_never_loaded(
    two_checkpoints: RunDirectory, damage: Callable[[Path, st.DataObject], None], data: st.DataObject
) -> None:
    older, newer = (path for _, path in two_checkpoints.checkpoints())
    damaged = data.draw(st.sampled_from(["learner.json", "rank-0/optimizer.bin", MANIFEST]))
    content = (newer / damaged).read_bytes()
    try:
        damage(newer / damaged, data)
        with pytest.raises(DamagedCheckpoint, match="use another checkpoint"):
            verify_checkpoint(newer)
        assert two_checkpoints.newest_checkpoint() == older
    finally:
        (newer / damaged).write_bytes(content)


def test_the_damage_is_named(run: RunDirectory) -> None:
    path = saved(run, 1)
    (path / "rank-1" / "empty").unlink()
    with pytest.raises(DamagedCheckpoint, match="rank-1/empty is missing"):
        verify_checkpoint(path)
    with pytest.raises(DamagedCheckpoint, match=r"no readable manifest\.json"):
        verify_checkpoint(run.path)


def test_a_checkpoint_written_again_replaces_the_damaged_one(run: RunDirectory) -> None:
    path = saved(run, 5)
    (path / "learner.json").write_bytes(b"torn")
    assert saved(run, 5, {"learner.json": b"new"}) == path
    verify_checkpoint(path)
    assert [each.name for each in run.checkpoints_folder.iterdir()] == ["000005"]


def test_what_an_earlier_attempt_left_is_no_part_of_the_next(run: RunDirectory) -> None:
    (run.checkpoint_partial(3) / "left over").write_bytes(b"from before")
    assert saved(run, 3, {"learner.json": b"{}"}).joinpath("left over").exists() is False


def test_a_link_is_no_part_of_a_checkpoint(run: RunDirectory, tmp_path: Path) -> None:
    partial = run.checkpoint_partial(1)
    (partial / "latest").symlink_to(tmp_path)
    with pytest.raises(RunError, match=r"latest: .* this is a link"):
        run.commit_checkpoint(partial, 1)
    assert run.checkpoints() == []


def test_pruning_keeps_the_newest_and_the_best(run: RunDirectory) -> None:
    for iteration in (1, 2, 3, 4, 5):
        saved(run, iteration)
    run.checkpoint_partial(6)
    assert run.prune(keep=2, best=2) == [1, 3]
    assert [iteration for iteration, _ in run.checkpoints()] == [2, 4, 5]
    assert sorted(path.name for path in run.checkpoints_folder.iterdir()) == ["000002", "000004", "000005"]
    assert run.prune(keep=5) == []


def test_pruning_counts_whole_checkpoints_alone(run: RunDirectory) -> None:
    """Were the damaged one counted, the only one that can be loaded would go."""
    whole = saved(run, 1)
    (saved(run, 2) / "learner.json").unlink()
    assert run.prune(keep=1) == []
    assert run.newest_checkpoint() == whole
    saved(run, 3)
    assert run.prune(keep=1) == [1, 2]


def test_keeping_no_checkpoint_is_refused(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run.prune(keep=0)
    with pytest.raises(ValueError, match="count from 0"):
        run.checkpoint_partial(-1)


def test_a_run_without_checkpoints_has_none(run: RunDirectory) -> None:
    shutil.rmtree(run.checkpoints_folder)
    assert run.checkpoints() == []
    assert run.newest_checkpoint() is None
    assert run.prune(keep=1) == []


def test_a_manifest_says_what_a_reader_wants_to_know(run: RunDirectory) -> None:
    manifest = json.loads((saved(run, 1) / MANIFEST).read_text())
    assert {name: entry["size"] for name, entry in manifest["files"].items()} == {
        name: len(content) for name, content in FILES.items()
    }
