"""What records say of a measure, play by play, and when two policies can be compared by it: worked out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.record.episode_log import EpisodeRecord, append_episodes, read_episodes
from rollout.episode import Episode, EpisodeEnd
from study.report.differences import compare
from study.report.judging import Judged, Plays, Unit, judge_of
from study.report.records import Cell, Point
from tests.support.episodes import episode, right, wrong

GIVEN_UP = EpisodeEnd.OUT_OF_ATTEMPTS
TURN, FORWARD = "turn_direction_correct", "forward_correct"
WALK = episode(
    right(step=1, checks={FORWARD: True, "place_recognised": True}),
    wrong(step=2, checks={TURN: False, "place_recognised": False}),
    right(step=2, attempt=2, checks={TURN: True, "place_recognised": True}),
    wrong("attempts_exceeded", step=3, attempt=1, checks={TURN: False, "place_recognised": False}),
    end=GIVEN_UP,
    seed=5,
)


def recorded(folder: Path, *episodes: Episode) -> list[EpisodeRecord]:
    append_episodes(folder / "episodes.jsonl", episodes, iteration=0, temperature=1.0)
    return read_episodes(folder / "episodes.jsonl")


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        ("success", [(0, False)]),
        ("first_try_success", [(0, False)]),
        ("per_step_accuracy", [(1, True), (2, False), (2, True), (3, False)]),
        ("per_step_accuracy/turn_direction", [(2, False), (2, True), (3, False)]),
        ("per_step_accuracy/forward", [(1, True)]),
        ("per_step_accuracy/stop", []),
        # What was never read says nothing of what was seen.
        ("checks/place_recognised", [(1, True), (2, False), (2, True)]),
        ("checks_at_first_attempt/place_recognised", [(1, True), (2, False)]),
    ],
)
def test_an_episode_tells_of_a_measure_step_by_step(measure: str, told: list[Any], tmp_path: Path) -> None:
    judge = judge_of(measure)
    assert judge is not None
    [walk, failed] = recorded(tmp_path, WALK, episode(right(), end=EpisodeEnd.FAILED))
    assert list(judge(walk)) == told
    assert list(judge(failed)) == []


def test_solved_at_once_is_without_a_wrong_answer(tmp_path: Path) -> None:
    judge = judge_of("first_try_success")
    assert judge is not None
    at_once, later = recorded(tmp_path, episode(right()), episode(wrong(), right(attempt=2)))
    assert (list(judge(at_once)), list(judge(later))) == ([(0, True)], [(0, False)])


def test_measures_that_are_no_shares_of_plays_are_not_judged() -> None:
    assert judge_of("mean_reward") is None and judge_of("rule_fixation") is None


def point_of(folder: Path, episodes: Sequence[Episode], **row: Any) -> Point:
    (folder / "episodes").mkdir(parents=True)
    append_episodes(folder / "episodes" / "a_t1_000000.jsonl", episodes, iteration=0, temperature=1.0)
    row = {"suite": "a", "temperature": 1.0, "iteration": 0, **row}
    return Point(Cell("sft", 0, folder, (row,)), row)


def walk(seed: int, *steps: bool) -> Episode:
    turns = [
        (right if passes else wrong)(step=step, checks={TURN: passes}) for step, passes in enumerate(steps, start=1)
    ]
    return episode(*turns, end=EpisodeEnd.SOLVED if all(steps) else GIVEN_UP, seed=seed)


def test_the_records_of_an_evaluation_are_read_once(tmp_path: Path) -> None:
    point = point_of(tmp_path / "one", [walk(1, True, False), walk(2, True)])
    judged = Judged(["success", "per_step_accuracy/turn_direction", "mean_reward"])
    by_step = judged.plays(point, "per_step_accuracy/turn_direction")
    assert by_step == {
        Unit("general_points", "train", 1, 1): [True],
        Unit("general_points", "train", 1, 2): [False],
        Unit("general_points", "train", 2, 1): [True],
    }
    (tmp_path / "one" / "episodes" / "a_t1_000000.jsonl").unlink()
    assert list(judged.plays(point, "success").values()) == [[False], [True]]
    assert judged.plays(point, "mean_reward") == {}


def test_policies_that_were_asked_the_same_steps_are_compared_step_by_step(tmp_path: Path) -> None:
    """Four steps of two walks; the first policy has three of them, the second one of these."""
    measure = "per_step_accuracy/turn_direction"
    first = point_of(tmp_path / "first", [walk(1, True, True), walk(2, True, False)])
    second = point_of(tmp_path / "second", [walk(1, True, False), walk(2, False, False)])
    judged = Judged([measure])
    found = compare([(first, second)], measure, judged.plays, lambda unit: unit.seed)
    assert found is not None and found.is_paired
    assert (found.value, found.n) == (0.5, 4)


def test_a_policy_is_compared_by_one_measure_with_another_by_a_second(tmp_path: Path) -> None:
    """The first counts every step as passed, the second none."""
    point = point_of(tmp_path / "first", [walk(1, True, True), walk(2, True, False)])
    steps = Judged(["per_step_accuracy"]).plays(point, "per_step_accuracy")

    def plays(_point: Point, measure: str) -> Plays:
        return {unit: [measure == "all"] for unit in steps}

    values = [
        found.value
        for against in ("none", None)
        if (found := compare([(point, point)], "all", plays, lambda unit: unit.seed, against=against)) is not None
    ]
    assert len(steps) == 4 and values == [1.0, 0.0]


def test_a_policy_that_failed_early_is_not_compared_by_the_steps_that_both_met(tmp_path: Path) -> None:
    """Of the one step that both met, both were right; the rates of what each was asked still differ."""
    measure = "per_step_accuracy/turn_direction"
    ends = {f"{measure}_low": 0.2, f"{measure}_high": 0.8}
    first = point_of(tmp_path / "first", [walk(1, True, False)], **{measure: 0.5, **ends})
    second = point_of(tmp_path / "second", [walk(1, True)], **{measure: 1.0, **ends})
    judged = Judged([measure])
    found = compare([(first, second)], measure, judged.plays, lambda unit: unit.seed)
    assert found is not None and not found.is_paired
    assert found.value == -0.5
