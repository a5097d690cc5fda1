"""A study says which cell of how many it makes, and the time left of the whole."""

import io
from pathlib import Path

import pytest

from cluster.config import parse_config
from study.cells import Cell, Study
from study.marks import Mark, expected_seconds, mark_of, seconds_left, write_mark
from study.progress import StudyProgress

COMPARE = {"arms": {"sft": {"command": "sft"}, "rl": {"command": "rl"}}, "init": {"command": "sft"}, "seeds": [0, 1]}


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    config = parse_config({"env": {"name": "add_up"}, "compare": COMPARE})
    found = Study.of(config, tmp_path).cells
    for cell in found:
        cell.folder.mkdir(parents=True)
    return found


def test_every_line_says_where_the_study_is_and_when_it_will_end(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    now, stream = [0.0], io.StringIO()
    shown = StudyProgress(cells, 1, tmp_path / "log.txt", stream=stream, clock=lambda: now[0])
    shown.say(shown.standing())
    for cell, seconds in zip(cells[:3], (60, 120, 600), strict=True):
        shown.begins(cell)
        now[0] += seconds
        write_mark(cell, is_done=True, seconds=seconds)
        shown.made(cell)
    shown.begins(cells[3])
    now[0] += 45
    shown.say(shown.standing())
    assert stream.getvalue().splitlines() == [
        "study | 0 of 6 cells made",
        "study | init_seed0 begins, cell 1 of 6",
        "study | init_seed0 made in 1 min | 1 of 6 cells made | 5 min left",
        "study | sft_seed0 begins, cell 2 of 6 | 5 min left",
        "study | sft_seed0 made in 2 min | 2 of 6 cells made | 6 min left",
        "study | rl_seed0 begins, cell 3 of 6 | 6 min left",
        "study | rl_seed0 made in 10 min | 3 of 6 cells made | 13 min left",
        "study | init_seed1 begins, cell 4 of 6 | 13 min left",
        "study | 3 of 6 cells made, 1 under way | 12 min left",
    ]
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[9:] for line in log] == stream.getvalue().splitlines()


def test_a_study_that_goes_on_knows_how_long_its_cells_took(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    write_mark(cells[0], is_done=True, seconds=60)
    shown = StudyProgress(cells, 2, tmp_path / "log.txt", stream=io.StringIO())
    assert shown.standing() == "1 of 6 cells made | 2 min left"


def test_cells_side_by_side_end_earlier_and_never_before_the_longest_one(cells: tuple[Cell, ...]) -> None:
    marks = {cell.folder: Mark() for cell in cells}
    assert seconds_left(cells, marks, {}, 1) is None
    for cell, seconds in zip(cells[:3], (10, 20, 300), strict=True):
        marks[cell.folder] = Mark(digest="x", is_done=True, seconds=seconds)
    assert seconds_left(cells, marks, {}, 1) == 330
    assert seconds_left(cells, marks, {}, 2) == 300
    assert seconds_left(cells, marks, {cells[5].folder: 250.0}, 2) == 50
    marks[cells[5].folder] = Mark(digest="x", is_done=False, seconds=200)
    assert seconds_left(cells, marks, {cells[5].folder: 50.0}, 2) == 50
    assert expected_seconds(cells[5], cells, marks) == 300


def test_a_mark_of_an_older_version_is_read(cells: tuple[Cell, ...]) -> None:
    (cells[0].folder / "cell.json").write_text('{"digest": "3f", "is_done": true}')
    assert mark_of(cells[0].folder) == Mark(digest="3f", is_done=True, seconds=None)
    assert mark_of(cells[1].folder) == Mark()
