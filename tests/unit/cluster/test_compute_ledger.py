"""Both ledgers against tables worked out by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.record.compute_ledger import ComputeConfig, ComputeLedger, ModelSize, Update

if TYPE_CHECKING:
    from learner.learner import UpdateReport

    def _is_an_update(report: UpdateReport) -> Update:
        """The type checker sees that the learner's report has what the ledger reads; importing it would load torch."""
        return report


N = 1_000
NANO = ModelSize(parameters=N)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An update of two sequences of 50 tokens, looked at once and learned from in four epochs."""

    num_sequences: int = 2
    num_tokens: int = 100
    forward_tokens: int = 100
    trained_tokens: int = 400
    seconds: Mapping[str, float] = field(
        default_factory=lambda: {"prepare": 0.5, "look": 2.0, "weigh": 0.25, "learn": 4.0}
    )


def ledger(model: ModelSize = NANO, **options: Any) -> ComputeLedger:
    return ComputeLedger(model, ComputeConfig(**options))


def one_iteration(account: ComputeLedger) -> ComputeLedger:
    """Four answers of 10 tokens to 60 shown ones, the dialogue before each 20, 30, 40 and 50 long; then the update."""
    account.charge_rollout(
        prompt_tokens=60, sampled_tokens=40, num_calls=4, context_tokens=140, num_contexts=2, seconds=4.0, devices=2
    )
    account.charge_update(Report(), played_share=1.0, devices=2)
    return account


def test_the_real_ledger_is_the_one_worked_out_by_hand() -> None:
    totals = one_iteration(ledger()).totals()
    assert totals["compute/rollout_flops"] == 2 * N * (60 + 40)
    assert totals["compute/look_flops"] == 2 * N * 100
    assert totals["compute/learn_flops"] == 6 * N * 400
    assert totals["compute/flops"] == 2_800_000
    assert totals["compute/rollout_device_seconds"] == 8.0
    assert totals["compute/look_device_seconds"] == 4.0
    assert totals["compute/learn_device_seconds"] == 9.5
    assert totals["compute/device_seconds"] == 21.5
    assert (totals["compute/prompt_tokens"], totals["compute/sampled_tokens"]) == (60, 40)
    assert (totals["compute/forward_tokens"], totals["compute/trained_tokens"]) == (100, 400)


@pytest.mark.parametrize(
    ("options", "flops"),
    [
        ({}, (6 + 2 * 6.0) * N * 400),
        ({"paper_lambda": 5.1}, (6 + 2 * 5.1) * N * 400),
        ({"paper_lambda": 0.0}, 6 * N * 400),
        # Four answers x a mean prompt of 35 x a mean answer of 10 = 1,400 tokens.
        ({"paper_lambda": None}, 6 * N * 400 + 2 * N * 1_400),
        ({"initial_tokens": 1_000}, (6 + 2 * 6.0) * N * 400 + 6 * N * 1_000),
    ],
)
def test_the_papers_ledger_is_the_one_worked_out_by_hand(options: dict[str, Any], flops: float) -> None:
    assert one_iteration(ledger(**options)).totals()["compute/paper_flops"] == pytest.approx(flops)


def test_the_right_end_of_the_papers_figure_is_reached() -> None:
    """40,960 answers x 4 epochs x 450 tokens at 10.67 billion parameters: 1.4e10 GFLOPs."""
    account = ledger(ModelSize(parameters=10_670_000_000))
    tokens = 40_960 * 4 * 450
    account.charge_update(Report(forward_tokens=0, trained_tokens=tokens, seconds={}), played_share=1.0)
    assert account.totals()["compute/paper_flops"] / 1e9 == pytest.approx(1.4e10, rel=0.02)


def test_imitation_costs_the_same_in_both_ledgers_and_playing_costs_the_paper_more() -> None:
    imitated, played = ledger(initial_tokens=50), ledger()
    imitated.charge_update(Report(forward_tokens=0), played_share=0.0)
    assert imitated.totals()["compute/paper_flops"] == imitated.totals()["compute/flops"] == 6 * N * 450
    one_iteration(played)
    assert played.totals()["compute/paper_flops"] > 2.5 * played.totals()["compute/flops"]


def test_a_hybrid_update_is_charged_for_playing_by_its_share() -> None:
    account = ledger()
    account.charge_update(Report(), played_share=0.25)
    assert account.totals()["compute/paper_flops"] == 6 * N * 400 + 2 * N * 6 * 100


@pytest.mark.parametrize(
    ("model", "for_each_token"),
    [
        (ModelSize(parameters=N), 6 * N),
        (ModelSize(parameters=N, recomputes=True), 8 * N),
        (ModelSize(parameters=N, looked_up=100), 6 * 900),
        # Forward through all, gradients of activations and weights above the frozen tower alone.
        (ModelSize(parameters=N, frozen_below=300), 2 * N + 4 * 700),
        (ModelSize(parameters=N, frozen_below=300, recomputes=True), 2 * N + 6 * 700),
        # Under low-rank additions of 50: gradients pass through all, and the weights' are of 50.
        (ModelSize(parameters=N + 50, frozen_above=N), 4 * (N + 50) + 2 * 50),
        (ModelSize(parameters=N, critic=10), 6 * N + 6 * 10),
    ],
)
def test_learning_costs_what_learns(model: ModelSize, for_each_token: int) -> None:
    account = ledger(model)
    account.charge_update(Report(), played_share=1.0)
    assert account.totals()["compute/learn_flops"] == for_each_token * 400
    assert account.totals()["compute/look_flops"] == 2 * (model.passed + model.critic) * 100


def test_attention_is_counted_where_it_is_asked_for() -> None:
    """Two dialogues of 50 tokens: 2 x (1 + 2 + … + 50) = 2,550 pairs, 4 x 3 layers x width 8 FLOPs each."""
    model = ModelSize(parameters=N, layers=3, width=8, recomputes=True)
    plain, with_attention = one_iteration(ledger(model)).totals(), one_iteration(ledger(model, attention=True)).totals()
    pair = 4 * 3 * 8
    assert with_attention["compute/rollout_flops"] - plain["compute/rollout_flops"] == pair * 2_550
    assert with_attention["compute/look_flops"] - plain["compute/look_flops"] == pair * 2_550
    assert with_attention["compute/learn_flops"] - plain["compute/learn_flops"] == 4 * pair * 2_550 * 4
    assert with_attention["compute/paper_flops"] == plain["compute/paper_flops"]


def test_evaluation_is_counted_and_charged_to_no_training() -> None:
    account = one_iteration(ledger())
    before = account.totals()
    account.charge_rollout(prompt_tokens=500, sampled_tokens=100, seconds=3.0, phase="evaluate")
    account.charge_scoring(400)
    account.charge_seconds("evaluate", 1.0)
    after = account.totals()
    assert after["compute/evaluate_flops"] == 2 * N * 1_000
    assert after["compute/evaluate_device_seconds"] == 4.0
    assert after["compute/evaluation_tokens"] == 1_000
    evaluation = {"compute/evaluate_flops", "compute/evaluate_device_seconds", "compute/evaluation_tokens"}
    assert {name: after[name] for name in after.keys() - evaluation} == {
        name: before[name] for name in before.keys() - evaluation
    }


def test_a_model_may_become_known_after_its_tokens() -> None:
    account = one_iteration(ComputeLedger())
    assert account.totals()["compute/flops"] == 0
    account.model = NANO
    assert account.totals() == one_iteration(ledger()).totals()


def test_the_time_of_an_update_is_the_drivers_where_it_says_so() -> None:
    account = ledger()
    account.charge_update(Report(), played_share=1.0, seconds=10.0, devices=2)
    totals = account.totals()
    assert (totals["compute/look_device_seconds"], totals["compute/learn_device_seconds"]) == (4.0, 16.0)


def test_time_without_arithmetic_is_training_time_too() -> None:
    account = ledger()
    account.charge_seconds("sync", 2.5)
    assert account.totals()["compute/sync_device_seconds"] == account.totals()["compute/device_seconds"] == 2.5


counts = st.integers(0, 10**15)


@given(counts, counts, counts, counts, st.floats(0, 1), st.floats(0, 1e6))
def test_a_restored_ledger_goes_on_as_if_it_had_never_stopped(
    prompt: int, sampled: int, forward: int, trained: int, share: float, seconds: float
) -> None:
    def charge(account: ComputeLedger) -> None:
        account.charge_rollout(
            prompt_tokens=prompt, sampled_tokens=sampled, num_calls=1, context_tokens=prompt + 1, num_contexts=3
        )
        account.charge_update(
            Report(forward_tokens=forward, trained_tokens=trained, seconds={"learn": seconds}), played_share=share
        )

    whole, stopped = ledger(paper_lambda=None), ledger(paper_lambda=None)
    for _ in range(3):
        charge(whole)
    charge(stopped)
    resumed = ledger(paper_lambda=None).restore(json.loads(json.dumps(stopped.state())))
    charge(resumed)
    charge(resumed)
    assert resumed.totals() == whole.totals()
    assert resumed.state() == whole.state()


def test_an_empty_ledger_has_every_column() -> None:
    assert set(ledger().totals()) == set(one_iteration(ledger()).totals())
    assert set(ledger().totals().values()) == {0}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"parameters": -1}, "parameters=-1"),
        ({"parameters": 10, "critic": -2}, "critic=-2"),
        ({"parameters": 10, "looked_up": 6, "frozen_above": 5}, "looked up or frozen"),
    ],
)
def test_a_model_that_cannot_be_is_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSize(**sizes)


def test_what_cannot_have_happened_is_refused() -> None:
    account = ledger()
    with pytest.raises(ValueError, match="sampled_tokens=-1"):
        account.charge_rollout(prompt_tokens=1, sampled_tokens=-1)
    with pytest.raises(ValueError, match="seconds=-1"):
        account.charge_rollout(prompt_tokens=1, sampled_tokens=1, seconds=-1.0)
    with pytest.raises(ValueError, match="phase 'learn'"):
        account.charge_rollout(prompt_tokens=1, sampled_tokens=1, phase="learn")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"played_share=1\.5"):
        account.charge_update(Report(), played_share=1.5)
    with pytest.raises(ValueError, match="there are rollout, look, learn, sync, evaluate"):
        account.charge_seconds("idle", 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="time does not run backwards"):
        account.charge_seconds("learn", -1.0)
    assert account.state() == ledger().state()


def test_what_an_option_needs_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"compute\.attention needs"):
        ledger(attention=True).totals()
    account = ledger(ModelSize(parameters=N, layers=1, width=1), attention=True)
    with pytest.raises(ValueError, match="without num_contexts"):
        account.charge_rollout(prompt_tokens=1, sampled_tokens=1)
    account = ledger(paper_lambda=None)
    with pytest.raises(ValueError, match=r"compute\.paper_lambda is not set"):
        account.charge_rollout(prompt_tokens=1, sampled_tokens=1)
    account.charge_rollout(prompt_tokens=1, sampled_tokens=1, phase="evaluate")
    with pytest.raises(ValidationError):
        ComputeConfig(paper_lambda=-1.0)
