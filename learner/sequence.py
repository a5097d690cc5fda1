"""Episodes become flat rows of numbers here: one TrainingSequence for each context of an episode.

    sequences_of(episode, chat)  →  [TrainingSequence, …]

An episode whose environment rewrites the history (a route, after each step) has several contexts; their order and
`trajectory` tell that they belong together, so that credit flows from one to the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rollout.episode import Episode, EpisodeEnd, Turn
from rollout.transcript import ChatTokens
from verifier.protocol import Span

LABELS = ("none", "format", "recognition", "reasoning", "action")
"""What a token is part of; the index in this tuple is what `TrainingSequence.labels` holds."""
NONE, FORMAT, RECOGNITION, REASONING, ACTION = range(len(LABELS))


class Trajectory(NamedTuple):
    """Which episode of which task a sequence is of: `Trajectory("general_points", "train", 7, 1)`."""

    env: str
    split: str
    seed: int
    sample: int

    @property
    def task(self) -> tuple[str, str, int]:
        """What all samples of one task share: their group."""
        return (self.env, self.split, self.seed)


class FailedEpisode(ValueError):
    """An episode that the environment or the verifier broke cannot be learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSequence:
    """One context of an episode. All arrays have one entry for each token of the record.

    A question of three tokens, answered by two that earned −1 together, in training tokens:

        token_ids         5   9   4 | 8   2
        is_sampled        0   0   0 | 1   1
        sampled_logprobs  0   0   0 | -.3 -.1
        rewards           0   0   0 | 0   -1
        turns            -1  -1  -1 | 0   0
        labels            0   0   0 | 4   1        (LABELS: an action, and the end token as format)
        versions         -1  -1  -1 | 3   3
        is_right          0   0   0 | 0   0
    """

    trajectory: Trajectory
    """Which episode it is of."""
    context: int
    """Which of the episode's contexts, from 0."""
    token_ids: npt.NDArray[np.int32]
    """What was shown and sampled, one placeholder for each picture."""
    is_sampled: npt.NDArray[np.bool_]
    """Which of them the policy drew, or a demonstrator wrote."""
    sampled_logprobs: npt.NDArray[np.float32]
    """What they were drawn with; 0 where nothing was drawn."""
    rewards: npt.NDArray[np.float32]
    """What a turn earned, on its last sampled token."""
    turns: npt.NDArray[np.int32]
    """The turn of the episode that a sampled token is of, from 0; −1 elsewhere."""
    labels: npt.NDArray[np.int8]
    """The part of its answer that a sampled token is of, as an index into LABELS."""
    versions: npt.NDArray[np.int32]
    """The version of the policy that drew it; −1 elsewhere."""
    is_truncated: bool
    """Whether the episode was cut off right behind this sequence, so that its worth there is the critic's guess."""
    is_right: npt.NDArray[np.bool_]
    """Which sampled tokens are of answers that the verifier called right."""
    is_demonstration: bool = False
    """Whether it is imitated, not reinforced."""
    imitates: Literal["all", "right"] = "all"
    """Which answers, where it is imitated."""
    images: tuple[str, ...] = ()
    """Digests of the pictures, in the order of their placeholders."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Digest → PNG."""

    @property
    def num_tokens(self) -> int:
        """The length of the record."""
        return len(self.token_ids)


def sequences_of(
    episode: Episode, chat: ChatTokens, *, is_demonstration: bool = False, imitates: Literal["all", "right"] = "all"
) -> list[TrainingSequence]:
    """The contexts of an episode, in order; empty where no answer was drawn."""
    if episode.end is EpisodeEnd.FAILED:
        raise FailedEpisode(f"episode {episode.env}/{episode.split}/{episode.seed} failed, so nothing learns from it")
    starts = [index for index, turn in enumerate(episode.turns) if turn.starts_new_context or index == 0]
    contexts = [range(start, end) for start, end in pairwise([*starts, len(episode.turns)])]
    return [
        replace(
            _sequence(episode, chat, number, turns, is_last=number == len(contexts) - 1),
            is_demonstration=is_demonstration,
            imitates=imitates,
        )
        for number, turns in enumerate(contexts)
    ]


def _sequence(episode: Episode, chat: ChatTokens, context: int, turns: range, *, is_last: bool) -> TrainingSequence:
    played = [episode.turns[index] for index in turns]
    images = tuple(digest for turn in played for digest in turn.images)
    return TrainingSequence(
        trajectory=Trajectory(episode.env, episode.split, episode.seed, episode.sample),
        context=context,
        token_ids=_joined(played, lambda turn: turn.shown_token_ids, lambda turn: turn.sampled_token_ids, np.int32),
        is_sampled=_joined(played, lambda turn: False, lambda turn: True, np.bool_),
        sampled_logprobs=_joined(played, lambda turn: 0.0, lambda turn: turn.sampled_logprobs, np.float32),
        rewards=_joined(played, lambda turn: 0.0, _reward_at_the_end, np.float32),
        turns=np.concatenate([_filled(turn, -1, index) for index, turn in zip(turns, played, strict=True)]),
        labels=_joined(played, lambda turn: NONE, lambda turn: _labels(turn, chat), np.int8),
        versions=_joined(played, lambda turn: -1, _versions, np.int32),
        is_right=_joined(played, lambda turn: False, lambda turn: turn.verdict.correct, np.bool_),
        is_truncated=is_last and episode.end.truncated,
        images=images,
        pictures={digest: episode.pictures[digest] for digest in images},
    )


def _joined(turns: Sequence[Turn], shown: Any, sampled: Any, dtype: Any) -> Any:
    """One value for each token: `shown` and `sampled` give them for a turn, or one for all of it."""
    parts = []
    for turn in turns:
        parts.append(np.broadcast_to(np.asarray(shown(turn), dtype=dtype), len(turn.shown_token_ids)))
        parts.append(np.broadcast_to(np.asarray(sampled(turn), dtype=dtype), len(turn.sampled_token_ids)))
    return np.concatenate(parts)


def _filled(turn: Turn, shown: int, sampled: int) -> npt.NDArray[np.int32]:
    return np.repeat(np.array([shown, sampled], np.int32), [len(turn.shown_token_ids), len(turn.sampled_token_ids)])


def _reward_at_the_end(turn: Turn) -> npt.NDArray[np.float32]:
    rewards = np.zeros(len(turn.sampled_token_ids), np.float32)
    rewards[-1:] = turn.verdict.reward
    return rewards


def _versions(turn: Turn) -> npt.NDArray[np.int32]:
    versions = np.full(len(turn.sampled_token_ids), -1, np.int32)
    for span in turn.policy_versions:
        versions[span.start : span.end] = span.version
    return versions


def _labels(turn: Turn, chat: ChatTokens) -> npt.NDArray[np.int8]:
    """The part of the answer that each sampled token is of: that of most of its characters."""
    ends = chat.character_ends(turn.sampled_token_ids.tolist())
    of_characters = np.full(ends[-1] if ends else 0, FORMAT, np.int8)
    for span in turn.verdict.spans:
        _mark(of_characters, span)
    labels = np.full(len(ends), FORMAT, np.int8)
    for index, (start, end) in enumerate(pairwise([0, *ends])):
        if end > start:
            labels[index] = np.bincount(of_characters[start:end]).argmax()
    return labels


def _mark(of_characters: npt.NDArray[np.int8], span: Span) -> None:
    of_characters[span.start : span.end] = LABELS.index(span.label)
