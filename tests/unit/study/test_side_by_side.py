"""Which actor makes which cell, and how long it keeps what the cell has left."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cluster.config import parse_config
from cluster.stopping import StopRequest
from study import side_by_side
from study.cells import Cell, Study
from study.progress import StudyProgress
from study.side_by_side import make_side_by_side


def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arms: list[str], *, stays: bool) -> list[tuple[str, int]]:
    """What each lane did, in order: the cell that it made, or `closes`; rl `ends` when the lane of sft has closed."""
    did, sft_has_closed, lane_of_sft = list[tuple[str, int]](), Event(), list[int]()

    def make(cell: Cell, _stop: StopRequest, _shown: StudyProgress, train: Any) -> None:
        number = train.__self__._number
        did.append((cell.name, number))
        if cell.name == "sft":
            lane_of_sft.append(number)
        elif cell.name == "rl":
            sft_has_closed.wait(5)
            did.append(("ends", number))

    def close(lane: Any) -> None:
        did.append(("closes", lane._number))
        if lane._number in lane_of_sft:
            sft_has_closed.set()

    monkeypatch.setattr(side_by_side._Lane, "close", close)
    compare = {"init": {"command": "sft"}, "arms": {name: {"command": name} for name in arms}}
    study = Study.of(parse_config({"env": {"name": "add_up"}, "compare": compare}), tmp_path)
    shown = StudyProgress(study.cells, 2, tmp_path / "log.txt")
    make_side_by_side(study.cells, StopRequest(1.0), shown, width=2, stays=stays, make=make)
    return did


def test_who_made_the_start_goes_on_with_the_arm_that_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did = dict(made(tmp_path, monkeypatch, ["sft"], stays=True))
    assert did["init"] == did["sft"]


def test_all_is_kept_while_a_cell_waits_and_given_back_when_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did = made(tmp_path, monkeypatch, ["sft", "rl"], stays=True)
    names = [name for name, _ in did]
    assert "closes" not in names[: max(names.index("sft"), names.index("rl"))]
    # The shorter arm's lane is not kept until the longer one has ended.
    [shorter] = [lane for name, lane in did if name == "sft"]
    assert ("closes", shorter) in did[: did.index(("ends", shorter ^ 1))]


def test_where_another_may_wait_for_room_it_is_given_back_behind_each_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did = made(tmp_path, monkeypatch, ["sft", "rl"], stays=False)
    for place, (name, lane) in enumerate(did):
        if name in ("init", "sft"):
            assert next(other for other, number in did[place + 1 :] if number == lane) == "closes"
