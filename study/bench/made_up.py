"""Episodes that nobody played, to measure a learner with."""

import hashlib
from collections.abc import Sequence

import numpy as np

from rollout.episode import Episode, EpisodeEnd, Turn, VersionSpan
from verifier.protocol import Verdict

Exchange = tuple[Sequence[int], Sequence[int]]
"""The tokens that a turn shows, and those that were drawn after it."""


def made_up(seed: int, exchanges: Sequence[Exchange], picture: bytes | None = None) -> Episode:
    """One dialogue, whose last answer is right and the others wrong; the first question shows the picture."""
    digest = None if picture is None else hashlib.sha256(picture).hexdigest()
    return Episode(
        env="made_up",
        seed=seed,
        split="train",
        end=EpisodeEnd.SOLVED,
        seconds=1.0,
        turns=tuple(
            _turn(number, exchange, digest if number == 0 else None, is_last=number == len(exchanges) - 1)
            for number, exchange in enumerate(exchanges)
        ),
        pictures={} if digest is None or picture is None else {digest: picture},
    )


def _turn(number: int, exchange: Exchange, digest: str | None, *, is_last: bool) -> Turn:
    shown, drawn = exchange
    outcome, reward = ("correct", 5.0) if is_last else ("wrong_value", -1.0)
    return Turn(
        shown_token_ids=np.array(shown, np.int32),
        sampled_token_ids=np.array(drawn, np.int32),
        sampled_logprobs=np.full(len(drawn), -1.0, np.float32),
        policy_versions=(VersionSpan(0, 0, len(drawn)),),
        finish="stop",
        starts_new_context=number == 0,
        question_text="",
        images=() if digest is None else (digest,),
        answer="",
        verdict=Verdict(outcome=outcome, correct=is_last, reward=reward, feedback="", checks={}),
        step=1,
        attempt=number + 1,
    )
