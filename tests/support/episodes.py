"""Played episodes made by hand, for whatever reads the record of a rollout.

episode(right(), seed=1)                                    solved at the first attempt
episode(wrong(), right(attempt=2))                          solved at the second
episode(wrong(), end=EpisodeEnd.OUT_OF_ATTEMPTS)            given up
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rollout.episode import Episode, EpisodeEnd, Turn, VersionSpan
from verifier.protocol import Verdict


def turn(
    outcome: str,
    *,
    reward: float = 0.0,
    checks: Mapping[str, bool] | None = None,
    step: int = 1,
    attempt: int = 1,
    num_shown: int = 10,
    num_sampled: int = 5,
    version: int = 0,
) -> Turn:
    """One question and its answer; every token is its own number."""
    return Turn(
        shown_token_ids=np.arange(num_shown, dtype=np.int32),
        sampled_token_ids=np.arange(num_sampled, dtype=np.int32),
        sampled_logprobs=np.full(num_sampled, -0.5, dtype=np.float32),
        policy_versions=(VersionSpan(version, 0, num_sampled),),
        finish="stop",
        starts_new_context=attempt == 1,
        question_text="What is it?",
        images=(),
        answer="This.",
        verdict=Verdict(
            outcome=outcome,
            correct=outcome == "correct",
            reward=reward,
            feedback="So it is." if outcome == "correct" else "It is not.",
            checks={"readable": True} if checks is None else checks,
        ),
        step=step,
        attempt=attempt,
    )


def right(*, reward: float = 5.0, **options: Any) -> Turn:
    """A correct answer."""
    return turn("correct", reward=reward, **options)


def wrong(outcome: str = "wrong_value", *, reward: float = -1.0, **options: Any) -> Turn:
    """An answer of any other outcome."""
    return turn(outcome, reward=reward, **options)


def episode(
    *turns: Turn, end: EpisodeEnd = EpisodeEnd.SOLVED, env: str = "general_points", seed: int = 0, sample: int = 0
) -> Episode:
    """An episode of these turns."""
    return Episode(
        env=env,
        seed=seed,
        split="train",
        sample=sample,
        turns=turns,
        end=end,
        error="Traceback …" if end is EpisodeEnd.FAILED else None,
        seconds=1.0,
    )
