"""Reinforcement: what has to be known before the first step, and what each micro-batch adds to the loss.

weigh(table, …)              values, old log-probabilities, rewards → advantages and returns (GAE, GRPO, RLOO)
reinforcement(…)             policy, value, entropy and divergence of one micro-batch, over global counts
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from learner.advantage import Advantages, Gather, Trajectories, compute_advantages
from learner.config import LearnerConfig
from learner.loss import by_answer, divergence, policy_losses, value_loss
from learner.policy_model import Predictions
from learner.preference import preference
from learner.sequence import TrainingSequence, Trajectory
from learner.token_table import Step, TokenTable


def weigh(
    table: TokenTable,
    sequences: Sequence[TrainingSequence],
    groups: Mapping[Trajectory, int],
    config: LearnerConfig,
    gather: Gather,
    reward_kl: float = 0.0,
) -> Advantages:
    """Fill in advantages and returns of all reinforced tokens; `reward_kl` is what a nat away from the initial policy
    costs."""
    reinforced = ~table.is_demonstration
    rewards = table.rewards - reward_kl * (table.old_logprobs - table.reference_logprobs)
    # The number of an episode counts demonstrations too; those of the reinforced ones are made to run from 0.
    _, episodes = torch.unique(table.episodes[reinforced], return_inverse=True)
    played = [sequence for sequence in sequences if not sequence.is_demonstration]
    order = list(dict.fromkeys(sequence.trajectory for sequence in played))
    is_truncated = {sequence.trajectory: sequence.is_truncated for sequence in played}
    after = _after(table, reinforced, episodes.numpy(), config)
    advantages = compute_advantages(
        Trajectories(
            episodes=episodes.numpy(),
            turns=table.turns[reinforced].numpy(),
            rewards=rewards[reinforced].double().numpy(),
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


def _after(table: TokenTable, reinforced: torch.Tensor, episodes: np.ndarray, config: LearnerConfig) -> np.ndarray:
    """For each episode, what the critic says of what follows its last token."""
    lasts = np.flatnonzero(np.diff(episodes, append=episodes[-1:] + 1))
    if config.advantage.kind != "turn":
        return table.after[reinforced].double().numpy()[lasts]
    # This critic knows the states in which turns start, and none within an answer: who was cut off in the midst of a
    # turn has before him what he had when it started.
    turns = table.turns[reinforced].numpy()
    firsts = np.flatnonzero(np.diff(np.stack([episodes, turns]), prepend=-1).any(axis=0))
    starts = firsts[np.searchsorted(firsts, lasts, side="right") - 1]
    return table.values[reinforced].double().numpy()[starts]


def reinforcement(predictions: Predictions, numbers: torch.Tensor, step: Step) -> dict[str, torch.Tensor]:
    """This micro-batch's share of the global loss, by what it is for; `numbers` [n] are its tokens' rows in the
    table."""
    table, options = step.table, step.config.loss
    if step.config.advantage.kind == "dpo":
        return {"policy": preference(predictions, numbers, step)}
    reinforced = ~table.is_demonstration[numbers]
    numbers = numbers[reinforced]
    logprobs = predictions.logprobs[reinforced]
    losses = {"value": _critic(predictions.values[reinforced], numbers, step)}
    if step.critic_only:
        return losses
    losses["policy"] = _policy(logprobs, numbers, step)
    shares = step.token_shares(numbers)
    if predictions.entropies is not None:
        entropies = predictions.entropies[reinforced]
        step.statistics.add("entropy", entropies.detach().sum(), len(numbers))
        losses["entropy"] = -options.entropy_coefficient * (shares * entropies).sum()
    if options.kl_coefficient:
        distances = divergence(logprobs, table.reference_logprobs[numbers], options.kl_estimator)
        step.statistics.add("kl_reference", distances.detach().sum(), len(numbers))
        losses["kl"] = options.kl_coefficient * (shares * distances).sum()
    return losses


def _critic(values: torch.Tensor, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    table, options = step.table, step.config.loss
    at = table.is_value_target[numbers]
    targets = numbers[at]
    loss = value_loss(values[at], table.values[targets], table.returns[targets], options.value_clip)
    step.statistics.add("value_loss", loss.detach(), len(targets))
    return options.value_coefficient * loss / max(step.totals.value_targets, 1)


def _policy(logprobs: torch.Tensor, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    table, options, statistics = step.table, step.config.loss, step.statistics
    old, sampled = table.old_logprobs[numbers], table.sampled_logprobs[numbers]
    advantages, shares = table.advantages[numbers], step.token_shares(numbers)
    statistics.add("kl_old", divergence(logprobs.detach(), old, "k3").sum(), len(numbers))
    if options.ratio == "answer":
        found, answers = torch.unique(table.answers[numbers], return_inverse=True)
        weights, ones = table.ratio_weights[numbers], torch.ones_like(old)
        lengths = by_answer(ones, ones, answers, len(found))
        advantages = by_answer(advantages, ones, answers, len(found)) / lengths
        logprobs, old, sampled = (by_answer(each, weights, answers, len(found)) for each in (logprobs, old, sampled))
        shares = torch.zeros_like(old).index_copy(0, answers, step.answer_shares(numbers))
    losses, was_clipped = policy_losses(logprobs, old, sampled, advantages, options)
    statistics.add("policy_loss", losses.detach().sum(), len(was_clipped))
    statistics.add("clip_fraction", was_clipped.sum(), len(was_clipped))
    return (shares * losses).sum()
