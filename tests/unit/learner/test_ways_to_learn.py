"""Ways to learn beside reinforcement and imitation, each held against its formula worked out slowly."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learner._gradients import ClippedAdamW, PulledAdamW
from learner.batch import BatchError, ModelInput
from learner.config import LearnerConfig
from learner.distillation import Telling, distillation
from learner.loss_config import RewardKlConfig, ScheduleConfig
from learner.policy_model import Predictions
from learner.ppo import reinforcement, weigh
from learner.preference import pairs_of, prefer
from learner.sequence import TrainingSequence, Trajectory
from learner.sft import imitation
from learner.statistics import Statistics
from learner.token_table import Step, TokenTable, Totals
from tests.support.chat import TEMPLATES, chat_tokens
from tests.support.sequences import random_sequence

SEEDS = st.integers(0, 2**32 - 1)


def step_of(sequences: list[TrainingSequence], options: dict[str, Any]) -> Step:
    config = LearnerConfig.model_validate(options)
    table = TokenTable.of(sequences, config)
    return Step(table, Totals(Totals.count(torch.arange(len(table.rewards)), table)), config, Statistics())


def predicted(logprobs: torch.Tensor, divergences: torch.Tensor | None = None) -> Predictions:
    zeros = torch.zeros(len(logprobs))
    return Predictions(logprobs=logprobs, entropies=None, divergences=divergences, values=zeros, after=zeros[:0])


def gradient(loss: Callable[..., torch.Tensor], step: Step, logprobs: torch.Tensor) -> torch.Tensor:
    asked = logprobs.clone().requires_grad_()
    loss(predicted(asked), torch.arange(len(asked)), step).backward()
    assert asked.grad is not None
    return asked.grad


@given(SEEDS)
def test_dynamic_fine_tuning_weighs_each_token_by_its_probability(seed: int) -> None:
    random = Random(seed)
    sequences = [random_sequence(random, 100, seed=number, is_demonstration=True) for number in range(3)]
    plain, weighed = (step_of(sequences, {"sft": {"weighting": weighting}}) for weighting in ("none", "dft"))
    logprobs = -torch.rand(len(plain.table.rewards)) * 5
    expected = gradient(imitation, plain, logprobs) * logprobs.exp()
    torch.testing.assert_close(gradient(imitation, weighed, logprobs), expected)
    means = [step.statistics.means(lambda sums: sums)["sft_loss"] for step in (plain, weighed)]
    assert means[0] == means[1], "what is told is the cross-entropy, however it is weighed"


@given(SEEDS)
def test_of_what_was_played_right_answers_alone_are_imitated(seed: int) -> None:
    random = Random(seed)
    played = [random_sequence(random, 100, seed=number, num_turns=random.randint(1, 4)) for number in range(4)]
    taken = [TrainingSequence(**{**fields(each), "is_demonstration": True, "imitates": "right"}) for each in played]
    step = step_of(taken, {"imitate_successes": True})
    logprobs = -torch.rand(len(step.table.rewards))
    right = np.concatenate([each.is_right[each.is_sampled] for each in played])
    expected = torch.from_numpy(np.where(right, -1.0 / max(right.sum(), 1), 0.0)).float()
    torch.testing.assert_close(gradient(imitation, step, logprobs), expected)
    assert step.totals.teach == bool(right.any()) and not step.totals.tokens


def fields(sequence: TrainingSequence) -> dict[str, Any]:
    return {name: getattr(sequence, name) for name in sequence.__slots__}


@given(SEEDS, st.sampled_from(["token", "turn", "bi_level", "grpo", "reinforce"]))
def test_divergence_in_the_reward_is_a_reward_of_every_token(seed: int, kind: str) -> None:
    """Advantages are those of rewards from which β · log(p ÷ p₀) has been taken by hand."""
    random = Random(seed)
    sequences = [random_sequence(random, 100, seed=number // 2, sample=number % 2) for number in range(6)]
    groups: dict[Trajectory, int] = {each.trajectory: each.trajectory.seed for each in sequences}
    options: dict[str, Any] = {"advantage": {"kind": kind}}
    given, by_hand = (step_of(sequences, options) for _ in range(2))
    noise = torch.Generator().manual_seed(seed % 2**31)
    for table in (given.table, by_hand.table):
        noise.manual_seed(seed % 2**31)
        table.old_logprobs = -torch.rand(len(table.rewards), generator=noise)
        table.reference_logprobs = -torch.rand(len(table.rewards), generator=noise)
        table.values = torch.rand(len(table.rewards), generator=noise)
    by_hand.table.rewards -= 0.3 * (by_hand.table.old_logprobs - by_hand.table.reference_logprobs)
    weigh(given.table, sequences, groups, given.config, lambda rows: rows, 0.3)
    weigh(by_hand.table, sequences, groups, by_hand.config, lambda rows: rows)
    torch.testing.assert_close(given.table.advantages, by_hand.table.advantages)
    torch.testing.assert_close(given.table.returns, by_hand.table.returns)


def test_the_coefficient_of_divergence_goes_where_the_target_is() -> None:
    options = RewardKlConfig(coefficient=0.2, target=6.0, horizon=1000)
    assert options.adapted(0.2, 6.0, 100) == 0.2
    assert options.adapted(0.2, 60.0, 100) == pytest.approx(0.2 * 1.02), "no faster than by a fifth in a horizon"
    assert options.adapted(0.2, 0.0, 100) == pytest.approx(0.2 * 0.98)
    assert options.adapted(0.2, 6.6, 500) == pytest.approx(0.2 * 1.05)
    assert RewardKlConfig(coefficient=0.2).adapted(0.2, 60.0, 100) == 0.2


@given(SEEDS, st.floats(0.01, 2))
def test_preference_is_that_of_dpo(seed: int, beta: float) -> None:
    """The gradient is that of −log σ(β · margin), summed over answers' log-probabilities by hand."""
    random = Random(seed)
    played = [random_sequence(random, 100, seed=number, num_turns=random.randint(1, 5)) for number in range(4)]
    shown = random_sequence(random, 100, is_demonstration=True)
    pairs = pairs_of([shown, *played], None)
    assert pairs[-1] is shown
    step = step_of(pairs, {"advantage": {"kind": "dpo"}, "loss": {"preference_beta": beta}})
    table, noise = step.table, torch.Generator().manual_seed(seed % 2**31)
    table.old_logprobs = -torch.rand(len(table.rewards), generator=noise) * 3
    table.reference_logprobs = -torch.rand(len(table.rewards), generator=noise) * 3
    told = prefer(table, beta, lambda sums: sums)
    asked = table.old_logprobs.clone().requires_grad_()
    losses, start = [], 0
    moved = []
    for each in pairs[:-1]:
        end = start + int(each.is_sampled.sum())
        moved.append((asked - table.reference_logprobs)[start:end].sum())
        start = end
    for chosen, rejected in zip(moved[::2], moved[1::2], strict=True):
        losses.append(-torch.nn.functional.logsigmoid(beta * (chosen - rejected)))
    assert told["pairs"] == len(losses)
    if losses:
        mean = torch.stack(losses).mean()
        mean.backward()
        assert told["dpo_loss"] == pytest.approx(mean.item(), rel=1e-4)
        found = gradient(lambda *asked: reinforcement(*asked)["policy"], step, table.old_logprobs)
        torch.testing.assert_close(found, asked.grad, rtol=1e-4, atol=1e-6)


def test_pairs_are_a_failed_answer_and_what_corrected_it_where_that_was_asked() -> None:
    sequence = random_sequence(Random(4), 100, num_turns=5)
    right = np.isin(sequence.turns, [2, 4]) & sequence.is_sampled
    sequence.is_right[:] = right
    tokens = {turn: sequence.token_ids[sequence.turns == turn].tolist() for turn in range(5)}
    before = {turn: sequence.token_ids[: np.flatnonzero(sequence.turns == turn)[0]].tolist() for turn in range(5)}
    made = [(each.token_ids.tolist(), int(each.is_sampled.sum())) for each in pairs_of([sequence], None)]
    expected = [(place, answer) for place, right in ((0, 2), (1, 2), (3, 4)) for answer in (right, place)]
    assert made == [(before[place] + tokens[answer], len(tokens[answer])) for place, answer in expected]


@given(SEEDS)
def test_distillation_is_the_mean_divergence_of_played_tokens(seed: int) -> None:
    random = Random(seed)
    sequences = [random_sequence(random, 100, seed=number, is_demonstration=number == 1) for number in range(4)]
    options = {"distillation": {"teacher": "somewhere", "coefficient": 0.7}}
    step = step_of(sequences, options)
    logprobs = -torch.rand(len(step.table.rewards))
    divergences = torch.rand(len(logprobs), requires_grad=True)
    loss = distillation(predicted(logprobs, divergences), torch.arange(len(logprobs)), step)
    played = ~step.table.is_demonstration
    torch.testing.assert_close(loss, 0.7 * divergences[played].mean())
    loss.backward()
    assert divergences.grad is not None and not divergences.grad[~played].any()


@pytest.mark.parametrize("template", TEMPLATES)
@given(question=st.text("abc {}:", min_size=1, max_size=20), answer=st.text("xyz", min_size=1, max_size=9))
def test_a_teacher_is_told_the_context_before_the_question(template: str, question: str, answer: str) -> None:
    chat = chat_tokens(TEMPLATES[template])
    question = question.strip() or "a"
    shown, drawn = chat.opening(question, 0), chat.tokenizer(answer)["input_ids"]
    asked = ModelInput(
        token_ids=np.array([*shown, *drawn]),
        sampled_at=np.arange(len(shown), len(shown) + len(drawn)),
        first_number=3,
    )
    told = Telling(chat, "J counts 11.").told(asked)
    assert told.token_ids.tolist() == [*chat.opening(f"J counts 11.\n{question}", 0), *drawn]
    assert told.token_ids[told.sampled_at].tolist() == drawn and told.first_number == 3


def test_what_does_not_begin_as_a_dialogue_is_refused() -> None:
    asked = ModelInput(token_ids=np.arange(9), sampled_at=np.arange(5, 9), first_number=0)
    with pytest.raises(BatchError, match="template begins its questions"):
        Telling(chat_tokens(), "a rule").told(asked)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"teacher": "itself"}, "give it a context"), ({"context": "a rule"}, "is told to nobody; set teacher=itself")],
)
def test_a_teacher_that_can_teach_nothing_is_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LearnerConfig.model_validate({"distillation": options})


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_a_schedule_goes_from_the_weight_to_its_end_and_stays(kind: str) -> None:
    schedule = ScheduleConfig(kind=kind, updates=10, end=0.2)  # pyright: ignore[reportArgumentType]
    weights = [schedule.at(1.0, update) for update in range(15)]
    if kind == "constant":
        assert weights == [1.0] * 15
        return
    assert weights[0] == 1.0 and weights[10:] == [pytest.approx(0.2)] * 5
    assert weights == sorted(weights, reverse=True) and weights[5] == pytest.approx(0.6)
    early = 0.2 + 0.8 * (1 - 0.2 if kind == "linear" else (1 + math.cos(0.2 * math.pi)) / 2)
    assert weights[2] == pytest.approx(early)


@pytest.mark.parametrize("clips", [False, True])
def test_weights_are_pulled_to_where_they_began(clips: bool) -> None:
    """AdamW's step, and then a share of the way back; one group of two is pulled."""
    torch.manual_seed(3)
    weights = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
    by_hand = [weight.detach().clone().requires_grad_() for weight in weights]
    start = weights[0].detach().clone()
    groups: Any = [{"params": [weights[0]], "pull": 0.5}, {"params": [weights[1]], "pull": 0.0}]
    optimizer = ClippedAdamW(groups, 1e9, lr=0.1) if clips else PulledAdamW(groups, lr=0.1)
    plain = torch.optim.AdamW(by_hand, lr=0.1)
    for _ in range(5):
        gradients = [torch.randn(4, 3) for _ in range(2)]
        for ours, theirs, grad in zip(weights, by_hand, gradients, strict=True):
            ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        plain.step()
        with torch.no_grad():
            by_hand[0] -= 0.1 * 0.5 * (by_hand[0] - start)
    torch.testing.assert_close(weights, by_hand)
    # Whoever goes on from its state pulls to where the weights began, and not to where they are now.
    restored = PulledAdamW([{"params": [weights[0]], "pull": 0.5}, {"params": [weights[1]], "pull": 0.0}], lr=0.1)
    restored.load_state_dict(optimizer.state_dict())
    torch.testing.assert_close(restored.state[weights[0]]["start"], start)


def test_reinforcement_of_a_step_that_has_a_teacher_is_the_same_without_him() -> None:
    sequences = [random_sequence(Random(1), 100, seed=number) for number in range(3)]
    losses = []
    for options in ({}, {"distillation": {"teacher": "somewhere"}}):
        step = step_of(sequences, options)
        step.table.advantages = torch.arange(len(step.table.rewards)).float()
        logprobs = step.table.old_logprobs + 0.1
        predictions = predicted(logprobs, torch.ones(len(logprobs)))
        losses.append(sum(reinforcement(predictions, torch.arange(len(logprobs)), step).values()))
    torch.testing.assert_close(*losses)
