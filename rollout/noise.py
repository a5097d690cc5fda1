"""A verifier that errs: now and then it takes a right answer for a wrong one, or a wrong one for right.

    judged(verdict, 0.1, Random(…), …)  →  the same verdict nine times of ten, else the opposite one

The opposite of right is what the environment's own mistake would have been told and have earned; the opposite of wrong
is what the demonstrator's answer earns. So no outcome is invented, and rewards and words go together. What the answer
really was is still in its spans and checks; `flipped` counts how often this came to pass.
"""

from dataclasses import replace
from random import Random
from typing import Any

from envs.protocol import OpenEpisode, Question
from verifier.protocol import UNSCORED, Verdict, Verifier


def judged(
    verdict: Verdict,
    chance: float,
    generator: Random,
    verifier: Verifier[Any],
    question: Question,
    episode: OpenEpisode,
) -> Verdict:
    """The verdict, or with that chance the opposite one."""
    if verdict.outcome == UNSCORED:
        return verdict
    is_flipped = generator.random() < chance
    checks = {**verdict.checks, "flipped": is_flipped}
    if not is_flipped:
        return replace(verdict, checks=checks)
    instead = episode.mistake(generator) if verdict.correct else question.expert_answer
    return replace(verifier.judge(instead, question.reference), spans=verdict.spans, checks=checks)
