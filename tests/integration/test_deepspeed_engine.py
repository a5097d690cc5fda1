"""Training with the real DeepSpeed on one and two ranks: it is the bare PyTorch loop, at every ZeRO stage."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from torch import Tensor, nn

from learner.checkpoint_files import CheckpointFiles, digests
from learner.config import DeepSpeedConfig, OptimizerConfig
from learner.deepspeed_engine import (
    CheckpointMismatch,
    DistributedEngine,
    NonFinite,
    StepReport,
    gathered,
    learning_rate_at,
)
from learner.parts import ParameterGroup
from tests.support.ranks import TIMEOUT_SECONDS, end_ranks, run_ranks, start_ranks
from tests.support.whole_state import whole_state_dict

pytestmark = pytest.mark.timeout(300)

WIDTH = 160
"""Wide enough for matrices to be spread over ranks at stage 3."""
ROOM = 2**30
"""For copies of what is being written: more than there is."""
OPTIMIZER = OptimizerConfig(
    learning_rate=1e-2,
    warmup_steps=2,
    weight_decay=0.1,
    epsilon=1e-3,  # large, or AdamW would forgive a wrong scale of all gradients
    max_gradient_norm=0.95,
)
PULLING = OPTIMIZER.model_copy(update={"pull_to_start": 2.0})
"""What a checkpoint has most to hold of: where weights began, too."""
STEPS = ((True, True), (True,), (False, True, True), (False, False), (True, False))
"""For each micro-batch of each step, whether it goes through the part of the model that not all do."""
SHARINGS = [DeepSpeedConfig(zero_stage=stage) for stage in (0, 1, 2, 3)]
OFFLOADED = [DeepSpeedConfig(zero_stage=stage, offload_optimizer=True) for stage in (1, 2, 3)]


def name_of(sharing: Any) -> str:
    if not isinstance(sharing, DeepSpeedConfig):
        return str(sharing)
    return f"stage {sharing.zero_stage}{' offloaded' if sharing.offload_optimizer else ''}"


class Model(nn.Module):
    """Has a part that is not always used, a frozen one, and a buffer that changes."""

    seen: Tensor

    def __init__(self, seed: int = 0, dropout: float = 0.0, width: int = WIDTH) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(120, width)
        self.rare = nn.Linear(width, width)
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.last = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor, goes_through_rare: bool, gain: float = 1.0) -> Tensor:
        hidden = self.dropout(torch.tanh(self.first(inputs.to(self.first.weight.dtype))))
        hidden = hidden + torch.tanh(self.frozen(hidden))
        if goes_through_rare:
            hidden = hidden + torch.tanh(self.rare(hidden))
        if self.training:
            self.seen += len(inputs)
        # Adds nothing but gradients, which two large factors make infinite.
        hidden = hidden + (hidden - hidden.detach()) * gain * gain
        return self.last(hidden)[:, 0].float()


def inputs_of(step: int, micro_batch: int, rank: int) -> Tensor:
    """Ranks and micro-batches have different numbers of them."""
    generator = torch.Generator().manual_seed(1000 * step + 10 * micro_batch + rank)
    return torch.randn(3 + micro_batch + 2 * rank, 120, generator=generator)


def losses_of(model: nn.Module, step: int, rank: int, num_ranks: int) -> Iterator[Tensor]:
    """A rank's shares of the step's loss, the mean over all inputs of all ranks."""
    uses = STEPS[step % len(STEPS)]
    count = sum(len(inputs_of(step, number, each)) for number in range(len(uses)) for each in range(num_ranks))
    for number, goes_through_rare in enumerate(uses):
        yield 0.08 * ((model(inputs_of(step, number, rank), goes_through_rare) - 1) ** 2).sum() / count


def bare_loop(num_ranks: int, dtype: str) -> tuple[dict[str, Tensor], list[StepReport]]:
    """What the engine has to do, in PyTorch and one process; steps are in float32, whatever the model is in."""
    model = Model().to(getattr(torch, dtype))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    masters = [nn.Parameter(parameter.detach().float().clone()) for parameter in trained]
    adamw = torch.optim.AdamW(
        masters, betas=OPTIMIZER.betas, eps=OPTIMIZER.epsilon, weight_decay=OPTIMIZER.weight_decay
    )
    reports = []
    for step in range(len(STEPS)):
        for master in masters:
            master.grad = torch.zeros_like(master)
        for loss in (loss for rank in range(num_ranks) for loss in losses_of(model, step, rank, num_ranks)):
            gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            for master, gradient in zip(masters, gradients, strict=True):
                if gradient is not None and master.grad is not None:
                    master.grad += gradient
        norm = nn.utils.clip_grad_norm_(masters, OPTIMIZER.max_gradient_norm).item()
        rate = learning_rate_at(OPTIMIZER, step)
        adamw.param_groups[0]["lr"] = rate
        adamw.step()
        for parameter, master in zip(trained, masters, strict=True):
            parameter.data.copy_(master)
        was_clipped = norm > OPTIMIZER.max_gradient_norm
        reports.append(StepReport(step=step, learning_rate=rate, gradient_norm=norm, was_clipped=was_clipped))
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, reports


def start(
    sharing: DeepSpeedConfig,
    model: nn.Module | None = None,
    dtype: str = "float32",
    optimizer: OptimizerConfig = OPTIMIZER,
) -> DistributedEngine:
    return DistributedEngine.start(model or Model(), optimizer=optimizer, sharing=sharing, dtype=dtype)


REDUCTIONS = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_tensor")


def reduced(rank: int, num_ranks: int, stage: int) -> tuple[int, int]:
    """How many sums over ranks there are while three micro-batches go back, and in the step behind them."""
    engine, count = start(DeepSpeedConfig.model_validate({"zero_stage": stage})), 0
    wholes = {name: getattr(torch.distributed, name) for name in REDUCTIONS}

    def counting(whole: Any, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return whole(*args, **options)

    for name, whole in wholes.items():
        setattr(torch.distributed, name, partial(counting, whole))
    try:
        for loss in losses_of(engine.module, 2, rank, num_ranks):
            engine.accumulate(loss)
        on_the_way = count
        engine.step()
    finally:
        for name, whole in wholes.items():
            setattr(torch.distributed, name, whole)
        engine.close()
    return on_the_way, count - on_the_way


@pytest.mark.parametrize(("stage", "sums_each"), [(0, False), (1, False), (2, True)])
def test_gradients_are_summed_once_a_step_where_a_rank_has_all_of_them(stage: int, sums_each: bool) -> None:
    for on_the_way, behind in run_ranks(2, reduced, stage):
        assert bool(on_the_way) == sums_each
        assert behind


def train_as_bare_loop(
    rank: int, num_ranks: int, sharing: DeepSpeedConfig, dtype: str = "float32", error: str = ""
) -> tuple[dict[str, Tensor] | None, list[StepReport]]:
    """The same steps; `error` names a mistake that is easily made."""
    engine = start(sharing, dtype=dtype)
    reports = []
    for step, uses in enumerate(STEPS):
        engine.module.eval()
        with torch.no_grad():
            engine.module(inputs_of(99, step, rank), True)
        engine.module.train()
        losses = losses_of(engine.module, step, rank, num_ranks)
        # In some steps all forwards come before all backwards.
        for loss in list(losses) if step % 2 else losses:
            engine.accumulate(loss / {"ranks": num_ranks, "calls": len(uses)}.get(error, 1))
        reports.append(engine.step())
    state = whole_state_dict(engine)
    engine.close()
    return state, reports


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    start_ranks(1)
    start_ranks(2)
    yield
    end_ranks()
    ray.shutdown()


@pytest.mark.parametrize(
    ("sharing", "num_ranks", "dtype"),
    [
        *((sharing, num_ranks, "float32") for sharing in SHARINGS + OFFLOADED for num_ranks in (1, 2)),
        *((sharing, 2, "bfloat16") for sharing in (SHARINGS[0], SHARINGS[2], SHARINGS[3])),
    ],
    ids=name_of,
)
def test_training_is_the_bare_loop(sharing: DeepSpeedConfig, num_ranks: int, dtype: str) -> None:
    expected, expected_reports = bare_loop(num_ranks, dtype)
    assert {report.was_clipped for report in expected_reports} == {True, False}
    (found, reports), *others = run_ranks(num_ranks, train_as_bare_loop, sharing, dtype)
    assert found is not None and list(found) == [*expected, "seen"]
    gaps = torch.cat([(found[name].float() - expected[name].float()).abs().flatten() for name in expected])
    # Two float32 sums of different order may round to different bfloat16.
    assert gaps.max() < (1e-6 if dtype == "float32" else 1e-3)
    assert gaps.mean() < 1e-7
    for report, expected_report in zip(reports, expected_reports, strict=True):
        assert report.gradient_norm == pytest.approx(expected_report.gradient_norm, rel=1e-4)
        assert (report.step, report.was_clipped) == (expected_report.step, expected_report.was_clipped)
        assert report.learning_rate == expected_report.learning_rate
    assert others == [(None, reports)] * (num_ranks - 1)


@pytest.mark.parametrize(("sharing", "error"), [(SHARINGS[0], "ranks"), (SHARINGS[3], "calls")], ids=name_of)
def test_the_comparison_sees_a_wrong_normalisation(sharing: DeepSpeedConfig, error: str) -> None:
    expected, _ = bare_loop(2, "float32")
    found = run_ranks(2, train_as_bare_loop, sharing, "float32", error)[0][0]
    assert max((found[name] - expected[name]).abs().max() for name in expected) > 1e-4


def noisy_steps(engine: DistributedEngine, steps: Sequence[int], rank: int, num_ranks: int) -> list[StepReport]:
    """Steps that no two runs have in common unless all their random numbers are the same."""
    reports = []
    for step in steps:
        for loss in losses_of(engine.module, step, rank, num_ranks):
            engine.accumulate(loss * (1 + random.random() + np.random.rand()))
        reports.append(engine.step())
    return reports


def assert_written(files: CheckpointFiles) -> None:
    """All files, as they lie on the disk."""
    written = files.written(wait=True)
    assert written is not None and written.fault is None
    for path, file in written.files.items():
        assert (path.stat().st_size, digests([path])) == (file.size, [file.sha256])


def run_and_save(
    rank: int, num_ranks: int, sharing: DeepSpeedConfig, dtype: str, folder: Path
) -> tuple[dict[str, Tensor] | None, list[StepReport]]:
    """Six steps with dropout, saved after the third and written by the end of the last."""
    engine = start(sharing, Model(dropout=0.2), dtype, PULLING)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(rank)
    noisy_steps(engine, range(3), rank, num_ranks)
    files = CheckpointFiles(room=ROOM)
    engine.save(folder, files)
    reports = noisy_steps(engine, range(3, 6), rank, num_ranks)
    assert_written(files)
    state = whole_state_dict(engine)
    engine.close()
    return state, reports


def restore_and_run(
    rank: int, num_ranks: int, sharing: DeepSpeedConfig, dtype: str, folder: Path
) -> tuple[dict[str, Tensor] | None, list[StepReport]]:
    """The last three of them, in a model that began elsewhere."""
    engine = start(sharing, Model(seed=1, dropout=0.2), dtype, PULLING)
    engine.restore(folder)
    reports = noisy_steps(engine, range(3, 6), rank, num_ranks)
    state = whole_state_dict(engine)
    engine.close()
    return state, reports


def test_a_restored_run_goes_on_bit_for_bit_in_new_processes(tmp_path: Path) -> None:
    cases = [(num_ranks, sharing, "float32") for sharing in (SHARINGS[0], *SHARINGS[2:]) for num_ranks in (1, 2)]
    cases += [(2, OFFLOADED[2], "float32"), (2, SHARINGS[3], "bfloat16")]
    folders = [tmp_path / str(number) for number in range(len(cases))]
    expected = []
    for (num_ranks, *options), folder in zip(cases, folders, strict=True):
        folder.mkdir()
        expected.append(run_ranks(num_ranks, run_and_save, *options, folder))
    end_ranks()
    for num_ranks in (1, 2):
        start_ranks(num_ranks)
    for case, folder, uninterrupted in zip(cases, folders, expected, strict=True):
        num_ranks, *options = case
        found = run_ranks(num_ranks, restore_and_run, *options, folder)
        for (state, reports), (expected_state, expected_reports) in zip(found, uninterrupted, strict=True):
            assert reports == expected_reports, case
            assert (state is None) == (expected_state is None)
            for name, tensor in (expected_state or {}).items():
                assert torch.equal(state[name], tensor), (case, name)
        assert uninterrupted[0][0]["seen"] > 0


BAD = {
    "nan loss": "the loss of rank 1 was not finite at optimizer step 1",
    "infinite loss": "the loss of rank 1 was not finite at optimizer step 1",
    "infinite gradient": "the gradient of rank 1 was not finite at optimizer step 1",
}


def bad_losses(model: nn.Module, kind: str, rank: int) -> Iterator[Tensor]:
    """Two, of which the second is bad on rank 1."""
    for number in range(2):
        is_bad = number == 1 and rank == 1
        gain = 1e30 if is_bad and kind == "infinite gradient" else 1.0
        loss = model(inputs_of(7, number, rank), True, gain).sum()
        yield loss + {"nan loss": np.nan, "infinite loss": np.inf}.get(kind, 0.0) if is_bad else loss


def train_past_bad_steps(
    rank: int, num_ranks: int, sharing: DeepSpeedConfig, dtype: str, kinds: Sequence[str]
) -> tuple[dict[str, Tensor] | None, list[str]]:
    """Three good steps, with bad ones between the first two."""
    engine = start(sharing, dtype=dtype)
    messages = []
    for step in range(3):
        for kind in kinds if step == 1 else ():
            before = whole_state_dict(engine)
            for loss in bad_losses(engine.module, kind, rank):
                engine.accumulate(loss)
            with pytest.raises(NonFinite) as raised:
                engine.step()
            messages.append(str(raised.value))
            after = whole_state_dict(engine)
            if before is not None and after is not None:
                assert all(torch.equal(before[name], after[name]) for name in before if name != "seen")
        for loss in losses_of(engine.module, step, rank, num_ranks):
            engine.accumulate(loss)
        engine.step()
    state = whole_state_dict(engine)
    engine.close()
    return state, messages


@pytest.mark.parametrize(
    ("sharing", "dtype"),
    [*((sharing, "float32") for sharing in (*SHARINGS, OFFLOADED[2])), (SHARINGS[2], "bfloat16")],
    ids=name_of,
)
def test_what_is_not_finite_on_one_rank_stops_all_and_changes_nothing(sharing: DeepSpeedConfig, dtype: str) -> None:
    (expected, _), _ = run_ranks(2, train_past_bad_steps, sharing, dtype, ())
    (found, messages), (_, same_messages) = run_ranks(2, train_past_bad_steps, sharing, dtype, list(BAD))
    assert [message.partition(":")[0] for message in messages] == list(BAD.values())
    assert messages == same_messages
    assert all(torch.equal(found[name], expected[name]) for name in expected if name != "seen")


def restore_failure(
    rank: int,
    num_ranks: int,
    sharing: DeepSpeedConfig,
    dtype: str,
    width: int,
    freezes: bool,
    apart: bool,
    folder: Path,
) -> str:
    """What is said when something else is restored."""
    model = Model(width=width)
    model.rare.requires_grad_(not freezes)
    last = list(model.last.parameters())
    rest = [each for each in model.parameters() if each.requires_grad and all(each is not other for other in last)]
    groups = (ParameterGroup("model", rest, 1e-3), ParameterGroup("critic", last, 1e-2)) if apart else ()
    engine = DistributedEngine.start(model, optimizer=OPTIMIZER, sharing=sharing, dtype=dtype, groups=groups)
    try:
        with pytest.raises(CheckpointMismatch) as raised:
            engine.restore(folder)
    finally:
        engine.close()
    return str(raised.value)


def save_only(rank: int, num_ranks: int, sharing: DeepSpeedConfig, folder: Path) -> None:
    engine, files = start(sharing), CheckpointFiles(room=ROOM)
    engine.save(folder, files)
    assert_written(files)
    engine.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two ranks at stage 3."""
    folder = tmp_path_factory.mktemp("saved")
    run_ranks(2, save_only, SHARINGS[3], folder)
    return folder


@pytest.mark.parametrize(
    ("num_ranks", "changed", "message"),
    [
        (1, {}, "learner.num_ranks was 2 and is 1: set it back to 2"),
        (2, {"stage": 2}, "learner.deepspeed.zero_stage was 3 and is 2: set it back to 3"),
        (2, {"dtype": "bfloat16"}, "learner.dtype was float32 and is bfloat16: set it back to float32"),
        (2, {"width": 80}, "7 parameters differ (first.weight was 160 × 120 and is 80 × 120; "),
        (2, {"freezes": True}, "2 parameters differ (rare.weight was 160 × 160 and is 160 × 160 (frozen); "),
        (
            2,
            {"apart": True},
            "what has a learning rate of its own was model and is model, critic: set learner",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(
    num_ranks: int, changed: dict[str, Any], message: str, saved: Path
) -> None:
    options = {"stage": 3, "dtype": "float32", "width": WIDTH, "freezes": False, "apart": False, **changed}
    sharing = SHARINGS[options.pop("stage")]
    said = run_ranks(num_ranks, restore_failure, sharing, *options.values(), saved)
    assert all(message in each and str(saved) in each for each in said), said


def exchange(rank: int, num_ranks: int) -> tuple[list[Any], list[Any], tuple[int, ...], int, float]:
    """All that ranks tell each other besides gradients, and how long they wait for those."""
    engine = start(SHARINGS[0])
    rows = np.array([[10.0 * rank, index] for index in range(3 * rank)]).reshape(-1, 2)
    backend = engine._engine.data_parallel_group._get_backend(torch.device("cpu"))
    found = (
        engine.sum(np.array([[0.1, 2**53], [rank, -1]])).tolist(),
        engine.gather(rows).tolist(),
        engine.gather(np.zeros((0, 3))).shape,
        engine.largest(7 - rank),
        backend.options._timeout.total_seconds(),
    )
    engine.close()
    return found


def test_ranks_exchange_numbers_in_double_precision_and_rows_in_their_order() -> None:
    for total, rows, shape_of_none, largest, timeout_seconds in run_ranks(2, exchange):
        assert total == [[0.2, 2.0**54], [1.0, -2.0]]
        assert rows == [[10.0, 0.0], [10.0, 1.0], [10.0, 2.0]]
        assert shape_of_none == (0, 3)
        assert largest == 7
        assert timeout_seconds == TIMEOUT_SECONDS


def test_offloading_what_is_not_apart_is_refused() -> None:
    with pytest.raises(RayTaskError, match="set zero_stage to 1, 2 or 3"):
        run_ranks(1, save_only, DeepSpeedConfig(zero_stage=0, offload_optimizer=True), Path())


def tiny_policy(kind: str, folder: Path) -> nn.Module:
    """The saved random model, with low-rank additions where asked for."""
    import peft
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    policy: Any = (AutoModelForImageTextToText if "picture" in kind else AutoModelForCausalLM).from_pretrained(folder)
    options = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    if "injected" in kind:
        policy = peft.inject_adapter_in_model(options, policy)
    elif "wrapped" in kind:
        policy = peft.get_peft_model(policy, options)
    return policy


def merged_by_peft(kind: str, folder: Path, state: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """What a plain source sends of a model in this state, which peft has merged."""
    from rollout.weight_source import HuggingFaceSource

    is_injected = "injected" in kind
    policy: Any = tiny_policy("wrapped" + kind.removeprefix("injected") if is_injected else kind, folder)
    policy.load_state_dict({f"base_model.model.{name}" if is_injected else name: state[name] for name in state}, False)
    return list(HuggingFaceSource(policy.merge_and_unload() if hasattr(policy, "merge_and_unload") else policy, folder))


def send(rank: int, num_ranks: int, sharing: DeepSpeedConfig, kind: str, folder: Path) -> list[int]:
    """Compare what is sent before and after a step with what a plain source says; how much was gathered at once."""
    from learner import zero_source
    from tests.support.tiny_models import make_picture_model, make_text_model

    if rank == 0:
        make_picture_model(folder) if "picture" in kind else make_text_model(folder, tied="tied" in kind)
    torch.distributed.barrier()
    policy = tiny_policy(kind, folder)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    engine = start(sharing, policy)
    source = zero_source.DeepSpeedZeroSource(policy, folder, bucket_bytes=40_000)
    at_once: list[int] = []

    def counted(parameters: Any) -> Any:
        parameters = list(parameters)
        at_once.append(len(parameters))
        return gathered(parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero_source, "gathered", counted)
        for step in range(2):
            state = whole_state_dict(engine)
            sent = list(source)
            if state is not None:
                expected = merged_by_peft(kind, folder, state)
                assert [name for name, _ in sent] == [name for name, _ in expected]
                assert all(
                    torch.equal(*pair) for pair in zip(dict(sent).values(), dict(expected).values(), strict=True)
                )
                described = [(meta.name, meta.dtype, tuple(meta.shape)) for meta in source.metadata()]
                assert described == [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in sent]
            unchanged = whole_state_dict(engine)
            assert (
                state is None or unchanged is None or all(torch.equal(state[name], unchanged[name]) for name in state)
            )
            token_ids = torch.arange(8)[None] + 8 * rank + step
            engine.accumulate(engine.module(input_ids=token_ids, labels=token_ids).loss)
            engine.step()
    engine.close()
    return at_once


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        (3, "text"),
        (3, "tied text"),
        (3, "picture"),
        (3, "injected into tied text"),
        (3, "wrapped text"),
        (0, "injected into text"),
    ],
)
def test_what_is_sent_is_the_whole_merged_model_under_its_saved_names(stage: int, kind: str, tmp_path: Path) -> None:
    at_once, same = run_ranks(2, send, SHARINGS[stage], kind, tmp_path)
    assert at_once == same
    assert len(at_once) > 4 and max(at_once) > 2
