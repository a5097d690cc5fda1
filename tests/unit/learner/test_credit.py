"""The loss of a whole step is that of the papers, worked out slowly, whatever micro-batches it comes in."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.policy_model import Predictions
from learner.ppo import reinforcement, weigh
from learner.sequence import TrainingSequence, Trajectory
from learner.statistics import Statistics
from learner.token_table import Step, TokenTable, Totals
from tests.support.sequences import random_sequence

LENGTH = 12.5
PLAIN: dict[str, Any] = {"importance_cap": None, "episode_length": LENGTH}


def sequences_of_groups(random: Random, num_tasks: int, num_samples: int) -> list[TrainingSequence]:
    """Some with a demonstration of the same task, which teaches reinforcement nothing."""
    found = []
    for seed in range(num_tasks):
        for sample in range(num_samples):
            turns = random.randint(1, 3)
            found.append(random_sequence(random, 100, seed=seed, sample=sample, num_turns=turns))
        if random.random() < 0.5:
            found.append(random_sequence(random, 100, seed=seed, is_demonstration=True))
    return found


def step_of(sequences: list[TrainingSequence], options: dict[str, Any]) -> Step:
    config = LearnerConfig.model_validate(options)
    table = TokenTable.of(sequences, config)
    groups = {each.trajectory: each.trajectory.seed for each in sequences}
    weigh(table, sequences, groups, config, lambda rows: rows)
    everything = torch.arange(len(table.rewards))
    return Step(table, Totals(Totals.count(everything, table)), config, Statistics())


def gradient(step: Step, cuts: list[int], *, entropies: torch.Tensor | None = None) -> torch.Tensor:
    """Of the loss by each token's log-probability, at the old policy: its weight in the policy gradient."""
    logprobs = step.table.old_logprobs.clone().requires_grad_()
    count = len(logprobs)
    loss = torch.zeros(())
    bounds = [0, *sorted(cut % (count + 1) for cut in cuts), count]
    for start, end in pairwise(bounds):
        numbers = torch.arange(start, end)
        predictions = Predictions(
            logprobs=logprobs[numbers],
            entropies=None if entropies is None else entropies[numbers],
            divergences=None,
            values=torch.zeros(len(numbers)),
            after=torch.zeros(0),
        )
        loss = loss + sum(reinforcement(predictions, numbers, step).values())
    [found] = torch.autograd.grad(loss, logprobs)
    return found


def scores_of(sequences: list[TrainingSequence]) -> dict[Trajectory, float]:
    played = [each for each in sequences if not each.is_demonstration]
    return {each.trajectory: float(each.rewards.sum()) for each in played}


def of_paper(kind: str, sequences: list[TrainingSequence]) -> list[float]:
    """DeepSeekMath's (GRPO), Liu et al.'s (Dr. GRPO) and Ahmadian et al.'s (RLOO) weight of each token's gradient."""
    scores = scores_of(sequences)
    num_episodes = len(scores)
    found = []
    for each in sequences:
        length = int(each.is_sampled.sum())
        if each.is_demonstration:
            found += [0.0] * length
            continue
        mine = scores[each.trajectory]
        group = [score for other, score in scores.items() if other.task == each.trajectory.task]
        others = (sum(group) - mine) / (len(group) - 1)
        weight = {
            "grpo": (mine - np.mean(group)) / (np.std(group) + 1e-6) / length / num_episodes,
            "dr_grpo": (mine - np.mean(group)) / LENGTH / num_episodes,
            "rloo": (mine - others) / LENGTH / num_episodes,
        }[kind]
        found += [-float(weight)] * length
    return found


@settings(max_examples=60)
@given(
    st.sampled_from(["grpo", "dr_grpo", "rloo"]),
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(2, 4),
    st.lists(st.integers(0, 200), max_size=3),
)
def test_a_kind_is_the_algorithm_of_its_paper(
    kind: str, seed: int, num_tasks: int, num_samples: int, cuts: list[int]
) -> None:
    sequences = sequences_of_groups(Random(seed), num_tasks, num_samples)
    step = step_of(sequences, {"advantage": {"kind": kind}, "loss": PLAIN})
    assert gradient(step, cuts).tolist() == pytest.approx(of_paper(kind, sequences), abs=1e-5)


@settings(max_examples=40)
@given(
    st.sampled_from(["token_mean", "sequence_mean", "constant"]),
    st.sampled_from(["token", "answer"]),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 200), max_size=3),
)
def test_what_the_losses_of_tokens_are_averaged_over(aggregate: str, ratio: str, seed: int, cuts: list[int]) -> None:
    """By hand: a mean over all; over each episode and then over episodes; or sums over a fixed length."""
    sequences = sequences_of_groups(Random(seed), 3, 2)
    options = {"advantage": {"kind": "dr_grpo"}, "loss": {**PLAIN, "aggregate": aggregate, "ratio": ratio}}
    step = step_of(sequences, options)
    table = step.table
    played = [each for each in sequences if not each.is_demonstration]
    of_answer = table.answers[~table.is_demonstration].unique(return_counts=True)
    num_answers, num_tokens = len(of_answer[0]), int((~table.is_demonstration).sum())
    expected = []
    for each in sequences:
        turns = each.turns[each.is_sampled]
        for _ in turns:
            if each.is_demonstration:
                expected.append(0.0)
                continue
            parts = len(np.unique(turns)) if ratio == "answer" else len(turns)
            share = {
                "token_mean": 1 / (num_answers if ratio == "answer" else num_tokens),
                "sequence_mean": 1 / parts / len(played),
                "constant": 1 / LENGTH / len(played),
            }[aggregate]
            expected.append(-share * float(table.advantages[len(expected)]))
    # An answer's ratio is of its tokens' sum, each of which has the same gradient; answers are cut in no two.
    if ratio == "answer":
        cuts = []
    assert gradient(step, cuts).tolist() == pytest.approx(expected, abs=1e-5)


def test_entropies_and_divergences_count_as_the_losses_do() -> None:
    sequences = sequences_of_groups(Random(5), 2, 2)
    loss = {**PLAIN, "aggregate": "sequence_mean", "entropy_coefficient": 0.5}
    step = step_of(sequences, {"advantage": {"kind": "dr_grpo"}, "loss": loss})
    entropies = torch.ones(len(step.table.rewards), requires_grad=True)
    numbers = torch.arange(len(step.table.rewards))
    zeros = torch.zeros(len(numbers))
    predictions = Predictions(
        logprobs=step.table.old_logprobs, entropies=entropies, divergences=None, values=zeros, after=zeros[:0]
    )
    [found] = torch.autograd.grad(reinforcement(predictions, numbers, step)["entropy"], entropies)
    played = ~step.table.is_demonstration
    assert float(found[played].sum()) == pytest.approx(-0.5)
    assert float(found[~played].abs().sum()) == 0


def test_presets_of_a_kind_give_way_to_what_is_written() -> None:
    config = LearnerConfig.model_validate({"advantage": {"kind": "grpo", "normalise": "std"}})
    assert (config.advantage.normalise, config.loss.aggregate) == ("std", "sequence_mean")
    config = LearnerConfig.model_validate({"advantage": {"kind": "rloo"}, "loss": {"aggregate": "token_mean"}})
    assert (config.advantage.normalise, config.loss.aggregate) == ("none", "token_mean")
    config = LearnerConfig.model_validate({"advantage": {"kind": "bi_level"}})
    assert (config.advantage.normalise, config.loss.aggregate) == ("std", "token_mean")


def test_a_turn_that_was_cut_off_leads_back_to_where_it_started() -> None:
    """The critic of `turn` learns where turns start, so no other of its values may enter."""
    options = {"advantage": {"kind": "turn", "turn_gamma": 0.5, "turn_lambda": 1.0, "normalise": "none"}}
    config = LearnerConfig.model_validate(options)
    cut = replace(random_sequence(Random(3), 100, num_turns=2), is_truncated=True)
    ended = replace(random_sequence(Random(4), 100, seed=1, num_turns=2), is_truncated=False)
    table = TokenTable.of([cut, ended], config)
    torch.manual_seed(0)
    table.values, table.after = torch.randn(len(table.rewards)), torch.full((len(table.rewards),), 1e6)
    advantages = weigh(table, [cut, ended], {cut.trajectory: 0, ended.trajectory: 1}, config, lambda rows: rows)
    for each, first in ((cut, 0), (ended, int(cut.is_sampled.sum()))):
        turns = each.turns[each.is_sampled]
        starts = [first + int(np.argmax(turns == turn)) for turn in (0, 1)]
        rewards = [float(each.rewards[each.turns == turn].sum()) for turn in (0, 1)]
        values = [float(table.values[start]) for start in starts]
        last = rewards[1] + 0.5 * values[1] * each.is_truncated - values[1]
        both = rewards[0] + 0.5 * values[1] - values[0] + 0.5 * last
        assert advantages.advantages[starts].tolist() == pytest.approx([both, last])
