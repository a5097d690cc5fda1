"""On-policy distillation: what a teacher would have drawn from, held against the policy, token by played token.

The divergence is that of the policy from the teacher over the whole vocabulary, KL(policy ‖ teacher), at the places
that the policy itself has come to; so it learns what the teacher would do where it is, and not only where the teacher
goes.

The teacher may be told more than the policy, as the rule that holds: `Telling(chat, context)` shows him the context
before each dialogue's first question. Then the policy itself can be the teacher.
"""

from dataclasses import replace
from itertools import takewhile

import numpy as np
import torch

from learner.batch import BatchError, ModelInput
from learner.policy_model import Predictions
from learner.token_table import Step
from rollout.transcript import ChatTokens


class Telling:
    """Puts a context where a dialogue's first question begins."""

    def __init__(self, chat: ChatTokens, context: str) -> None:
        questions = [chat.opening(text, 0) for text in ("", "a", "7")]
        alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*questions, strict=False))
        self._before = [token for token, *_ in alike]
        self._context: list[int] = chat.tokenizer(f"{context}\n", add_special_tokens=False)["input_ids"]

    def told(self, asked: ModelInput) -> ModelInput:
        """The sequence with the context in it; what is asked of it stays the same."""
        at = len(self._before)
        if asked.token_ids[:at].tolist() != self._before:
            raise BatchError(
                f"distillation.context: a dialogue begins with the tokens {asked.token_ids[:at].tolist()}, not with "
                f"{self._before} as learner.model's template begins its questions; play it again with learner.model"
            )
        token_ids = np.insert(asked.token_ids, at, np.array(self._context, np.int64))
        return replace(asked, token_ids=token_ids, sampled_at=asked.sampled_at + len(self._context))


def distillation(predictions: Predictions, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    assert predictions.divergences is not None
    played = ~step.table.is_demonstration[numbers]
    distances = predictions.divergences[played]
    step.statistics.add("kl_teacher", distances.detach().sum(), len(distances))
    return step.config.distillation.coefficient * (step.token_shares(numbers[played]) * distances).sum()
