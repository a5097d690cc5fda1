"""A request to stop: what counts as one, where it is heard, and that it ends in any case."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import pytest

from cluster import stopping
from cluster.config import load_config, to_yaml
from cluster.errors import RunError
from cluster.leaving import short_grace
from cluster.options import ClusterConfig
from cluster.planning.resume_checks import changes
from cluster.record.run_directory import RunDirectory
from cluster.stopping import STOPPED, Interrupted, StopRequest, hear, heard_by_waits, stop_signals
from study.cli import main

ROOT = Path(__file__).parents[3]


def test_signals_of_one_moment_are_one_request_and_a_later_one_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` signals its child, and then the child's whole group."""
    stop = StopRequest(10)
    stop.ask()
    stop.ask()
    assert 9 < stop.seconds_left <= 10
    monkeypatch.setattr(stopping, "ONE_REQUEST_SECONDS", 0.0)
    stop.ask()
    assert stop.seconds_left == 0


def test_a_request_waits_for_what_changes_the_learner_as_long_as_a_stop_may_take() -> None:
    stop = StopRequest(0.3)
    stop.check()
    stop.is_patient = True
    stop.ask()
    stop.check()
    time.sleep(0.3)
    with pytest.raises(Interrupted):
        stop.check()


def test_a_wait_hears_the_request_soon_and_in_any_thread() -> None:
    stop, queue = StopRequest(10), SimpleQueue[str]()
    ended: list[tuple[type[BaseException], float]] = []

    def listen() -> None:
        try:
            with heard_by_waits(stop):
                hear(queue, 3600)
        except BaseException as error:
            ended.append((type(error), time.monotonic()))

    thread = Thread(target=listen)
    thread.start()
    time.sleep(0.3)
    assert not ended
    asked = time.monotonic()
    stop.ask()
    thread.join(5)
    [(kind, heard)] = ended
    assert kind is Interrupted and heard - asked < 1


def test_a_wait_that_nobody_interrupts_is_a_plain_one() -> None:
    queue = SimpleQueue[str]()
    started = time.monotonic()
    with pytest.raises(Empty):
        hear(queue, 0.5)
    with heard_by_waits(StopRequest(10)), pytest.raises(Empty):
        hear(queue, 0.5)
    assert 1 <= time.monotonic() - started < 1.5
    queue.put("word")
    assert hear(queue, 3600) == "word"


def asked_to_stop(program: str, folder: Path, *, times: int = 1) -> tuple[int, float, str]:
    """Exit status, seconds from the first SIGTERM to the end, and what was said; the program says when it runs."""
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    asked = time.monotonic()
    for number in range(times):
        time.sleep(1.2 * bool(number))
        process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    return process.returncode, time.monotonic() - asked, said


HEAD = "import time; from cluster.stopping import stop_signals, Interrupted\n"


def test_what_looks_for_no_request_is_left_when_the_time_is_over(tmp_path: Path) -> None:
    program = HEAD + (
        "with stop_signals(1.5):\n"
        "    print('runs', flush=True)\n"
        "    try:\n        time.sleep(60)\n"
        "    except Interrupted:\n        print('left')\n"
    )
    status, seconds, said = asked_to_stop(program, tmp_path)
    assert (status, said) == (0, "left\n") and 1.4 < seconds < 4


def test_a_second_request_leaves_it_at_once(tmp_path: Path) -> None:
    program = HEAD + (
        "with stop_signals(50):\n"
        "    print('runs', flush=True)\n"
        "    try:\n        time.sleep(60)\n"
        "    except Interrupted:\n        print('left')\n"
    )
    status, seconds, said = asked_to_stop(program, tmp_path, times=2)
    assert (status, said) == (0, "left\n") and seconds < 4


def test_what_does_not_close_ends_with_the_process(tmp_path: Path) -> None:
    program = HEAD + (
        "with stop_signals(0.5) as stop:\n"
        "    print('runs', flush=True)\n"
        "    stop.is_closing = True\n"
        "    end = time.monotonic() + 60\n"
        "    while time.monotonic() < end:\n        time.sleep(1)\n"
    )
    status, seconds, said = asked_to_stop(program, tmp_path)
    assert status == STOPPED and "does not close in time" in said and 4 < seconds < 8


def test_handlers_are_as_before_behind_the_block() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with stop_signals(30) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_made
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    assert after == before and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_run_is_open_in_one_process_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "held")
    program = (
        "import sys, time; from pathlib import Path; from cluster.record.run_directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).held():\n    print('runs', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(run.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "runs\n"
        told = f"another process has this run open .process {other.pid} on "
        with pytest.raises(RunError, match=told), run.held():
            pass
        other.kill()
    with run.held():
        pass


def config(folder: Path, *overrides: str) -> Any:
    told = [f"learner.model={ROOT / 'models/nano_add_up'}", f"cluster.folder={folder}", "cluster.name=one", *overrides]
    return load_config([ROOT / "configs" / "smoke.yaml"], told)


def words(folder: Path, *overrides: str) -> list[str]:
    options = (f"learner.model={ROOT / 'models/nano_add_up'}", f"cluster.folder={folder}", "cluster.name=one")
    return ["rl", str(ROOT / "configs" / "smoke.yaml"), "--resume", "auto", *options, *overrides]


def test_a_named_run_that_has_ended_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.at(tmp_path / "one")
    run.write_config(to_yaml(config(tmp_path)))
    run.end(20)
    assert main(words(tmp_path)) == 0
    assert "has ended, after iteration 20; nothing is done" in capsys.readouterr().err


def test_a_run_that_has_gone_on_has_not_ended(tmp_path: Path) -> None:
    run = RunDirectory.at(tmp_path / "one")
    assert run.ended_after is None
    run.end(20)
    assert run.ended_after == 20
    run.commit_checkpoint(run.checkpoint_partial(25), 25)
    assert run.ended_after is None


def test_what_a_named_run_does_otherwise_than_it_was_begun_with_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert changes(config(tmp_path), tmp_path / "one") == {}
    RunDirectory.at(tmp_path / "one").write_config(to_yaml(config(tmp_path)))
    assert main([*words(tmp_path, "cluster.iterations=40"), "--dry-run"]) == 0
    assert "cluster.iterations=40: the run was begun with 20; from here on it is this" in capsys.readouterr().err


def test_a_job_is_told_that_its_ray_would_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ClusterConfig(stop_timeout_seconds=10)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert short_grace(options) is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "kills this job 3 s after" in (told := short_grace(options) or "")
    assert '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "15"}}' in told
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "15")
    assert short_grace(options) is None
