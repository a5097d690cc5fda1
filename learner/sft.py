"""Imitation: what each micro-batch of demonstrations adds to the loss."""

import torch

from learner.loss import imitation_loss
from learner.policy_model import Predictions
from learner.token_table import Step


def imitation(predictions: Predictions, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    weights = step.table.imitation_weights[numbers]
    loss = imitation_loss(predictions.logprobs, weights)
    weight = float(weights.sum())
    step.statistics.add("sft_loss", loss.detach(), weight)
    if step.config.sft.weighting == "dft":
        loss = imitation_loss(predictions.logprobs, weights * predictions.logprobs.detach().exp())
    if predictions.divergences is not None and step.config.sft.kl_coefficient:
        distance = (weights * predictions.divergences).sum()
        step.statistics.add("sft_kl", distance.detach(), weight)
        loss = loss + step.config.sft.kl_coefficient * distance
    return loss / max(step.totals.imitation_weight, 1e-12)
