"""A thread beside the learner's computes alone, and leaves the learner's team as it was."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from learner.own_thread import own_thread

TEAM = 3
SIZE = 1 << 20


@pytest.fixture
def team() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(TEAM)
    torch.ones(SIZE).exp()
    yield
    torch.set_num_threads(before)


def num_threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.usefixtures("team")
def test_what_it_computes_makes_no_second_team() -> None:
    with own_thread("beside") as executor:
        before = num_threads()
        told = executor.submit(lambda: (torch.ones(SIZE).exp().sum().item(), torch.get_num_threads())).result()
        assert told == (pytest.approx(SIZE * 2.718281828, rel=1e-4), 1)
        assert num_threads() == before
        # Neither the learner's team nor that of a thread which comes later is another.
        with ThreadPoolExecutor(1) as later:
            assert torch.get_num_threads() == later.submit(torch.get_num_threads).result() == TEAM


@pytest.mark.usefixtures("team")
def test_an_ordinary_thread_would_make_one() -> None:
    before, grown = num_threads(), []

    def compute() -> None:
        torch.ones(SIZE).exp()
        grown.append(num_threads() - before)

    ordinary = threading.Thread(target=compute)
    ordinary.start()
    ordinary.join()
    assert grown == [TEAM]  # itself, and two who help it


def test_no_thread_of_the_learner_is_an_ordinary_one() -> None:
    learner = Path(__file__).parents[3] / "learner"
    made = {file.name for file in learner.glob("**/*.py") if "ThreadPoolExecutor(" in file.read_text(encoding="utf-8")}
    # Those that write and hash files compute nothing.
    assert made == {"own_thread.py", "checkpoint_files.py"}
