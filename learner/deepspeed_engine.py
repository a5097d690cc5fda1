"""DeepSpeed: one model, trained by several processes together.

    join_ranks          makes this process one rank of several
    DistributedEngine   .module(…) → a loss;  .accumulate(loss), as often as wanted;  .step()
                        .rest() leaves the device to others between two updates;  .work() takes it back
    learning_rate_at    the learning rate of a step
    gathered            parameters made whole where each rank has only a part of them

What a rank gives to `accumulate` is its share of one loss that is already divided by global counts. Gradients are
summed over ranks and calls, and divided by nothing.
"""

import json
import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from learner._deepspeed_options import deepspeed_options, make_optimizer, optimizer_options
from learner._gradients import FiniteWatch, gradient_buffers
from learner._sharded import (
    CheckpointMismatch,
    layout_of,
    only_data,
    random_states,
    require_same_layout,
    set_random_states,
)
from learner.checkpoint_files import CheckpointFiles
from learner.config import DeepSpeedConfig, OptimizerConfig
from learner.parts import ParameterGroup

__all__ = [
    "CheckpointMismatch",
    "DistributedEngine",
    "NonFinite",
    "StepReport",
    "gathered",
    "join_ranks",
    "learning_rate_at",
]

STATE_FOLDER = "deepspeed"
SUMMARY_FILE = "engine.json"
RANDOM_STATES_FILE = "random_states_{}.pt"


class NonFinite(ArithmeticError):
    """A loss or a gradient is infinite or not a number. All ranks raise it; no weight has changed and all can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one optimizer step did."""

    step: int
    """Its number, from 0."""
    learning_rate: float
    gradient_norm: float
    """Before clipping, over all parameters."""
    was_clipped: bool


def learning_rate_at(config: OptimizerConfig, step: int) -> float:
    """The learning rate of an optimizer step; the first is step 0 and already moves."""
    highest, lowest = config.learning_rate, config.end_learning_rate
    if step < config.warmup_steps:
        return highest * (step + 1) / config.warmup_steps
    if config.schedule == "constant" or config.total_steps is None:
        return highest
    done = min(1.0, (step - config.warmup_steps) / (config.total_steps - config.warmup_steps))
    remaining = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return lowest + (highest - lowest) * remaining


def join_ranks(rank: int, num_ranks: int, address: str, *, timeout_seconds: float) -> None:
    """Make this process one of several; returns when all have joined. `address` is rank 0's host and a free port."""
    host, _, port = address.rpartition(":")
    has_gpu = torch.cuda.is_available()
    os.environ.update(MASTER_ADDR=host, MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(num_ranks))
    os.environ["LOCAL_RANK"] = "0"  # Ray shows a process no device but its own
    if not has_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"

    import deepspeed
    from deepspeed.utils import groups, logger

    logger.setLevel(logging.WARNING)
    # DeepSpeed calls what this PyTorch has under a new name, in every step.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+_tensor` is deprecated", FutureWarning)
    # Otherwise half a minute goes into compiling a collective that only DeepSpeed's inference engine calls.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    timeout = timedelta(seconds=timeout_seconds)
    deepspeed.init_distributed("nccl" if has_gpu else "gloo", auto_mpi_discovery=False, verbose=False, timeout=timeout)
    # Gradients go through a second group, which DeepSpeed would make with PyTorch's timeout instead of ours.
    groups._WORLD_GROUP = torch.distributed.new_group(timeout=timeout)


@contextmanager
def gathered(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, the parameters are whole, to be read; all ranks enter and leave together."""
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=None):
        yield


class DistributedEngine:
    """One rank's part of a model in training. All ranks make every call together, `module` included.

    At ZeRO stage 3 ranks exchange weights while they go through the model, so all have to go through the same parts of
    it: none may leave out the layers that look at pictures because its share of the episodes shows none.
    """

    def __init__(
        self,
        engine: Any,
        watch: FiniteWatch,
        optimizer: OptimizerConfig,
        groups: Sequence[ParameterGroup],
        layout: dict[str, Any],
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._optimizer = optimizer
        self._groups = groups
        self._layout = layout
        self._step = 0

    @classmethod
    def start(
        cls,
        module: nn.Module,
        *,
        optimizer: OptimizerConfig,
        sharing: DeepSpeedConfig,
        dtype: str,
        groups: Sequence[ParameterGroup] = (),
    ) -> Self:
        """Take over the module, with rank 0's weights on all ranks; `join_ranks` comes first. `groups` are all its
        trained parameters, if not all have one learning rate."""
        import deepspeed

        num_ranks = torch.distributed.get_world_size()
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = groups or (ParameterGroup("model", trained, optimizer.learning_rate),)
        layout = layout_of(module, groups, num_ranks=num_ranks, zero_stage=sharing.zero_stage, dtype=dtype)
        config = deepspeed_options(trained, optimizer, sharing, dtype=dtype, num_ranks=num_ranks)
        watch = FiniteWatch(trained)
        adamw = make_optimizer(groups, optimizer, sharing, dtype)
        engine, *_ = deepspeed.initialize(model=module, optimizer=adamw, config=config)
        assert engine.train_batch_size() == num_ranks and engine.gradient_accumulation_steps() == 1
        return cls(engine, watch, optimizer, groups, layout)

    @property
    def module(self) -> nn.Module:
        """What to call with the model's own arguments."""
        return self._engine

    def accumulate(self, loss: Tensor) -> None:
        """Add this rank's share of the loss; all ranks call it equally often before each step."""
        is_finite = loss.detach().isfinite()
        self._watch.see_loss(is_finite)
        # ZeRO 3 can only average. A loss that is not finite makes all gradients so, and then nobody steps.
        scale = self._layout["num_ranks"] if self._layout["zero_stage"] == 3 else 1
        scaled = loss * torch.where(is_finite, scale, math.nan)
        if hasattr(self._engine.optimizer, "clear_backward_seen_flag"):
            # Only a forward would tell ZeRO 3 that the next backward adds to the gradient of the last one.
            self._engine.optimizer.clear_backward_seen_flag()
        self._engine.backward(scaled, scale_wrt_gas=False)

    def step(self, only: str | None = None) -> StepReport:
        """Step with the sum of all gradients since the last step, or the group `only` alone; NonFinite, and no step, if
        any was not finite."""
        learning_rate = learning_rate_at(self._optimizer, self._step)
        risen = learning_rate / self._optimizer.learning_rate
        for group, ours in zip(self._engine.optimizer.param_groups, self._groups, strict=True):
            group["lr"] = ours.learning_rate * risen if only in (None, ours.name) else 0.0
        self._engine.step()
        for buffer in gradient_buffers(self._engine.optimizer):
            buffer.zero_()
        broken = self._watch.broken()
        if not self._engine.was_step_applied():
            raise NonFinite(self._blame(*broken))
        norm = float(self._engine.get_global_grad_norm())
        self._step += 1
        return StepReport(
            step=self._step - 1,
            learning_rate=learning_rate,
            gradient_norm=norm,
            was_clipped=norm > self._optimizer.max_gradient_norm,
        )

    def _blame(self, loss_is_broken: bool, gradient_is_broken: bool) -> str:
        """Whose loss or gradient it was, in the same words on every rank."""
        by_rank = self.gather(np.array([[loss_is_broken, gradient_is_broken]]))
        for column, name in enumerate(("loss", "gradient")):
            ranks = [str(rank) for rank in by_rank[:, column].nonzero()[0]]
            if ranks:
                who = f"the {name} of rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"
                break
        else:
            who = "the sum of all ranks' gradients"
        return f"{who} was not finite at optimizer step {self._step}: gradients are dropped, weights are as they were"

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Of all ranks, element by element."""
        total = self._on_device(values)
        torch.distributed.all_reduce(total)
        return total.cpu().numpy()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The rows of rank 0, then those of rank 1, …; a rank may have none, but as many columns as the others."""
        counts = self._all(torch.tensor([len(rows)], dtype=torch.float64, device=self._engine.device))
        padded = np.zeros((int(max(counts)), rows.shape[1]))
        padded[: len(rows)] = rows
        parts = self._all(self._on_device(padded))
        return np.concatenate([part[: int(count)].cpu().numpy() for part, count in zip(parts, counts, strict=True)])

    def largest(self, value: int) -> int:
        """Of all ranks."""
        largest = torch.tensor(value, device=self._engine.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(self._engine.device)

    def _all(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self._layout["num_ranks"])]
        torch.distributed.all_gather(parts, tensor)
        return parts

    def save(self, folder: Path, files: CheckpointFiles) -> None:
        """Have all there is written into the folder, every rank's part by its own `files`; training may go on."""
        self._engine.checkpoint_engine.save = files.save
        self._engine.save_checkpoint(str(folder), tag=STATE_FOLDER, save_latest=False)
        rank = torch.distributed.get_rank()
        files.save(random_states(), folder / RANDOM_STATES_FILE.format(rank))
        if rank == 0:
            files.write(json.dumps({"step": self._step, "layout": self._layout}, indent=1), folder / SUMMARY_FILE)

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote, in an engine that has not trained yet; the optimizer's options stay ours."""
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        require_same_layout(folder, summary["layout"], self._layout)
        with only_data():
            path, _ = self._engine.load_checkpoint(str(folder), tag=STATE_FOLDER)
            states = torch.load(folder / RANDOM_STATES_FILE.format(torch.distributed.get_rank()))
        assert path is not None, f"DeepSpeed found nothing in {folder}"
        for group in self._engine.optimizer.param_groups:
            group.update(optimizer_options(self._optimizer))
        self._step = summary["step"]
        set_random_states(states)
        torch.distributed.barrier()

    def rest(self) -> None:
        """Move to the host what only a step needs; the weights stay, so that the model can be asked and sent."""
        from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as Kind
        from deepspeed.runtime.zero.offload_states import offload_optimizer_states

        stage, optimizer = self._engine.zero_optimization_stage(), self._engine.optimizer
        if stage == 3:
            self._engine.offload_states([Kind.lp_grads, Kind.contiguous_grad_buffer], pin_memory=False)
        elif stage:
            self._engine.offload_states([Kind.hp_params, Kind.optim_states, Kind.lp_grads], pin_memory=False)
        if stage in (0, 3) and not self._engine.zero_use_cpu_optimizer():
            # At these stages DeepSpeed would do it for none but its own AdamW.
            offload_optimizer_states(optimizer, "cpu")
            for master in getattr(optimizer, "fp32_partitioned_groups_flat", []):
                master.data = master.data.cpu()
        torch.cuda.empty_cache()

    def work(self) -> None:
        """Move back to the device what `rest` moved away."""
        from deepspeed.runtime.zero.offload_states import reload_optimizer_states

        stage, optimizer = self._engine.zero_optimization_stage(), self._engine.optimizer
        if stage:
            self._engine.reload_states()
        if stage in (0, 3) and not self._engine.zero_use_cpu_optimizer():
            reload_optimizer_states(optimizer, self._engine.device)
            for master in getattr(optimizer, "fp32_partitioned_groups_flat", []):
                master.data = master.data.to(self._engine.device)

    def close(self) -> None:
        """Take all hooks off the model; the ranks stay joined."""
        self._watch.close()
        self._engine.destroy()
