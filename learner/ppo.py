"""Reinforcement: what has to be known before the first step, and what each micro-batch adds to the loss.

weigh(table, …)              values, old log-probabilities, rewards → advantages and returns (GAE, GRPO, RLOO)
reinforcement(…)             policy, value, entropy and divergence of one micro-batch, over global counts
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from learner.advantage import Advantages, Gather, Trajectories, compute_advantages
from learner.config import LearnerConfig
from learner.loss import by_answer, divergence, policy_loss, value_loss
from learner.policy_model import Predictions
from learner.sequence import TrainingSequence, Trajectory
from learner.token_table import Step, TokenTable


def weigh(
    table: TokenTable,
    sequences: Sequence[TrainingSequence],
    groups: Mapping[Trajectory, int],
    config: LearnerConfig,
    gather: Gather,
) -> Advantages:
    """Fill in advantages and returns of all reinforced tokens."""
    reinforced = ~table.is_demonstration
    # The number of an episode counts demonstrations too; those of the reinforced ones are made to run from 0.
    _, episodes = torch.unique(table.episodes[reinforced], return_inverse=True)
    played = [sequence for sequence in sequences if not sequence.is_demonstration]
    order = list(dict.fromkeys(sequence.trajectory for sequence in played))
    is_truncated = {sequence.trajectory: sequence.is_truncated for sequence in played}
    last = np.flatnonzero(np.diff(episodes.numpy(), append=len(order))) if order else np.zeros(0, np.int64)
    after = table.after[reinforced].double().numpy()[last]
    advantages = compute_advantages(
        Trajectories(
            episodes=episodes.numpy(),
            turns=table.turns[reinforced].numpy(),
            rewards=table.rewards[reinforced].double().numpy(),
            values=table.values[reinforced].double().numpy(),
            after=np.where([is_truncated[trajectory] for trajectory in order], after, 0.0),
            groups=np.array([groups[trajectory] for trajectory in order], np.int64),
        ),
        config.advantage,
        gather,
    )
    table.advantages[reinforced] = torch.from_numpy(advantages.advantages).float()
    table.returns[reinforced] = torch.from_numpy(advantages.returns).float()
    table.is_value_target[reinforced] = torch.from_numpy(advantages.is_value_target)
    return advantages


def reinforcement(predictions: Predictions, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    table, totals, options = step.table, step.totals, step.config.loss
    reinforced = ~table.is_demonstration[numbers]
    numbers = numbers[reinforced]
    logprobs = predictions.logprobs[reinforced]
    loss = _policy(logprobs, numbers, step)
    if totals.value_targets:
        at = table.is_value_target[numbers]
        of_critic = value_loss(
            predictions.values[reinforced][at],
            table.values[numbers][at],
            table.returns[numbers][at],
            options.value_clip,
        )
        step.statistics.add("value_loss", of_critic.detach(), int(at.sum()))
        loss = loss + options.value_coefficient * of_critic / totals.value_targets
    if predictions.entropies is not None:
        entropy = predictions.entropies[reinforced].sum()
        step.statistics.add("entropy", entropy.detach(), len(numbers))
        loss = loss - options.entropy_coefficient * entropy / totals.tokens
    if options.kl_coefficient:
        distance = divergence(logprobs, table.reference_logprobs[numbers], options.kl_estimator).sum()
        step.statistics.add("kl_reference", distance.detach(), len(numbers))
        loss = loss + options.kl_coefficient * distance / totals.tokens
    return loss


def _policy(logprobs: torch.Tensor, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    table, options, statistics = step.table, step.config.loss, step.statistics
    old, sampled = table.old_logprobs[numbers], table.sampled_logprobs[numbers]
    advantages, count = table.advantages[numbers], step.totals.tokens
    statistics.add("kl_old", divergence(logprobs.detach(), old, "k3").sum(), len(numbers))
    if options.ratio == "answer":
        found, answers = torch.unique(table.answers[numbers], return_inverse=True)
        weights, ones = table.ratio_weights[numbers], torch.ones_like(old)
        lengths = by_answer(ones, ones, answers, len(found))
        advantages = by_answer(advantages, ones, answers, len(found)) / lengths
        logprobs, old, sampled = (by_answer(each, weights, answers, len(found)) for each in (logprobs, old, sampled))
        count = step.totals.answers
    loss, was_clipped = policy_loss(logprobs, old, sampled, advantages, options)
    statistics.add("policy_loss", loss.detach(), len(was_clipped))
    statistics.add("clip_fraction", was_clipped.sum(), len(was_clipped))
    return loss / max(count, 1)
