"""What records of episodes say of a measure, so that two policies can be compared task by task.

judge_of("success")(episode)                             →  [(0, True)]
judge_of("per_step_accuracy/turn_direction")(episode)    →  [(3, True), (7, False)]     by step
judge_of("mean_reward")                                  →  None: records do not tell it as passed or not
Judged(["success", …]).plays(point, "success")           →  {Unit("general_points", "test", 7, 0): [True], …}
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cluster.record.episode_log import EpisodeRecord, TurnRecord
from rollout.episode import EpisodeEnd
from study.report.records import Point
from verifier.protocol import UNSCORED


class Unit(NamedTuple):
    """A task, or a step of one."""

    env: str
    split: str
    seed: int
    step: int
    """0 where the task is judged as a whole."""


Plays = Mapping[Unit, Sequence[bool]]
"""Whether each play passed."""
Judge = Callable[[EpisodeRecord], Sequence[tuple[int, bool]]]
"""For each step that an episode tells of, or 0 for the whole, whether it passes."""


class Judged:
    """The plays of evaluations by several measures; the records of each are read once."""

    def __init__(self, measures: Iterable[str]) -> None:
        self._judges = {measure: judge for measure in measures if (judge := judge_of(measure)) is not None}
        self._known: dict[tuple[Path, str, float, int], Mapping[str, Plays]] = {}

    def plays(self, point: Point, measure: str) -> Plays:
        """By a measure that was named; empty where records do not tell it, or were not kept."""
        row = point.row
        key = (point.cell.folder, str(row["suite"]), float(row["temperature"]), int(row["iteration"]))
        if key not in self._known:
            episodes = point.episodes()
            self._known[key] = {name: _plays(episodes, judge) for name, judge in self._judges.items()}
        return self._known[key].get(measure, {})


def judge_of(measure: str) -> Judge | None:
    """How episodes are judged by a measure; None where they cannot be."""
    name, _, inner = measure.partition("/")
    if measure == "success":
        return lambda episode: _whole(episode, _is_solved(episode))
    if measure == "first_try_success":
        return lambda episode: _whole(episode, _is_solved(episode) and all(turn.correct for turn in episode.turns))
    if name == "per_step_accuracy":
        return _by_step(lambda turn: turn.checks.get(f"{inner}_correct") if inner else turn.correct)
    if name == "checks":
        return _by_step(lambda turn: None if turn.outcome == UNSCORED else turn.checks.get(inner))
    if name == "checks_at_first_attempt":
        return _by_step(lambda turn: turn.checks.get(inner) if _is_first(turn) else None)
    return None


def _plays(episodes: Iterable[EpisodeRecord], judge: Judge) -> Plays:
    plays: dict[Unit, list[bool]] = {}
    for episode in episodes:
        for step, passes in judge(episode):
            plays.setdefault(Unit(episode.env, episode.split, episode.seed, step), []).append(passes)
    return plays


def _whole(episode: EpisodeRecord, passes: bool) -> Sequence[tuple[int, bool]]:
    return [] if episode.end == EpisodeEnd.FAILED else [(0, passes)]


def _by_step(passed: Callable[[TurnRecord], bool | None]) -> Judge:
    """By what an answer says of the measure; None where it says nothing."""

    def judge(episode: EpisodeRecord) -> Sequence[tuple[int, bool]]:
        if episode.end == EpisodeEnd.FAILED:
            return []
        return [(turn.step, told) for turn in episode.turns if (told := passed(turn)) is not None]

    return judge


def _is_solved(episode: EpisodeRecord) -> bool:
    return episode.end == EpisodeEnd.SOLVED


def _is_first(turn: TurnRecord) -> bool:
    return turn.attempt == 1 and turn.outcome != UNSCORED
