"""A run that is stopped at random moments of every phase, and each time goes on, is the run that nobody stopped."""

import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from safetensors.torch import load_file

from cluster.record.run_directory import RunDirectory
from tests.support.runs import TELLING, TIMEOUT_SECONDS, Run, rows

SECONDS = 15.0
"""From the request to the end of the process, at the most."""
SMALL = ("cluster.dashboard=false", "cluster.episodes_per_iteration=24", "evaluation.episodes=40")
WORDS = (
    "configs/smoke.yaml",
    *("cluster.dashboard=false", "cluster.iterations=4", "cluster.checkpoint_every=2", "cluster.evaluate_every=3"),
)
STOPS = {
    "from the first moment on": (
        ("ray", 1, "it had not begun"),
        ("actors", 1, "in phase start; there is no checkpoint yet"),
        ("evaluate", 1, "in phase evaluate, after iteration 0; there is no checkpoint yet"),
        ("rollout", 2, "in phase rollout, after iteration 1; the newest checkpoint is that of iteration 1"),
        ("learn", 1, "the newest checkpoint is that of iteration 2"),
    ),
    "between updates": (
        ("push", 2, "the newest checkpoint is that of iteration 1"),
        ("checkpoint", 1, "the newest checkpoint is that of iteration 2"),
        ("evaluate", 1, "in phase evaluate, after iteration 3; the newest checkpoint is that of iteration 3"),
        ("rollout", 1, "in phase rollout, after iteration 3; the newest checkpoint is that of iteration 3"),
    ),
}
"""In which phase, which one of the process, and where it stands then. Each process goes on from where the one before
has stopped."""
WAYS = ("SIGTERM group", "SIGINT group", "SIGTERM process")
"""As a batch system asks, a terminal, and `ray job stop`."""
LONGEST = {"ray": 2.0, "actors": 6.0}
"""How long after the beginning of a phase it may be asked; others are short."""


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Run(tmp_path_factory.mktemp("undisturbed"), *WORDS).result()


@pytest.mark.nightly
@pytest.mark.timeout(5 * TIMEOUT_SECONDS)
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
def test_stopped_in_every_phase_it_ends_soon_and_is_the_run_that_nobody_stopped(
    stops: tuple[tuple[str, int, str], ...], undisturbed: Path, tmp_path: Path
) -> None:
    moments, words = Random(16), (*WORDS, "--resume", "auto")
    for number, (phase, which, where) in enumerate(stops):
        moment = moments.uniform(0, LONGEST.get(phase, 0.1))
        run = Run(tmp_path, *words, program=TELLING, stop_in=f"{phase} {which} {moment:.3f} {WAYS[number % len(WAYS)]}")
        said = run.ended(0.05)
        seconds = time.time() - float(said.partition("[asked] ")[2].split()[0])
        print(f"{phase:10} {seconds:4.1f} s  {said.strip().splitlines()[-1]}")
        assert run.process.returncode == 130 and where in said, said
        assert f"go on with `ruleshift rl --resume {tmp_path / 'smoke'}`" in said
        assert seconds <= SECONDS, said
    finished = Run(tmp_path, *words).result()
    assert finished == tmp_path / "smoke"
    for table in ("metrics", "evaluations"):
        found, expected = ([comparable(row) for row in rows(run, table)] for run in (finished, undisturbed))
        assert found == expected
    ours, theirs = (load_file(each / "policy" / "model.safetensors") for each in (finished, undisturbed))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert not list(finished.glob("**/*.partial*"))
    assert "has ended, after iteration 4; nothing is done" in Run(tmp_path, *words).ended()


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_one_whose_step_takes_too_long_ends_where_its_last_checkpoint_was(tmp_path: Path) -> None:
    options = (*SMALL, "cluster.iterations=9", "cluster.checkpoint_every=2", "cluster.stop_timeout_seconds=1")
    # An update of thousands of epochs does not end within the second.
    words = ("configs/smoke.yaml", *options, "learner.epochs=5000", "cluster.evaluate_at_start=false")
    run = Run(tmp_path, *words, program=TELLING)
    run.until("[learn]")
    # Its second, and what closing takes where other work goes on beside it.
    assert run.stopped(run.process.terminate) <= 1 + SECONDS - 6
    assert "in phase learn, after iteration 0; there is no checkpoint yet" in run.said()
    assert run.process.returncode == 130


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_named_imitation_stops_while_demonstrations_are_made_and_is_open_once(tmp_path: Path) -> None:
    words = ("configs/nano/add_up_sft.yaml", *SMALL, "cluster.iterations=4", "learner.model=models/nano_add_up")
    words += ("cluster.name=named", "--resume", "auto")
    with RunDirectory.at(tmp_path / "named").held():
        refused = Run(tmp_path, *words, kind="sft")
        assert "another process has this run open" in refused.ended() and refused.process.returncode == 2
    first = Run(tmp_path, *words, "data.count=200000", kind="sft", program=TELLING)
    first.until("[demonstrations]")
    assert first.stopped(first.process.terminate) <= SECONDS
    assert "in phase demonstrations, after iteration 0" in first.said()
    second = Run(tmp_path, *words, "data.count=512", kind="sft").result()
    assert [row["iteration"] for row in rows(second, "metrics")] == [1, 2, 3, 4]
