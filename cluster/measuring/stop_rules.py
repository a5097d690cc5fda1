"""What attempts come to where it is decided from one to the next whether there is another, at as many answers.

by_need@2         of all episodes, those that are solved where attempts go on only while further ones promise enough, by
                  what the verifier said of the last and which one it was
by_confidence@2   the same by how likely the policy itself found its last answer, and which one it was

What further attempts promise is how often they have come to a right answer, for each answer that they took: the best
ratio over all numbers of them, since two may be worth while where one is not. How much is enough is set so that as many
answers are given on average as with two attempts for everyone, which solve `success_within/2`. Promise and bound come
from the other half of the problems, each half judging the other; so that answers are about as many on a half, and no
more on the one that the bound comes from (`answers_by_need@2` beside `answers@2`). An episode that was played with more
attempts tells exactly what fewer would have come to.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from rollout.episode import Episode, EpisodeEnd, Turn

Told = Callable[[Turn], Hashable]
"""What a rule knows of a wrong answer."""
Further = tuple[int, bool]
"""How many further answers an episode gave at a step, and whether the last of them was right."""
Came = tuple[bool, int]
"""Whether an episode is solved, and with how many answers."""
PRIOR = 2
"""As many of all cases are added to those of one kind, lest few seem sure."""
GRADES = 4
"""Into so many, equally common, a policy's own confidence is told."""


def stopped(
    episodes: Sequence[Episode], most: Sequence[int], problems: Sequence[Hashable]
) -> dict[str, dict[int, Came]]:
    """By measure, what comes of each episode, which is told by its place; `problems` are what each is about. Nothing
    where one half of these had no second attempt to learn from."""
    halves = _halves(episodes, problems) if most else ((), ())
    if not all(any(_again(episodes[place]) for place in half) for half in halves):
        return {}
    made: dict[str, Callable[[Sequence[Episode]], Told]] = {"by_need": lambda _: _need, "by_confidence": _confidence}
    found = {f"{name}@{k}": dict[int, Came]() for k in most for name in made}
    for tested, others in (halves, halves[::-1]):
        known = [episodes[place] for place in others]
        for name, make in made.items():
            rule = _Rule.of(known, make(known))
            for k in most:
                goes_on = rule.goes_on(rule.least(known, k))
                found[f"{name}@{k}"] |= {place: _came(episodes[place], goes_on) for place in tested}
    return found


def _halves(episodes: Sequence[Episode], problems: Sequence[Hashable]) -> tuple[Sequence[int], Sequence[int]]:
    """The places of episodes; every other problem of each environment, in the order in which they come."""
    known: dict[tuple[str, str], dict[Hashable, int]] = defaultdict(dict)
    halves: tuple[list[int], list[int]] = ([], [])
    for place, (episode, problem) in enumerate(zip(episodes, problems, strict=True)):
        of_part = known[episode.env, episode.part]
        halves[of_part.setdefault(problem, len(of_part)) % 2].append(place)
    return halves


def answers(episodes: Sequence[Episode], k: int) -> float:
    """How many are given on average where everyone has k attempts."""
    return fmean(_came(episode, lambda turn: turn.attempt < k)[1] for episode in episodes)


def _again(episode: Episode) -> list[tuple[int, Turn]]:
    """Each wrong answer that was followed by another attempt, behind how many answers that made."""
    pairs = enumerate(pairwise(episode.turns), 1)
    return [(count, turn) for count, (turn, after) in pairs if after.step == turn.step]


def _came(episode: Episode, goes_on: Callable[[Turn], bool]) -> Came:
    for count, turn in _again(episode):
        if not goes_on(turn):
            return False, count
    return episode.end is EpisodeEnd.SOLVED, len(episode.turns)


def _need(turn: Turn) -> Hashable:
    return turn.attempt, turn.verdict.outcome


def _confidence(episodes: Sequence[Episode]) -> Told:
    """By grades of these episodes."""
    said = [_sureness(turn) for episode in episodes for _, turn in _again(episode)]
    edges = np.quantile(said, np.linspace(0, 1, GRADES + 1)[1:-1]) if said else np.zeros(GRADES - 1)
    return lambda turn: (turn.attempt, int(np.searchsorted(edges, _sureness(turn))))


def _sureness(turn: Turn) -> float:
    return float(np.sum(turn.sampled_logprobs)) / max(1, len(turn.sampled_logprobs))


def _further(episode: Episode) -> list[tuple[Turn, int, bool]]:
    """Each wrong answer that was followed by others; how many they were, and whether the last of them was right."""
    last = {turn.step: (turn.attempt, turn.verdict.correct) for turn in episode.turns}
    return [(turn, last[turn.step][0] - turn.attempt, last[turn.step][1]) for _, turn in _again(episode)]


def _promise(kind: np.ndarray, every: np.ndarray) -> float:
    """Right answers for each that is given; a row is how many further ones there were, whether the last was right."""
    best = 0.0
    for horizon in range(1, int(every[:, 0].max(initial=0)) + 1):
        (right, spent), of_every = (_within(rows, horizon) for rows in (kind, every))
        prior = PRIOR / len(every)
        best = max(best, (right + prior * of_every[0]) / (spent + prior * of_every[1]))
    return best


def _within(rows: np.ndarray, horizon: int) -> tuple[float, float]:
    """How many are right with so many further answers, and how many answers that takes."""
    return float((rows[:, 1] * (rows[:, 0] <= horizon)).sum()), float(np.minimum(rows[:, 0], horizon).sum())


@dataclass(frozen=True, slots=True)
class _Rule:
    """Goes on while what is told of the last answer has promised enough."""

    told: Told
    promises: Mapping[Hashable, float]

    @classmethod
    def of(cls, episodes: Sequence[Episode], told: Told) -> "_Rule":
        """As in these; of what they do not know, as over all."""
        kinds: dict[Hashable, list[Further]] = defaultdict(list)
        for episode in episodes:
            for turn, count, is_right in _further(episode):
                kinds[told(turn)].append((count, is_right))
        every = np.array([each for kind in kinds.values() for each in kind], dtype=float).reshape(-1, 2)
        promises = {key: _promise(np.array(kind, dtype=float), every) for key, kind in kinds.items()}
        overall = _promise(every, every)
        return cls(told, defaultdict(lambda: overall, promises))

    def goes_on(self, least: float) -> Callable[[Turn], bool]:
        """While further ones promise at least so much."""
        return lambda turn: self.promises[self.told(turn)] >= least

    def least(self, episodes: Sequence[Episode], k: int) -> float:
        """So that these have no more answers than with k attempts for everyone."""
        allowed = answers(episodes, k)
        bounds = (0.0, *sorted(set(self.promises.values())))
        spent = (fmean(_came(episode, self.goes_on(bound))[1] for episode in episodes) for bound in bounds)
        return next((bound for bound, each in zip(bounds, spent, strict=True) if each <= allowed), np.inf)
