"""What a played episode is: the record that everything after the rollout reads.

Text exists for people; tokens are the record. A turn holds only the tokens that it added, so that the whole dialogue
is their concatenation, and what the model sampled is never tokenised again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from envs.protocol import Split
from verifier.protocol import Verdict

TokenIds = npt.NDArray[np.int32]
Finish = Literal["stop", "length"]


class EpisodeEnd(StrEnum):
    """Why an episode is over."""

    SOLVED = "solved"
    """Everything that was asked is answered: the episode terminated."""
    OUT_OF_ATTEMPTS = "out_of_attempts"
    """The environment asks no more: the episode terminated, unsolved."""
    OUT_OF_TOKENS = "out_of_tokens"
    """The dialogue reached the token budget: truncated, the episode would have gone on."""
    OUT_OF_TIME = "out_of_time"
    """It took longer than `rollout.episode_timeout_seconds`: truncated."""
    FAILED = "failed"
    """The environment, the verifier or the engine raised; never trained on."""

    @property
    def terminated(self) -> bool:
        """Whether nothing would have followed, so that the value after the end is zero."""
        return self in (EpisodeEnd.SOLVED, EpisodeEnd.OUT_OF_ATTEMPTS)

    @property
    def truncated(self) -> bool:
        """Whether the episode was cut off, so that the value after the end is the critic's."""
        return self in (EpisodeEnd.OUT_OF_TOKENS, EpisodeEnd.OUT_OF_TIME)


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Sampled tokens `start` to `end` (exclusive) of a turn that one policy version made."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question and its answer, as tokens that follow those of the turn before.

    The second attempt at a hand, in a chat template whose messages end in `<e>`. The first turn's answer was
    `… 25"}<e>`, its last sampled token `<e>`; this turn's tokens go on right behind:

        shown_token_ids    \\n <user> That attempt failed . … <e> \\n <assistant>
        sampled_token_ids  { "formula" : "(7-5)*10+4" } <e>
        sampled_logprobs   one for each sampled token
    """

    shown_token_ids: TokenIds
    """The question with the template's joints around it, one placeholder for each picture."""
    sampled_token_ids: TokenIds
    """The answer as it was sampled, with the end token where one was sampled."""
    sampled_logprobs: npt.NDArray[np.float32]
    """The log-probability of each sampled token in the distribution that it was drawn from: after the temperature, and
    without the tokens that may never be drawn (`ChatTokens.forbidden_token_ids`)."""
    policy_versions: tuple[VersionSpan, ...]
    """Which version of the policy sampled which tokens, without gaps."""
    finish: Finish
    """Whether the model ended its answer or the token budget did."""
    starts_new_context: bool
    """Whether the dialogue before is forgotten; the first turn always starts one."""
    question_text: str
    """The question as words, for people."""
    images: tuple[str, ...]
    """The digests of the pictures that the question shows, in the order of their placeholders."""
    answer: str
    """The answer as words, for the verifier and for people."""
    verdict: Verdict
    """What the verifier said of it."""
    step: int
    """Which position of the episode was asked about, from 1."""
    attempt: int
    """Which try at this step it was, from 1."""

    @property
    def num_tokens(self) -> int:
        """How many tokens the turn added."""
        return len(self.shown_token_ids) + len(self.sampled_token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A task and all turns that were played at it."""

    env: str
    """The environment's name; in a mixture, that of the part."""
    part: str = ""
    """Which part of a mixture asked; empty without one."""
    seed: int
    """Which of the environment's tasks it is; equal seeds under one config are one task and form a group."""
    split: Split
    """Which split the task is of."""
    sample: int = 0
    """Which of several plays of the same task this is."""
    turns: tuple[Turn, ...]
    """What was asked and answered, in order."""
    end: EpisodeEnd
    """Why it is over."""
    error: str | None = None
    """The traceback, where it failed."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Digest → PNG, of every picture that the turns show, each once."""
    seconds: float
    """How long it took from its first question."""

    @property
    def reward(self) -> float:
        """What all turns earned together."""
        return sum(turn.verdict.reward for turn in self.turns)

    @property
    def num_sampled_tokens(self) -> int:
        """How many tokens the model produced."""
        return sum(len(turn.sampled_token_ids) for turn in self.turns)
