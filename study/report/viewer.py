"""The episodes that a page lets its reader look at: the same tasks for every arm, few enough for one file.

Half of them are spread evenly over the tasks, half are those that tell the most: where the policies differ, or where an
answer is wrong under the shifted rule and right under that of training.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.record.episode_log import EpisodeRecord, TurnRecord
from rollout.episode import EpisodeEnd
from study.report.records import Point, Study

MAX_BYTES = 1_800_000
"""Of the embedded episodes, pictures included."""
TASKS = 60
"""Of each suite, unless these are too many bytes."""

READING_CHECKS = ("numbers_read", "cards_recognised", "place_recognised", "instruction_read")
"""Of these, the first that a study's measures name is what "read wrongly" means there."""

Key = tuple[str, str, int, int]
Played = Mapping[tuple[str, int], Mapping[Key, EpisodeRecord]]
"""Arm and seed → what it played, by task and sample."""


def chosen_episodes(study: Study, *, max_tasks: int = TASKS, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """What the page embeds; fewer tasks, and then fewer seeds, until it is small enough."""
    played = {suite: _played(study, suite) for suite in study.suites}
    seeds, tasks = list(study.seeds), max_tasks
    while True:
        data = _packed(study, played, seeds, tasks)
        size = len(json.dumps(data, separators=(",", ":")))
        if size <= max_bytes or tasks <= 1:
            return data
        if tasks > 20 or len(seeds) == 1:
            tasks = max(1, int(tasks * min(0.8, max_bytes / size)))
        else:
            seeds.pop()


def reading_checks(study: Study) -> list[str]:
    """The checks that tell whether a question was read right: what is seen in its picture or, in words, by its rule."""
    measures = [study.measures(suite) for suite in study.suites]
    seen = [measure.name for part in ("sight", "rule", "rest") for one in measures for measure in one.of(part)]
    told = [name.rpartition("/")[2] for name in seen if name.rpartition("/")[2] in READING_CHECKS]
    return told[:1]


def _played(study: Study, suite: str) -> Played:
    points: dict[tuple[str, int], Point | None] = {
        (arm, seed): study.last(arm, seed, suite) for seed in study.seeds for arm in (study.beginning, *study.arms)
    }
    played = {
        key: {(episode.env, episode.split, episode.seed, episode.sample): episode for episode in point.episodes()}
        for key, point in points.items()
        if point is not None
    }
    return {key: episodes for key, episodes in played.items() if episodes}


def _packed(study: Study, played: Mapping[str, Played], seeds: Sequence[int], max_tasks: int) -> dict[str, Any]:
    pack = _Pack(study)
    for suite, all_seeds in played.items():
        cells = {key: episodes for key, episodes in all_seeds.items() if key[1] in seeds}
        if not cells:
            continue
        common = set.intersection(*(set(episodes) for episodes in cells.values()))
        for task in _telling(sorted(common), cells, max_tasks):
            index = pack.add_task(suite, task)
            for (arm, seed), episodes in cells.items():
                pack.add(index, arm, seed, episodes[task])
    return pack.data()


def _telling(tasks: Sequence[Key], cells: Played, most: int) -> list[Key]:
    if len(tasks) <= most:
        return list(tasks)
    telling = [task for task in tasks if _tells([episodes[task] for episodes in cells.values()])]
    chosen = set(_spread(telling, most // 2))
    rest = [task for task in tasks if task not in chosen]
    return sorted(chosen | set(_spread(rest, most - len(chosen))))


def _spread(tasks: Sequence[Key], most: int) -> list[Key]:
    count = min(len(tasks), most)
    return [tasks[index * len(tasks) // count] for index in range(count)]


def _tells(episodes: Sequence[EpisodeRecord]) -> bool:
    return len({episode.end == EpisodeEnd.SOLVED for episode in episodes}) > 1 or any(map(_keeps_old_rule, episodes))


def _keeps_old_rule(episode: EpisodeRecord) -> bool:
    return any(turn.checks.get("right_under_training_rule") and not turn.correct for turn in episode.turns)


class _Pack:
    """Episodes with short names, texts and pictures once each."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._texts: dict[str, int] = {}
        self._pictures: dict[str, str] = {}
        self._tasks: list[list[Any]] = []
        self._episodes: list[dict[str, Any]] = []
        self._picture_bytes = 0

    def data(self) -> dict[str, Any]:
        """What a page reads."""
        return {
            "texts": list(self._texts),
            "pictures": self._pictures,
            "tasks": self._tasks,
            "episodes": self._episodes,
            "reading": reading_checks(self._study),
        }

    def add_task(self, suite: str, task: Key) -> int:
        """Suite, and what the task is called."""
        env, split, seed, sample = task
        self._tasks.append([suite, f"{env} {split} {seed}" + (f", sample {sample}" if sample else "")])
        return len(self._tasks) - 1

    def add(self, task: int, arm: str, seed: int, episode: EpisodeRecord) -> None:
        """One episode of a task."""
        cell = self._study.cells.get((arm, seed)) or next(iter(self._study.cells.values()))
        self._episodes.append(
            {
                "task": task,
                "arm": arm,
                "seed": seed,
                "end": episode.end,
                "reward": episode.reward,
                "iteration": episode.iteration,
                "old": _keeps_old_rule(episode),
                "turns": [self._turn(turn, Point(cell, {})) for turn in episode.turns],
            }
        )

    def _turn(self, turn: TurnRecord, point: Point) -> dict[str, Any]:
        told: dict[str, Any] = {
            "q": self._text(turn.question_text),
            "a": self._text(turn.answer),
            "f": self._text(turn.feedback),
            "o": turn.outcome,
            "c": turn.correct,
            "r": turn.reward,
            "k": dict(turn.checks),
            "n": [turn.step, turn.attempt],
        }
        if turn.logprobs:
            told["l"] = [None if value is None else round(value, 2) for value in turn.logprobs]
        if len(turn.token_ends) == len(turn.logprobs) and turn.token_ends:
            told["e"] = list(turn.token_ends)
        if turn.images:
            told["i"] = [digest for digest in turn.images if self._keep(digest, point)]
        return told

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _keep(self, digest: str, point: Point) -> bool:
        """Whether the picture is there and still fits; every episode after that goes without."""
        if digest in self._pictures:
            return True
        file = point.cell.folder / "images" / f"{digest}.png"
        if not digest.isalnum() or not file.is_file():
            return False
        content = file.read_bytes()
        if self._picture_bytes + len(content) > MAX_BYTES // 3:
            return False
        self._picture_bytes += len(content)
        self._pictures[digest] = base64.b64encode(content).decode()
        return True
