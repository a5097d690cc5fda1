"""What DeepSpeed is told: its configuration, and the optimizer that it works with.

    deepspeed_options   a configuration as `deepspeed.initialize` takes it
    standing_options    the same for a model that does not learn, shared at stage 3
    make_optimizer      AdamW over the trained parameters, in groups
    optimizer_options   the part of it that a configuration decides and a checkpoint does not

Whatever changes a number is said here: DeepSpeed's defaults differ between its versions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from learner._gradients import ClippedAdamW, PulledAdamW
from learner.config import DeepSpeedConfig, OptimizerConfig
from learner.limits import REDUCE_BUCKET_NUMEL
from learner.parts import CRITIC, ParameterGroup

WHOLE_PARAMETER_NUMEL = 10_000
"""Parameters of at most so many values, which are vectors, stay whole on every rank at ZeRO stage 3."""


def deepspeed_options(
    trained: Sequence[nn.Parameter],
    optimizer: OptimizerConfig,
    sharing: DeepSpeedConfig,
    *,
    dtype: str,
    num_ranks: int,
) -> dict[str, Any]:
    """One for any number of micro-batches to a step, in which gradients are added and nothing is divided."""
    if sharing.offload_optimizer and sharing.zero_stage == 0:
        raise ValueError(
            "learner.deepspeed.offload_optimizer is true with zero_stage 0, at which DeepSpeed keeps the optimizer's "
            "state beside the model; set zero_stage to 1, 2 or 3"
        )
    stage = sharing.real_stage(dtype)
    zero: dict[str, Any] = {
        "stage": stage,
        # Gradients of one layer travel while those of the next are computed.
        "overlap_comm": stage >= 2,
        "reduce_bucket_size": min(REDUCE_BUCKET_NUMEL, sum(parameter.numel() for parameter in trained)),
        "stage3_param_persistence_threshold": WHOLE_PARAMETER_NUMEL,
    }
    if sharing.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Nothing of ours depends on these three, but DeepSpeed makes up what is missing.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": num_ranks,
        # `step` alone ends an accumulation.
        "managed_gradient_accumulation": False,
        "gradient_allreduce_op": "mean" if stage == 3 else "sum",
        "communication_data_type": "fp32",
        # At stage 0 the optimizer clips.
        "gradient_clipping": optimizer.max_gradient_norm if stage else 0.0,
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def standing_options(*, dtype: str, num_ranks: int) -> dict[str, Any]:
    """For a model without an optimizer, whose weights lie with all ranks."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": num_ranks,
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": WHOLE_PARAMETER_NUMEL},
    }


def make_optimizer(
    groups: Sequence[ParameterGroup], optimizer: OptimizerConfig, sharing: DeepSpeedConfig, dtype: str
) -> torch.optim.AdamW:
    """AdamW, which at stage 0 also has to clip; groups may differ in their learning rate."""
    options = {"lr": optimizer.learning_rate, **optimizer_options(optimizer)}
    # On a GPU one pass without temporaries; on CPUs the plain loop, which is PyTorch's reference bit for bit.
    options["fused"] = torch.cuda.is_available() and not sharing.offload_optimizer
    # A critic begins nowhere that is worth to be kept.
    grouped: Any = [
        {"params": list(group.parameters), "pull": optimizer.pull_to_start * (group.name != CRITIC)} for group in groups
    ]
    if sharing.real_stage(dtype) == 0:
        return ClippedAdamW(grouped, optimizer.max_gradient_norm, **options)
    return PulledAdamW(grouped, **options)


def optimizer_options(optimizer: OptimizerConfig) -> dict[str, Any]:
    """AdamW's own names for them."""
    return {"betas": optimizer.betas, "eps": optimizer.epsilon, "weight_decay": optimizer.weight_decay}
