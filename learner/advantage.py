"""Advantages and returns (GAE, GRPO, RLOO, REINFORCE): how much better than expected each sampled token was.

Two episodes of two turns and of one, two tokens to a turn, with `kind: turn`, turn_gamma 0.5 and turn_lambda 1:

    episodes          0   0   0   0   1   1
    turns             0   0   1   1   0   0
    rewards           0  -1   0   5   0  -1
    values            1   7   2   7   1   7        after [0, 0]: both terminated
                     ───────────────────────
    advantages       .5  .5   3   3  -2  -2        3 = 5 - 2;  .5 = (-1 + .5 × 2 - 1) + .5 × 3;  -2 = -1 - 1
    returns         1.5   0   5   0  -1   0
    is_value_target   1   0   1   0   1   0

What the environment said between two answers is not among the tokens, so it cannot enter an estimate. Nothing flows
from one episode to another: what follows an episode's last token is its own entry of `after`. Inputs are of any
precision, calculations and results of 64 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from learner.loss_config import AdvantageConfig

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

Gather = Callable[[FloatArray], FloatArray]
"""Rows of this rank → rows of all ranks, in an order that is the same on all of them.

Every rank calls it equally often, with equally many columns of 64 bits; how many rows is each rank's own affair, and
may be none."""

_LARGEST_GROUP = 2**53
"""Beyond it two numbers of groups may become one, as they travel between ranks among floating-point numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """The sampled tokens of whole episodes: flat, episode after episode, in the order of time.

    Arrays have n entries, one for each token, or num_episodes; both may be 0. An episode of which no token was sampled
    enters no mean.
    """

    episodes: IntArray
    """[n] Which episode each token is of, from 0; never decreases."""
    turns: IntArray
    """[n] Which turn of its episode; never decreases within one, and may skip numbers."""
    rewards: FloatArray
    """[n] What was earned at the token; what a turn earned stands at its last one."""
    values: FloatArray
    """[n] The critic's worth of the state before the token is drawn; zeros without a critic."""
    after: FloatArray
    """[num_episodes] The worth of the state behind the last token: 0 where the episode terminated, the critic's
    where it was truncated."""
    groups: IntArray
    """[num_episodes] The number of the task; episodes of one task share it, on all ranks."""

    def __post_init__(self) -> None:
        num_tokens, num_episodes = np.size(self.episodes), np.size(self.after)
        shapes = {
            **dict.fromkeys(("episodes", "turns", "rewards", "values"), (num_tokens,)),
            **dict.fromkeys(("after", "groups"), (num_episodes,)),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(
                    f"{name} has the shape {np.shape(getattr(self, name))}; for the {num_tokens} tokens of `episodes` "
                    f"and the {num_episodes} episodes of `after` it must be {shape}"
                )
        if num_tokens and not 0 <= np.min(self.episodes) <= np.max(self.episodes) < num_episodes:
            raise ValueError(f"episodes must lie between 0 and {num_episodes - 1}, as `after` has {num_episodes}")
        if np.any(self.episodes[1:] < self.episodes[:-1]):
            raise ValueError("episodes must not decrease: all tokens of one stand together, in the order of time")
        if np.any((self.turns[1:] < self.turns[:-1]) & (self.episodes[1:] == self.episodes[:-1])):
            raise ValueError("turns must not decrease within an episode: its tokens stand in the order of time")
        if np.any((self.groups > _LARGEST_GROUP) | (self.groups < -_LARGEST_GROUP)):
            raise ValueError("groups must lie within ±2^53, so that a floating-point number holds them exactly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """What the tokens of Trajectories have to learn from, each array with one entry for each of them."""

    advantages: FloatArray
    """[n] How much better than expected the token was; normalised, if asked for."""
    returns: FloatArray
    """[n] What the value before the token should have been, never normalised; 0 where the critic does not learn."""
    is_value_target: BoolArray
    """[n] Where the critic learns; nowhere without one."""


class _Turns(NamedTuple):
    """The m turns in which tokens were sampled, and the k episodes that have such a turn."""

    starts: IntArray
    """[m] The first token of each."""
    of_token: IntArray
    """[n] Which turn each token is of."""
    rewards: FloatArray
    """[m] What all tokens of the turn earned."""
    episode_starts: IntArray
    """[k] The first turn of each episode."""
    played: IntArray
    """[k] Which episode that is."""


def compute_advantages(
    trajectories: Trajectories, config: AdvantageConfig, gather: Gather = lambda rows: rows
) -> Advantages:
    """The advantages of one rank's tokens; `gather` tells it what the others have, where that matters.

    Every rank must call this together with the others, also one that has no tokens.
    """
    values = np.asarray(trajectories.values, np.float64)
    turns = _turns_of(trajectories)
    match config.kind:
        case "token":
            advantages = _of_tokens(trajectories, values, turns, config)
        case "turn":
            advantages = _of_turns(trajectories, values, turns, config)[turns.of_token]
        case "bi_level":
            advantages = _of_tokens_within_turns(trajectories, values, turns, config)
        case "reinforce":
            advantages = _against_all_turns(turns, config, gather)[turns.of_token]
        case "dpo":
            raise ValueError("advantage.kind=dpo has no credit: learner/preference.py weighs its pairs")
        case kind:
            of_episodes = _against_group(trajectories.groups[turns.played], turns, kind, gather)
            advantages = of_episodes[np.searchsorted(turns.played, trajectories.episodes)]
    is_value_target = np.full(len(values), config.needs_values)
    if config.kind == "turn":
        # A turn is one step: it counts once however long its answer is, and the state that it starts from is the one
        # before its first token.
        is_value_target[:] = False
        is_value_target[turns.starts] = True
        normalised = _normalised(advantages[turns.starts], config.normalise, gather)[turns.of_token]
    else:
        normalised = _normalised(advantages, config.normalise, gather)
    return Advantages(
        advantages=normalised,
        returns=np.where(is_value_target, advantages + values, 0.0),
        is_value_target=is_value_target,
    )


def _turns_of(trajectories: Trajectories) -> _Turns:
    starts = _starts_of(trajectories.episodes, trajectories.turns)
    of_token = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(trajectories.episodes)))
    episodes = trajectories.episodes[starts]
    episode_starts = _starts_of(episodes)
    return _Turns(
        starts=starts,
        of_token=of_token,
        rewards=_sums_of(trajectories.rewards, of_token, len(starts)),
        episode_starts=episode_starts,
        played=episodes[episode_starts],
    )


def _starts_of(*keys: IntArray) -> IntArray:
    """Where a run of equal entries begins; with several keys, of entries that are equal in all."""
    is_start = np.ones(len(keys[0]), np.bool_)
    is_start[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(is_start)


def _of_tokens(trajectories: Trajectories, values: FloatArray, turns: _Turns, config: AdvantageConfig) -> FloatArray:
    starts, after = turns.starts[turns.episode_starts], trajectories.after[turns.played]
    return _estimated(trajectories.rewards, values, after, starts, config.gamma, config.lambda_)


def _of_turns(trajectories: Trajectories, values: FloatArray, turns: _Turns, config: AdvantageConfig) -> FloatArray:
    """[m] The paper's recursion, but for what it took over from the next episode at a truncated end."""
    values, after = values[turns.starts], trajectories.after[turns.played]
    return _estimated(turns.rewards, values, after, turns.episode_starts, config.turn_gamma, config.turn_lambda)


def _of_tokens_within_turns(
    trajectories: Trajectories, values: FloatArray, turns: _Turns, config: AdvantageConfig
) -> FloatArray:
    """[n] A turn's return is what its last token earns; beyond that nothing flows from one turn to another."""
    turn_returns = _of_turns(trajectories, values, turns, config) + values[turns.starts]
    rewards = np.zeros_like(values)
    rewards[_lasts_of(turns.starts, len(values))] = turn_returns
    return _estimated(rewards, values, np.zeros_like(turn_returns), turns.starts, config.gamma, config.lambda_)


def _estimated(
    rewards: FloatArray, values: FloatArray, after: FloatArray, starts: IntArray, gamma: float, lambda_: float
) -> FloatArray:
    """Generalised advantage estimation for chains of steps that lie one behind another, each with its own `after`."""
    next_values = np.empty_like(values)
    next_values[:-1] = values[1:]
    next_values[_lasts_of(starts, len(values))] = after
    return _discounted(rewards + gamma * next_values - values, starts, gamma * lambda_)


def _discounted(steps: FloatArray, starts: IntArray, decay: float) -> FloatArray:
    """For each step, itself and all later ones of its chain, each further one weighted by another `decay`."""
    lengths = np.diff(starts, append=len(steps))
    longest_first = np.argsort(-lengths, kind="stable")
    lengths, lasts = lengths[longest_first], _lasts_of(starts, len(steps))[longest_first]
    sums = np.array(steps, np.float64)
    # Backwards in time, all chains at once: those that reach this far back are the first in the order of length.
    distances = np.arange(1, lengths.max(initial=1))
    for distance, num_chains in zip(distances, np.searchsorted(-lengths, -distances), strict=True):
        here = lasts[:num_chains] - distance
        sums[here] += decay * sums[here + 1]
    return sums


def _sums_of(entries: FloatArray, parts: IntArray, num_parts: int) -> FloatArray:
    return np.bincount(parts, weights=entries, minlength=num_parts).astype(np.float64)


def _lasts_of(starts: IntArray, num_steps: int) -> IntArray:
    return np.append(starts, num_steps)[1:] - 1


def _against_all_turns(turns: _Turns, config: AdvantageConfig, gather: Gather) -> FloatArray:
    """[m] What was earned from the turn on, against what that is on average over all turns of all ranks."""
    earned = _discounted(turns.rewards, turns.episode_starts, config.turn_gamma)
    counts, sums = gather(np.array([[len(earned), earned.sum()]], np.float64)).T
    return earned - sums.sum() / max(counts.sum(), 1)


def _against_group(
    groups: IntArray, turns: _Turns, kind: Literal["grpo", "dr_grpo", "rloo"], gather: Gather
) -> FloatArray:
    """[k] What each episode earned, against the episodes of the same group on all ranks."""
    of_episode = np.repeat(np.arange(len(groups)), np.diff(turns.episode_starts, append=len(turns.rewards)))
    scores = _sums_of(turns.rewards, of_episode, len(groups))
    all_groups, all_scores = gather(np.stack([groups.astype(np.float64), scores], axis=1)).T
    names, firsts, group_of_row = np.unique(all_groups, return_index=True, return_inverse=True)
    sizes = np.bincount(group_of_row, minlength=len(names))
    # Measured from the group's first score, equal scores are all exactly at their mean. A difference in the last bit
    # would be divided by a deviation that is just as small.
    origins = all_scores[firsts]
    distances = all_scores - origins[group_of_row]
    means = _sums_of(distances, group_of_row, len(names)) / sizes
    squares = _sums_of(np.square(distances - means[group_of_row]), group_of_row, len(names))
    own = np.searchsorted(names, groups)
    better = scores - origins[own] - means[own]
    match kind:
        case "grpo":
            return better / (np.sqrt(squares / sizes)[own] + 1e-6)
        case "dr_grpo":
            return better
        case "rloo":
            # The distance from the mean of the others; alone in its group an episode is at the mean already.
            return better * (sizes / np.maximum(sizes - 1, 1))[own]


def _normalised(advantages: FloatArray, how: Literal["none", "std", "mean_std"], gather: Gather) -> FloatArray:
    """Over all ranks, of each of which one row tells count, mean and squared distance from the mean."""
    if how == "none":
        return advantages
    own_mean = advantages.sum() / max(len(advantages), 1)
    own_row = [len(advantages), own_mean, np.square(advantages - own_mean).sum()]
    counts, means, squares = gather(np.array([own_row], np.float64)).T
    count = max(counts.sum(), 1)
    mean = counts @ means / count
    deviation = np.sqrt((squares.sum() + counts @ np.square(means - mean)) / count)
    if deviation <= 1e-8 * abs(mean):
        # All are equal but for rounding: there is no scale to bring to 1, and dividing would make −1 into −1e8.
        deviation = 1.0
    return (advantages - mean if how == "mean_std" else advantages) / (deviation + 1e-8)
