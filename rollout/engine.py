"""The seam between playing and sampling: tokens and pictures in, tokens with their log-probabilities out.

    RolloutEngine       VllmEngine (rollout/vllm_engine.py), ScriptedEngine (rollout/scripted_engine.py)

An engine knows no environment, no chat template and no text. It is READY when its weights were shown to be those of the
policy version that it names, and STALE from the first byte of an update until the probe after it has passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from PIL.Image import Image

from envs.protocol import OpenEpisode, Question
from rollout.episode import Finish, VersionSpan


class EngineState(StrEnum):
    """Whether an engine may play."""

    READY = "ready"
    STALE = "stale"


class EngineError(RuntimeError):
    """An engine cannot go on; the message says which, why and what to do."""


class PolicyMismatch(EngineError):
    """The engine's log-probabilities are not the policy's; the message holds the measured gap and the tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the engine continues: `Prompt(token_ids=[1, 30, 7], images=())`.

    `token_ids` holds one placeholder for each picture, in the pictures' order; the engine expands them itself.
    """

    token_ids: list[int]
    images: tuple[Image, ...] = ()
    digests: tuple[str, ...] = ()
    """Equal for equal pictures, one for each, or none: with them, an engine prepares a picture once for all prompts
    that show it."""
    began_with: int | None = None
    """The oldest version of the policy that drew anything in this dialogue; None before its first answer."""
    asked: tuple[Question, OpenEpisode] | None = None
    """What the tokens ask, for scripts that demonstrate or err; a model never looks here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the answer is drawn. Top-p and top-k stay off: the learner could not follow them."""

    max_tokens: int
    """The most tokens that are drawn, the end token included."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    seed: int | None = None
    """Makes the draw repeatable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What was drawn.

    Two tokens by version 3 and the end token by version 4, an update in between:
    `Completion(token_ids=[8, 9, 2], logprobs=[-0.1, -2.3, -0.7], finish="stop",
    versions=(VersionSpan(3, 0, 2), VersionSpan(4, 2, 3)))`
    """

    token_ids: list[int]
    """The drawn tokens, with the end token where one was drawn."""
    logprobs: list[float]
    """Of each drawn token, in the distribution that it was drawn from (after the temperature)."""
    finish: Finish
    """Whether the model ended the answer or the limit did."""
    versions: tuple[VersionSpan, ...]
    """Which policy version drew which tokens."""


class RolloutEngine(Protocol):
    """Draws answers."""

    @property
    def state(self) -> EngineState:
        """Whether it may play."""
        ...

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """Draw one answer. Waits while the engine is STALE; raises EngineError when it will not recover."""
        ...

    async def score(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """For each prompt, the log-probability of every token but the first, at temperature 1, in any state.

        Of a picture's placeholders only those of real tokens count: the expanded ones are left out on both sides.
        """
        ...

    async def close(self) -> None:
        """Release everything; no process stays behind."""
        ...
