"""Both ledgers against tables worked out by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.record.compute_ledger import ComputeConfig, ComputeLedger, Update
from learner.model_size import Costs, ModelSize, Weight, model_size
from rollout.traffic import Traffic

if TYPE_CHECKING:
    from learner.learner import UpdateReport

    def _is_an_update(report: UpdateReport) -> Update:
        """The type checker sees that the learner's report has what the ledger reads; importing it would load torch."""
        return report


def learning(multiplied: int) -> Costs:
    """Of a part of which all learns."""
    return Costs(forward=multiplied, passed=multiplied, learned=multiplied)


N = 1_000
NANO = ModelSize(parameters=N, layers=learning(800), head=learning(100))
"""100 of its parameters are looked up."""
SEEING = ModelSize(
    parameters=N,
    tower=Costs(forward=50),
    projector=Costs(forward=20, learned=20),
    layers=learning(800),
    head=learning(100),
    critic=learning(10),
    attention=Costs(forward=48, passed=96),
    sight=Costs(forward=6),
)
"""Its vision tower is frozen, so that the projector passes nothing on."""
PLAYED = Traffic(tokens=100, scored=40, pairs=2_550)
LEARNED = Traffic(tokens=100, scored=40, valued=42, pairs=2_550)
FOUR_EPOCHS = Traffic(tokens=400, scored=160, valued=168, pairs=10_200)
PICTURE = Traffic(picture_tokens=4, patches=16, patch_pairs=256)


def times(number: int, traffic: Traffic) -> Traffic:
    return sum((traffic for _ in range(number)), Traffic())


@dataclass(frozen=True, kw_only=True)
class Report:
    """An update of two dialogues of 50 tokens, 40 of them drawn, looked at once and learned from in four epochs."""

    looked: Traffic = LEARNED
    compared: Traffic = field(default_factory=Traffic)
    trained: Traffic = FOUR_EPOCHS
    seconds: Mapping[str, float] = field(
        default_factory=lambda: {"prepare": 0.5, "look": 2.0, "weigh": 0.25, "learn": 4.0}
    )


def ledger(model: ModelSize = NANO, **options: Any) -> ComputeLedger:
    return ComputeLedger(model, ComputeConfig(**options))


def one_iteration(account: ComputeLedger) -> ComputeLedger:
    """Four answers of 10 tokens to 60 shown ones, the dialogue before each 20, 30, 40 and 50 long; then the update."""
    account.charge_rollout(PLAYED, num_calls=4, context_tokens=140, seconds=4.0, devices=2)
    account.charge_update(Report(), played_share=1.0, devices=2)
    return account


def test_the_real_ledger_is_the_one_worked_out_by_hand() -> None:
    totals = one_iteration(ledger()).totals()
    assert totals["compute/rollout_flops"] == 2 * (800 * 100 + 100 * 40)
    assert totals["compute/look_flops"] == 2 * (800 * 100 + 100 * 40)
    assert totals["compute/learn_flops"] == 6 * 4 * (800 * 100 + 100 * 40)
    assert totals["compute/flops"] == 28 * 84_000
    assert totals["compute/rollout_device_seconds"] == 8.0
    assert totals["compute/look_device_seconds"] == 4.0
    assert totals["compute/learn_device_seconds"] == 9.5
    assert totals["compute/device_seconds"] == 21.5
    assert (totals["compute/prompt_tokens"], totals["compute/sampled_tokens"]) == (60, 40)
    assert (totals["compute/forward_tokens"], totals["compute/trained_tokens"]) == (100, 400)


def test_each_part_is_charged_for_what_passes_it() -> None:
    """A picture goes through the tower when it is played and at every pass of learning; words never do."""
    account = ledger(SEEING)
    account.charge_rollout(PLAYED + PICTURE)
    account.charge_update(
        Report(looked=LEARNED + PICTURE, compared=LEARNED + PICTURE, trained=times(3, LEARNED + PICTURE)),
        played_share=1.0,
    )
    totals = account.totals()
    played = 2 * (50 * 16 + 20 * 4 + 800 * 100 + 100 * 40)
    assert totals["compute/rollout_flops"] == played
    assert totals["compute/look_flops"] == 2 * (played + 2 * 10 * 42)
    # The tower forwards alone, the projector forwards and its own gradients, all else three times.
    assert totals["compute/learn_flops"] == 3 * (2 * 50 * 16 + 4 * 20 * 4 + 6 * (800 * 100 + 100 * 40 + 10 * 42))
    assert totals["compute/patches"] == 16 * 6
    words = ledger(SEEING)
    words.charge_rollout(PLAYED)
    assert words.totals()["compute/rollout_flops"] == 2 * (800 * 100 + 100 * 40)


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
@pytest.mark.parametrize("model", [NANO, SEEING])
def test_the_papers_ledger_is_the_one_worked_out_by_hand_from_all_parameters(
    model: ModelSize, options: dict[str, Any], flops: float
) -> None:
    assert one_iteration(ledger(model, **options)).totals()["compute/paper_flops"] == pytest.approx(flops)


def test_the_right_end_of_the_papers_figure_is_reached() -> None:
    """40,960 answers x 4 epochs x 450 tokens at 10.67 billion parameters: 1.4e10 GFLOPs."""
    account = ledger(ModelSize(parameters=10_670_000_000))
    tokens = Traffic(tokens=40_960 * 4 * 450)
    account.charge_update(Report(looked=Traffic(), trained=tokens, seconds={}), played_share=1.0)
    assert account.totals()["compute/paper_flops"] / 1e9 == pytest.approx(1.4e10, rel=0.02)


def test_what_the_start_was_tuned_on_is_charged_in_both_ledgers() -> None:
    begun, fresh = ledger(initial_tokens=50), ledger()
    for account in (begun, fresh):
        account.charge_update(Report(looked=Traffic()), played_share=0.0)
    assert begun.totals()["compute/flops"] - fresh.totals()["compute/flops"] == 6 * 900 * 50
    assert begun.totals()["compute/paper_flops"] == 6 * N * 450


def test_a_hybrid_update_is_charged_for_playing_by_its_share() -> None:
    account = ledger()
    account.charge_update(Report(), played_share=0.25)
    assert account.totals()["compute/paper_flops"] == 6 * N * 400 + 2 * N * 6 * 100


def weights(*, frozen: str = "", rank: int = 0) -> list[Weight]:
    """A tower of one layer behind its patches, a projector, and a language model of one layer."""
    found = [
        Weight(name="visual.patch_embed.proj.weight", shape=(4, 3)),
        Weight(name="visual.blocks.0.attn.qkv.weight", shape=(12, 4)),
        Weight(name="visual.blocks.0.attn.proj.weight", shape=(4, 4)),
        Weight(name="visual.merger.weight", shape=(5, 4)),
        Weight(name="model.embed_tokens.weight", shape=(9, 5), is_looked_up=True),
        Weight(name="model.layers.0.self_attn.q_proj.weight", shape=(6, 5)),
        Weight(name="model.layers.0.self_attn.o_proj.weight", shape=(5, 6)),
        Weight(name="model.norm.weight", shape=(5,)),
        Weight(name="lm_head.weight", shape=(9, 5), is_output=True),
    ]
    learns = [
        Weight(
            name=each.name,
            shape=each.shape,
            learns=not rank and not (frozen and frozen in each.name),
            is_looked_up=each.is_looked_up,
            is_output=each.is_output,
        )
        for each in found
    ]
    if rank:
        for name, shape in (("lora_A", (rank, 5)), ("lora_B", (6, rank))):
            learns.append(Weight(name=f"model.layers.0.self_attn.q_proj.{name}.weight", shape=shape))
    return learns


def test_what_is_looked_up_and_what_only_scales_is_not_multiplied() -> None:
    size = model_size(weights(), (5, 1))
    assert (size.tower.forward, size.projector.forward, size.layers.forward) == (12 + 48 + 16, 20, 60)
    assert (size.head, size.critic) == (learning(45), learning(5))
    # Pixels want no gradient.
    assert (size.tower.passed, size.projector.passed, size.layers.passed) == (64, 20, 60)
    assert size.layers.learned == 60 and size.parameters == 76 + 20 + 45 + 60 + 5 + 45
    # Scores and their sums, 2 x width a pair, and twice that backwards.
    assert size.attention == Costs(forward=12, passed=24)
    assert size.sight == Costs(forward=8, passed=16)


def test_a_tied_output_layer_is_multiplied_where_it_is_asked_and_nowhere_else() -> None:
    tied = [Weight(name="model.embed_tokens.weight", shape=(9, 5), is_looked_up=True, is_output=True)]
    size = model_size(tied, (5, 1))
    assert (size.parameters, size.layers, size.head) == (45, Costs(), learning(45))


def test_frozen_parts_cost_what_gradients_must_pass() -> None:
    tower = model_size(weights(frozen="visual.b"), (5, 1)).tower
    assert (tower.forward, tower.passed, tower.learned) == (76, 64, 12), "gradients pass on to the patches"
    above = model_size(weights(frozen="visual."), (5, 1))
    assert above.tower == Costs(forward=76) and above.projector == Costs(forward=20)
    below = model_size(weights(frozen="model."), (5, 1))
    assert (below.layers.passed, below.layers.learned) == (60, 0), "a picture's gradient comes through them"


def test_low_rank_additions_are_no_part_of_playing_and_need_no_gradient_below_them() -> None:
    size = model_size(weights(rank=2), (5, 1))
    assert (size.layers.forward, size.layers.added) == (60, 22)
    # Through the second matrix of the addition and what comes after it.
    assert (size.layers.passed, size.layers.learned) == (12 + 30, 22)
    assert size.head == Costs(forward=45, passed=45)
    assert size.look(Traffic(tokens=1)) - size.forward(Traffic(tokens=1)) == 2 * 22


def test_checkpointing_computes_layers_again_up_to_their_last_product() -> None:
    size = model_size(weights(), (5, 1), recomputes=True)
    assert (size.tower.again, size.projector.again, size.layers.again) == (48, 0, 30)
    assert (size.attention.again, size.sight.again, size.head.again) == (12, 8, 0)
    frozen = model_size(weights(frozen="visual."), (5, 1), recomputes=True)
    assert (frozen.tower.again, frozen.sight.again) == (0, 0)


def test_a_critic_that_is_cut_off_hands_nothing_on() -> None:
    cut = model_size(weights(), (5, 3, 1), critic_reaches_model=False).critic
    assert cut == Costs(forward=18, passed=3, learned=18)


def test_attention_is_counted_where_it_is_asked_for() -> None:
    """Two dialogues of 50 tokens: 2 x (1 + 2 + … + 50) = 2,550 pairs; a picture of 16 patches has 256."""
    plain, attending = (ledger(SEEING, attention=attention) for attention in (False, True))
    for account in (plain, attending):
        account.charge_rollout(PLAYED + PICTURE)
        account.charge_update(Report(trained=LEARNED + PICTURE), played_share=1.0)
    before, after = plain.totals(), attending.totals()
    assert after["compute/rollout_flops"] - before["compute/rollout_flops"] == 2 * (48 * 2_550 + 6 * 256)
    assert after["compute/look_flops"] - before["compute/look_flops"] == 2 * 48 * 2_550
    assert after["compute/learn_flops"] - before["compute/learn_flops"] == 2 * (144 * 2_550 + 6 * 256)
    assert after["compute/paper_flops"] == before["compute/paper_flops"]


def test_evaluation_is_counted_and_charged_to_no_training() -> None:
    account = one_iteration(ledger())
    before = account.totals()
    account.charge_rollout(Traffic(tokens=600, scored=100), seconds=3.0, devices=2, phase="evaluate")
    account.charge_scoring(Traffic(tokens=400))
    account.charge_seconds("evaluate", 1.0)
    after = account.totals()
    assert after["compute/evaluate_flops"] == 2 * (800 * 1_000 + 100 * 100)
    assert after["compute/evaluate_device_seconds"] == 7.0
    assert after["compute/evaluation_tokens"] == 1_000
    evaluation = {"compute/evaluate_flops", "compute/evaluate_device_seconds", "compute/evaluation_tokens"}
    assert {name: after[name] for name in after.keys() - evaluation} == {
        name: before[name] for name in before.keys() - evaluation
    }


def test_the_tokens_of_each_part_of_a_mixture_are_told_apart() -> None:
    account = ledger()
    cards, streets = Traffic(tokens=70, scored=30), Traffic(tokens=30, scored=10)
    account.charge_rollout(PLAYED, parts={"cards": cards, "streets": streets})
    account.charge_update(Report(), played_share=1.0, part_shares={"cards": 0.7, "streets": 0.3})
    totals = ledger().restore(json.loads(json.dumps(account.state()))).totals()
    assert {name: totals[name] for name in totals if name.count("/") == 2} == {
        "compute/cards/prompt_tokens": 40,
        "compute/cards/sampled_tokens": 30,
        "compute/cards/trained_tokens": 280,
        "compute/streets/prompt_tokens": 20,
        "compute/streets/sampled_tokens": 10,
        "compute/streets/trained_tokens": 120,
    }
    assert account.restore(ledger().state()).totals() == ledger().totals()


def test_a_model_may_become_known_after_what_passed_it() -> None:
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


@settings(deadline=None)
@given(counts, counts, counts, counts, st.floats(0, 1), st.floats(0, 1e6))
def test_a_restored_ledger_goes_on_as_if_it_had_never_stopped(
    prompt: int, sampled: int, forward: int, trained: int, share: float, seconds: float
) -> None:
    def charge(account: ComputeLedger) -> None:
        account.charge_rollout(
            Traffic(tokens=prompt + sampled, scored=sampled, patches=forward), num_calls=1, context_tokens=prompt + 1
        )
        account.charge_update(
            Report(looked=Traffic(tokens=forward), trained=Traffic(tokens=trained), seconds={"learn": seconds}),
            played_share=share,
        )

    whole, stopped = ledger(SEEING, paper_lambda=None), ledger(SEEING, paper_lambda=None)
    for _ in range(3):
        charge(whole)
    charge(stopped)
    resumed = ledger(SEEING, paper_lambda=None).restore(json.loads(json.dumps(stopped.state())))
    charge(resumed)
    charge(resumed)
    assert resumed.totals() == whole.totals()
    assert resumed.state() == whole.state()


def test_an_empty_ledger_has_every_column() -> None:
    assert set(ledger().totals()) == set(one_iteration(ledger()).totals())
    assert set(ledger().totals().values()) == {0}


def test_what_cannot_have_happened_is_refused() -> None:
    account = ledger()
    with pytest.raises(ValueError, match="scored=-1"):
        account.charge_rollout(Traffic(scored=-1))
    with pytest.raises(ValueError, match="seconds=-1"):
        account.charge_rollout(PLAYED, seconds=-1.0)
    with pytest.raises(ValueError, match="phase 'learn'"):
        account.charge_rollout(PLAYED, phase="learn")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"played_share=1\.5"):
        account.charge_update(Report(), played_share=1.5)
    with pytest.raises(ValueError, match="there are rollout, look, learn, sync, evaluate"):
        account.charge_seconds("idle", 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="time does not run backwards"):
        account.charge_seconds("learn", -1.0)
    assert account.state() == ledger().state()


def test_what_an_option_needs_is_asked_for() -> None:
    account = ledger(paper_lambda=None)
    with pytest.raises(ValueError, match=r"compute\.paper_lambda is not set"):
        account.charge_rollout(PLAYED)
    account.charge_rollout(PLAYED, phase="evaluate")
    with pytest.raises(ValidationError):
        ComputeConfig(paper_lambda=-1.0)


@given(
    tokens=st.integers(1, 5_000),
    iterations_of_budget=st.floats(0.3, 40),
    initial=st.sampled_from([0, 700]),
)
def test_a_run_ends_where_its_ledger_is_nearest_to_the_budget(
    tokens: int, iterations_of_budget: float, initial: int
) -> None:
    """Whatever an iteration costs, and whatever was charged before the first."""
    ledger = ComputeLedger(NANO, ComputeConfig(initial_tokens=initial))
    before = ledger.totals()["compute/flops"]
    cost = NANO.learn(Traffic(tokens=tokens, scored=tokens))
    budget = before + iterations_of_budget * cost
    made = 0
    while not made or not ledger.is_nearest(budget, "compute/flops", made):
        ledger.charge_update(Report(looked=Traffic(), trained=Traffic(tokens=tokens, scored=tokens)), played_share=0)
        made += 1
    ends = {n: abs(before + n * cost - budget) for n in range(1, made + 3)}
    assert ends[made] == pytest.approx(min(ends.values()))
