"""A process of an engine ends with its parent, even one that is stopped and looks at nothing."""

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rollout.orphans import die_with_parent

PARENT = """
import multiprocessing, sys, time
from tests.unit.rollout.test_orphans import child
process = multiprocessing.get_context("spawn").Process(target=child)
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""
ROOT = Path(__file__).parents[3]


def child() -> None:
    die_with_parent()
    print("ready", flush=True)
    time.sleep(600)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what the kernel does is Linux's")
def test_a_stopped_child_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    found = {parent.stdout.readline().strip() for _ in range(2)}
    assert "ready" in found
    [process] = [psutil.Process(int(line)) for line in found - {"ready"}]
    process.send_signal(signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)


def test_who_has_no_parent_of_that_kind_is_left_alone() -> None:
    assert multiprocessing.parent_process() is None
    die_with_parent()
