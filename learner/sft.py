"""Imitation: what each micro-batch of demonstrations adds to the loss."""

import torch

from learner.config import LearnerConfig
from learner.loss import full_divergence, imitation_loss
from learner.policy_model import Predictions
from learner.statistics import Statistics
from learner.token_table import TokenTable, Totals


def imitation(
    predictions: Predictions,
    reference: Predictions | None,
    numbers: torch.Tensor,
    table: TokenTable,
    totals: Totals,
    config: LearnerConfig,
    statistics: Statistics,
) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    weights = table.imitation_weights[numbers]
    loss = imitation_loss(predictions.logprobs, weights)
    weight = float(weights.sum())
    statistics.add("sft_loss", loss.detach(), weight)
    if reference is not None:
        assert predictions.log_distributions is not None
        assert reference.log_distributions is not None
        distance = (weights * full_divergence(predictions.log_distributions, reference.log_distributions)).sum()
        statistics.add("sft_kl", distance.detach(), weight)
        loss = loss + config.sft.kl_coefficient * distance
    return loss / max(totals.imitation_weight, 1e-12)
