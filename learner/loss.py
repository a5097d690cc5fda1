"""Losses of sampled tokens; whoever sums over micro-batches and ranks has divided by global counts before.

    policy_losses    clipped ratio by token or by answer, dual clip, importance weights
    value_loss       clipped squared error
    divergence       k1, k2, k3 estimates of the divergence from a reference
    imitation_loss   weighted cross-entropy

Legend: n sampled tokens, m answers; `answers` [n] numbers each token's answer from 0 to m − 1.
"""

import torch

from learner.loss_config import LossConfig

LARGEST_LOG_RATIO = 10.0
"""A token that one policy finds e^10 times as likely as the other is as far off as can be told: k3 grows as this ratio,
and one such token would outweigh all others."""


def policy_losses(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    sampled_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    config: LossConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token, or answer, −advantage × ratio, clipped, and whether the ratio was clipped.

    With `ratio: answer` the arguments are sums over answers, see `by_answer`.
    """
    ratios = (logprobs - old_logprobs).exp()
    clip_high = config.clip if config.clip_high is None else config.clip_high
    clipped = ratios.clamp(1 - config.clip, 1 + clip_high)
    gains = torch.minimum(ratios * advantages, clipped * advantages)
    if config.dual_clip is not None:
        gains = torch.where(advantages < 0, torch.maximum(gains, config.dual_clip * advantages), gains)
    weights = importance_weights(old_logprobs, sampled_logprobs, config.importance_cap)
    was_clipped = (ratios * advantages > clipped * advantages).detach()
    return -weights * gains, was_clipped


def importance_weights(old_logprobs: torch.Tensor, sampled_logprobs: torch.Tensor, cap: float | None) -> torch.Tensor:
    """How much likelier the old policy made what another one sampled, at most `cap`; 1 where there is no cap."""
    if cap is None:
        return torch.ones_like(old_logprobs)
    return (old_logprobs - sampled_logprobs).exp().clamp_max(cap).detach()


def by_answer(values: torch.Tensor, weights: torch.Tensor, answers: torch.Tensor, num_answers: int) -> torch.Tensor:
    """[m] the weighted sums of `values` [n] over the tokens of each answer."""
    return torch.zeros(num_answers, dtype=values.dtype, device=values.device).index_add(0, answers, values * weights)


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float | None
) -> torch.Tensor:
    """The sum of half the squared errors; of the worse of both where moving further than `clip` would help."""
    errors = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns).square())
    return 0.5 * errors.sum()


def divergence(logprobs: torch.Tensor, reference_logprobs: torch.Tensor, estimator: str) -> torch.Tensor:
    """[n] estimates of the divergence from the reference, each from the one token that was sampled."""
    log_ratios = (logprobs - reference_logprobs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    if estimator == "k1":
        return log_ratios
    if estimator == "k2":
        return 0.5 * log_ratios.square()
    return (-log_ratios).exp() - 1 + log_ratios


def imitation_loss(logprobs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted sum of cross-entropies."""
    return -(weights * logprobs).sum()
