"""What DeepSpeed leaves to others about gradients.

    PulledAdamW         an optimizer that pulls weights to where they began
    ClippedAdamW        and clips, for ZeRO stage 0
    FiniteWatch         whose loss or gradient was infinite or not a number
    gradient_buffers    where DeepSpeed keeps gradients for longer than it should

Some names here are those of attributes of DeepSpeed's classes, which may change with its version.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class PulledAdamW(torch.optim.AdamW):
    """AdamW that besides pulls weights to where they began: by θ −= lr · pull · (θ − θ₀), apart from its means.

    Where a weight began is part of its state, so that ranks share it and checkpoints hold it as they do the rest.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step."""
        pulled = [(each, group) for group in self.param_groups if group.get("pull") for each in group["params"]]
        fresh = {each: each.detach().clone() for each, _ in pulled if "start" not in self.state[each]}
        super().step(closure)
        for each, group in pulled:
            # AdamW takes a weight that has any state for one that it has seen.
            start = self.state[each].setdefault("start", fresh.get(each))
            each.lerp_(start, group["lr"] * group["pull"])


class ClippedAdamW(PulledAdamW):
    """AdamW for gradients that are whole on every rank. It clips them, and does nothing where their norm is not finite.

    `overflow` and `_global_grad_norm` are where DeepSpeed looks for what its own optimizers did.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], max_gradient_norm: float, **options: Any) -> None:
        """`options` are those of AdamW."""
        super().__init__(parameters, **options)
        self._max_gradient_norm = max_gradient_norm
        self._global_grad_norm = 0.0
        self.overflow = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        self._global_grad_norm = norm.item()
        self.overflow = not math.isfinite(self._global_grad_norm)
        if not self.overflow:
            nn.utils.clip_grads_with_norm_(parameters, self._max_gradient_norm, norm)
            super().step(closure)


class FiniteWatch:
    """Whether this rank's losses, and its gradients before they are summed over ranks, were finite since last asked."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """To be made before DeepSpeed hangs its own hooks on the parameters: they send gradients away and drop them."""
        self._forget()
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._see_gradient) for parameter in parameters]

    def see_loss(self, is_finite: Tensor) -> None:
        """Remember a loss."""
        self._losses = self._losses & is_finite

    def broken(self) -> tuple[bool, bool]:
        """Whether a loss was not finite, and whether a gradient was not."""
        seen = not self._losses.item(), not self._gradients.item()
        self._forget()
        return seen

    def close(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()

    def _see_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._gradients = self._gradients & parameter.grad.isfinite().all()

    def _forget(self) -> None:
        self._losses, self._gradients = torch.tensor(True), torch.tensor(True)


def gradient_buffers(optimizer: Any) -> Iterator[Tensor]:
    """What has to be zero when a step begins.

    DeepSpeed overwrites there the gradients of parameters that the step's first micro-batch uses. Those of others it
    adds to what the last step left, or steps with that once more.
    """
    if hasattr(optimizer, "grad_partitions_flat_buffer"):
        yield optimizer.grad_partitions_flat_buffer
        masters = optimizer.fp32_partitioned_groups_flat
    else:
        masters = getattr(optimizer, "single_partition_of_fp32_groups", [])
    yield from (master.grad for master in masters if master.grad is not None)
    yield from getattr(optimizer, "accumulated_grads_in_cpu", {}).values()
