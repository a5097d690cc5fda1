"""A game of one question and one token, played by the learner's own policy: the quickest thing there is to learn."""

from collections.abc import Sequence

import numpy as np
import torch

from learner.learner import Learner
from learner.sequence import ACTION, TrainingSequence, Trajectory

FIRST_QUESTION, NUM_KINDS = 20, 8


def is_right(question: int, answer: int) -> bool:
    """An eighth of all tokens answer a question."""
    return answer % NUM_KINDS == right_answer(question) % NUM_KINDS


def right_answer(question: int) -> int:
    """One of the tokens that answer the question of this number."""
    return 40 + question * 3 % NUM_KINDS


@torch.no_grad()
def play(learner: Learner, questions: Sequence[int], samples: int, round_number: int) -> list[TrainingSequence]:
    """Each question answered several times, at temperature 1."""
    generator = torch.Generator().manual_seed(round_number)
    prompts = torch.tensor([[1, 3, FIRST_QUESTION + question, 4] for question in questions])
    logprobs = learner.policy.backbone(input_ids=prompts).logits[:, -1].log_softmax(-1)
    answers = torch.multinomial(logprobs.exp(), samples, replacement=True, generator=generator)
    return [
        sequence(question, int(answer), float(logprobs[row, answer]), sample, version=learner.version)
        for row, question in enumerate(questions)
        for sample, answer in enumerate(answers[row])
    ]


def sequence(
    question: int, answer: int, logprob: float, sample: int, *, version: int = 0, is_demonstration: bool = False
) -> TrainingSequence:
    """One play."""
    reward = 1.0 if is_right(question, answer) else 0.0
    return TrainingSequence(
        trajectory=Trajectory("bandit", "train", question, sample),
        context=0,
        token_ids=np.array([1, 3, FIRST_QUESTION + question, 4, answer], np.int32),
        is_sampled=np.array([False] * 4 + [True]),
        sampled_logprobs=np.array([0, 0, 0, 0, logprob], np.float32),
        rewards=np.array([0, 0, 0, 0, reward], np.float32),
        turns=np.array([-1, -1, -1, -1, 0], np.int32),
        labels=np.array([0, 0, 0, 0, ACTION], np.int8),
        versions=np.array([-1, -1, -1, -1, version], np.int32),
        is_right=np.array([False] * 4 + [bool(reward)]),
        is_truncated=False,
        is_demonstration=is_demonstration,
    )


def mean_reward(sequences: Sequence[TrainingSequence]) -> float:
    """Of all plays."""
    return float(np.mean([each.rewards.sum() for each in sequences]))
