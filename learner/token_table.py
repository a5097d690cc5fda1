"""One column for each fact of a sampled token, over all of a rank's sequences: what an update reads and fills.

TokenTable.of(sequences, config)        from the record
…  .old_logprobs, .values, .after    by a forward pass before the first step (learner/learner.py)
…  .advantages, .returns             by learner/advantage.py
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from learner.config import LearnerConfig
from learner.sequence import ACTION, LABELS, TrainingSequence, Trajectory
from learner.statistics import Statistics


@dataclass(slots=True, kw_only=True)
class TokenTable:
    """Columns of n entries, one for each sampled token, sequence after sequence."""

    is_demonstration: torch.Tensor
    """Whether it is imitated, not reinforced."""
    sampled_logprobs: torch.Tensor
    """What it was drawn with."""
    rewards: torch.Tensor
    """What it earned."""
    turns: torch.Tensor
    """The turn of its episode."""
    episodes: torch.Tensor
    """The number of its episode on this rank."""
    answers: torch.Tensor
    """The number of its answer on this rank."""
    ratio_weights: torch.Tensor
    """Its weight in the answer's summed log-probability."""
    imitation_weights: torch.Tensor
    """Its weight in the cross-entropy; 0 where it is reinforced."""
    episode_tokens: torch.Tensor
    """How many tokens were sampled in its episode."""
    episode_answers: torch.Tensor
    """And how many answers."""
    old_logprobs: torch.Tensor
    """What the policy would have drawn it with before the update."""
    reference_logprobs: torch.Tensor
    """What the initial policy would have drawn it with."""
    values: torch.Tensor
    """The critic's worth of the state before it, before the update."""
    after: torch.Tensor
    """The critic's worth behind it, where it is the last of its sequence."""
    advantages: torch.Tensor
    """How much better than expected it was."""
    returns: torch.Tensor
    """What the critic should have said."""
    is_value_target: torch.Tensor
    """Whether the critic learns here."""

    @classmethod
    def of(cls, sequences: Sequence[TrainingSequence], config: LearnerConfig) -> Self:
        """The record's columns; those that are filled in later are zero, but for the old log-probabilities, which
        are those recorded."""
        parts: list[list[np.ndarray]] = [[np.zeros(0, dtype)] for _, dtype in _RECORDED]
        trajectories: dict[tuple[Trajectory, bool], int] = {}
        num_answers = 0
        for sequence in sequences:
            identity = (sequence.trajectory, sequence.is_demonstration)
            episode = trajectories.setdefault(identity, len(trajectories))
            at = sequence.is_sampled
            turns, labels = sequence.turns[at], sequence.labels[at]
            # Turns rise within a sequence, and no answer reaches over the end of one.
            answers = np.cumsum(np.diff(turns, prepend=turns[:1]) > 0)
            columns = (
                np.full(len(turns), sequence.is_demonstration),
                sequence.sampled_logprobs[at],
                sequence.rewards[at],
                turns,
                np.full(len(turns), episode),
                answers + num_answers,
                _ratio_weights(labels, answers, config.loss.reasoning_weight),
                _imitation_weights(labels, answers, config) * _is_imitated(sequence),
            )
            for part, column, (_, dtype) in zip(parts, columns, _RECORDED, strict=True):
                part.append(column.astype(dtype))
            num_answers += int(answers[-1]) + 1
        recorded = {
            name: torch.from_numpy(np.concatenate(part)) for part, (name, _) in zip(parts, _RECORDED, strict=True)
        }
        zeros = torch.zeros(len(recorded["rewards"]))
        episodes, answers = recorded["episodes"], recorded["answers"]
        num_episodes = len(trajectories)
        of_answer = torch.zeros(num_answers, dtype=torch.long).index_copy(0, answers, episodes)
        return cls(
            **recorded,
            episode_tokens=torch.bincount(episodes, minlength=num_episodes)[episodes].float(),
            episode_answers=torch.bincount(of_answer, minlength=num_episodes)[episodes].float(),
            old_logprobs=recorded["sampled_logprobs"].clone(),
            reference_logprobs=zeros.clone(),
            values=zeros.clone(),
            after=zeros.clone(),
            advantages=zeros.clone(),
            returns=zeros.clone(),
            is_value_target=zeros.bool(),
        )

    def to(self, device: torch.device) -> "TokenTable":
        """The same on another device."""
        return TokenTable(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


_RECORDED = (
    ("is_demonstration", np.bool_),
    ("sampled_logprobs", np.float32),
    ("rewards", np.float32),
    ("turns", np.int64),
    ("episodes", np.int64),
    ("answers", np.int64),
    ("ratio_weights", np.float32),
    ("imitation_weights", np.float32),
)
"""The columns that the record decides, as `TokenTable.of` makes them."""


class Totals:
    """What the parts of a step's loss are divided by: counts over all ranks."""

    def __init__(self, counts: np.ndarray) -> None:
        self.tokens, self.answers, self.episodes, self.value_targets, self.imitation_weight = map(float, counts)

    @property
    def teach(self) -> bool:
        """Whether any rank has anything to learn from."""
        return bool(self.tokens or self.imitation_weight)

    @staticmethod
    def count(numbers: torch.Tensor, table: TokenTable) -> np.ndarray:
        """This rank's counts for one step."""
        numbers = numbers.to(table.is_demonstration.device)
        reinforced = numbers[~table.is_demonstration[numbers]]
        return np.array(
            [
                len(reinforced),
                len(torch.unique(table.answers[reinforced])),
                len(torch.unique(table.episodes[reinforced])),
                int(table.is_value_target[reinforced].sum()),
                float(table.imitation_weights[numbers].sum()),
            ],
            np.float64,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What the losses of all micro-batches of one optimizer step share."""

    table: TokenTable
    totals: Totals
    config: LearnerConfig
    statistics: Statistics
    rl_weight: float = 1.0
    """What the loss on played episodes counts in this update."""
    sft_weight: float = 1.0
    """And that on demonstrations."""
    critic_only: bool = False
    """Whether the policy stays as it is."""
    is_only_one: bool = False
    """Whether it is its update's only step, so that what it computes itself is what the policy was before."""

    def token_shares(self, numbers: torch.Tensor) -> torch.Tensor:
        """How much the loss of each of these tokens counts in that of the step; those of all ranks make 1 where
        `aggregate` is a mean."""
        return self._shares(self.totals.tokens, self.table.episode_tokens[numbers])

    def answer_shares(self, numbers: torch.Tensor) -> torch.Tensor:
        """The same for the answers that these tokens are of, in their order, once for each token."""
        return self._shares(self.totals.answers, self.table.episode_answers[numbers])

    def _shares(self, total: float, of_episode: torch.Tensor) -> torch.Tensor:
        options, episodes = self.config.loss, max(self.totals.episodes, 1)
        match options.aggregate:
            case "token_mean":
                return torch.full_like(of_episode, 1 / max(total, 1))
            case "sequence_mean":
                return 1 / (of_episode * episodes)
            case "constant":
                return torch.full_like(of_episode, 1 / (options.episode_length * episodes))


def _is_imitated(sequence: TrainingSequence) -> np.ndarray:
    """Of the sampled tokens; none of what is reinforced."""
    right = sequence.is_right[sequence.is_sampled] | (sequence.imitates == "all")
    return right & sequence.is_demonstration


def _ratio_weights(labels: np.ndarray, answers: np.ndarray, reasoning_weight: float) -> np.ndarray:
    """1 from an answer's first action token on, the reasoning weight before it and where no action came."""
    weights = np.full(len(labels), reasoning_weight, np.float32)
    for answer in np.unique(answers):
        at = np.flatnonzero(answers == answer)
        actions = np.flatnonzero(labels[at] == ACTION)
        if len(actions):
            weights[at[actions[0] :]] = 1.0
    return weights


def _imitation_weights(labels: np.ndarray, answers: np.ndarray, config: LearnerConfig) -> np.ndarray:
    """The weight of each token's label; with `equal_span_mass`, shared among the answer's tokens of that label."""
    of_label = np.array([config.sft.span_weights.get(label, 1.0) for label in LABELS], np.float32)  # pyright: ignore
    weights = of_label[labels]
    if not config.sft.equal_span_mass:
        return weights
    for answer in np.unique(answers):
        at = np.flatnonzero(answers == answer)
        counts = np.bincount(labels[at], minlength=len(LABELS))
        # The answer as a whole keeps its weight, so that long ones count as before.
        weights[at] *= len(at) / (np.count_nonzero(counts) * counts[labels[at]])
    return weights
