"""Losses against tables worked out by hand."""

from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from learner.loss import by_answer, divergence, imitation_loss, importance_weights, policy_losses, value_loss
from learner.loss_config import LossConfig


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_ratio_is_clipped_where_that_would_help() -> None:
    old = numbers(-1, -1, -1, -1)
    logprobs = old + numbers(log(1.5), log(1.5), log(0.5), log(0.5))
    losses, was_clipped = policy_losses(logprobs, old, old, numbers(2, -2, 2, -2), LossConfig(clip=0.2))
    # gains: min(3, 2.4) = 2.4; min(-3, -2.4) = -3; min(1, 1.6) = 1; min(-1, -1.6) = -1.6
    assert losses.tolist() == pytest.approx([-2.4, 3, -1, 1.6])
    assert was_clipped.tolist() == [True, False, False, True]


def test_the_upper_clip_can_be_wider() -> None:
    losses, was_clipped = policy_losses(
        numbers(log(1.5)), numbers(0), numbers(0), numbers(1), LossConfig(clip=0.2, clip_high=0.6)
    )
    assert losses.tolist() == pytest.approx([-1.5])
    assert not was_clipped.any()


def test_dual_clip_bounds_what_a_bad_token_costs() -> None:
    losses, _ = policy_losses(numbers(log(50)), numbers(0), numbers(0), numbers(-1), LossConfig(dual_clip=3))
    assert losses.tolist() == pytest.approx([3])


def test_importance_weights_are_capped_and_carry_no_gradient() -> None:
    old = numbers(log(0.5), log(0.9)).requires_grad_()
    weights = importance_weights(old, numbers(log(0.1), log(0.6)), 2.0)
    assert weights.tolist() == pytest.approx([2.0, 1.5])
    assert not weights.requires_grad
    assert importance_weights(old, numbers(0, 0), None).tolist() == [1, 1]


def test_clipped_tokens_have_no_gradient() -> None:
    logprobs = numbers(log(1.5), log(1.1)).requires_grad_()
    losses, _ = policy_losses(logprobs, numbers(0, 0), numbers(0, 0), numbers(1, 1), LossConfig(clip=0.2))
    [gradient] = torch.autograd.grad(losses.sum(), logprobs)
    assert gradient.tolist() == pytest.approx([0, -1.1])


def test_answers_are_sums_of_their_tokens() -> None:
    values, weights = numbers(-1, -2, -3, -4), numbers(0.5, 1, 1, 1)
    assert by_answer(values, weights, torch.tensor([0, 0, 1, 0]), 2).tolist() == [-6.5, -3]


@pytest.mark.parametrize(("clip", "expected"), [(None, 0.5 * (0.25 + 4)), (0.2, 0.5 * (0.64 + 4))])
def test_value_loss(clip: float | None, expected: float) -> None:
    # The first value moved from 0 to 0.5 towards 1; with a clip of 0.2 it counts as if it had moved to 0.2 only.
    loss = value_loss(numbers(0.5, 3), numbers(0, 3), numbers(1, 1), clip)
    assert loss.item() == pytest.approx(expected)


def test_estimators_of_the_divergence() -> None:
    new, reference = numbers(log(0.5)), numbers(log(0.25))
    assert divergence(new, reference, "k1").item() == pytest.approx(log(2))
    assert divergence(new, reference, "k2").item() == pytest.approx(0.5 * log(2) ** 2)
    assert divergence(new, reference, "k3").item() == pytest.approx(0.5 - 1 + log(2))


def test_a_token_that_one_policy_finds_impossible_does_not_outweigh_all_others() -> None:
    assert divergence(numbers(-60), numbers(-1), "k3").item() == pytest.approx(exp(10) - 1 - 10)
    assert divergence(numbers(-1), numbers(-60), "k3").item() == pytest.approx(exp(-10) - 1 + 10)


@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), min_size=2, max_size=6))
def test_k1_and_k3_mean_the_divergence(masses: list[tuple[float, float]]) -> None:
    policy, reference = (numbers(*masses_of) for masses_of in zip(*masses, strict=True))
    policy, reference = (policy / policy.sum()).log(), (reference / reference.sum()).log()
    exact = kl_divergence(Categorical(logits=policy), Categorical(logits=reference)).item()
    for estimator in ("k1", "k3"):
        mean = (policy.exp() * divergence(policy, reference, estimator)).sum().item()
        assert mean == pytest.approx(exact, abs=1e-9)


def test_imitation_is_weighted_cross_entropy() -> None:
    assert imitation_loss(numbers(-1, -2, -3), numbers(1, 0.5, 0)).item() == pytest.approx(2)
