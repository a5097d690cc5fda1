"""What several answers to one task come to: attempts one after another, and samples beside each other.

success_within/3      of all episodes, those that were solved with three attempts at each step or fewer
vote@4, likeliest@4   of four samples' first answers, whether that is right which most of them gave, or which the policy
                      itself found likeliest; over all groups of four that a task's samples make, one after another
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cluster.measuring.intervals import Share
from rollout.episode import Episode, EpisodeEnd, Turn
from rollout.scores import Rate

Group = Sequence[Turn]


def within(episodes: Sequence[Episode], most: int) -> dict[str, Rate]:
    """By how many attempts at most each step has had."""
    used = [
        max(turn.attempt for turn in episode.turns) for episode in episodes if episode.end is EpisodeEnd.SOLVED
    ]  # an episode that was solved has turns
    return {
        f"success_within/{k}": Rate(sum(attempts <= k for attempts in used), len(episodes)) for k in range(1, most + 1)
    }


def choices(episodes: Iterable[Episode], k: int) -> dict[str, Share]:
    """The chances of what chooses without a verifier, over the tasks that were played so often."""
    groups = list(_groups(episodes, k))
    ways: dict[str, Callable[[Group], Turn]] = {"vote": _most_given, "likeliest": _likeliest}
    return {
        f"{name}@{k}": Share(sum(choose(group).verdict.correct for group in groups), len(groups))
        for name, choose in ways.items()
    }


def _groups(episodes: Iterable[Episode], k: int) -> Iterator[Group]:
    by_task: dict[tuple[str, str, int], list[Episode]] = defaultdict(list)
    for episode in episodes:
        if episode.end is not EpisodeEnd.FAILED and episode.turns:
            by_task[episode.env, episode.split, episode.seed].append(episode)
    for plays in by_task.values():
        first = [play.turns[0] for play in sorted(plays, key=lambda play: play.sample)]
        for start in range(0, len(first) - k + 1, k):
            yield first[start : start + k]


def _most_given(group: Group) -> Turn:
    """Of equally many, the one that came first."""
    [(answer, _)] = Counter(turn.answer.strip() for turn in group).most_common(1)
    return next(turn for turn in group if turn.answer.strip() == answer)


def _likeliest(group: Group) -> Turn:
    """By the mean log-probability of its tokens, so that a short answer is no better for being short."""
    return max(group, key=lambda turn: float(np.mean(turn.sampled_logprobs)) if len(turn.sampled_logprobs) else -np.inf)
