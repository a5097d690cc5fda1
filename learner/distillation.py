"""On-policy distillation: what a teacher would have drawn from, held against the policy, token by played token.

The divergence is that of the policy from the teacher over the whole vocabulary, KL(policy ‖ teacher), at the places
that the policy itself has come to; so it learns what the teacher would do where it is, and not only where the teacher
goes.
"""

import torch

from learner.policy_model import Predictions
from learner.token_table import Step


def distillation(predictions: Predictions, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    assert predictions.divergences is not None
    played = ~step.table.is_demonstration[numbers]
    distances = predictions.divergences[played]
    step.statistics.add("kl_teacher", distances.detach().sum(), len(distances))
    return step.config.distillation.coefficient * (step.token_shares(numbers[played]) * distances).sum()
