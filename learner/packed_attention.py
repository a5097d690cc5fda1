"""Attention where several sequences share a row, each token with those before it in its own sequence alone.

    Packing.of(lengths)              where sequences begin in a row
    with packing.told() as told      inside, a model that is given `told` beside its inputs attends so
    use(backbone)                    has a model's words attend by it; without a packing, as PyTorch does by itself

On GPUs in half precision sequences of any lengths go through one kernel, elsewhere one after the other: nothing is
computed between them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"


class UntoldPacking(TypeError):
    """A model keeps from its attention what it is told beside its inputs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packing:
    """Where sequences begin in the only row."""

    lengths: tuple[int, ...]
    starts: torch.Tensor
    """[sequences + 1] where each begins, and the last ends."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Packing":
        """Of sequences that follow one another."""
        starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return cls(lengths=tuple(lengths), starts=starts)

    def to(self, device: torch.device) -> "Packing":
        """The same on another device."""
        return replace(self, starts=self.starts.to(device, non_blocking=True))

    @contextmanager
    def told(self) -> Iterator[dict[str, Any]]:
        """Inside, no mask is made; what a model is to hand on to its attention, whose layers may run again later."""
        token = _PACKING.set(self)
        try:
            yield {"packing": self}
        finally:
            _PACKING.reset(token)


_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)


def use(backbone: PreTrainedModel) -> None:
    """Of a model with eyes, these attend as they did."""
    has_parts = getattr(backbone.config, "text_config", None) is not None
    backbone.set_attn_implementation({"text_config": NAME} if has_parts else NAME)


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    return None if _PACKING.get() else sdpa_mask(*args, **kwargs)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """[1, heads, R, head size] each  →  [1, R, heads, head size]"""
    looks_elsewhere = attention_mask is not None or key.shape[2] != query.shape[2]
    if packing is None and _PACKING.get() and not looks_elsewhere:
        raise UntoldPacking(f"{type(module).__name__} is not told where sequences begin")
    if packing is None or looks_elsewhere:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if _is_limited(module, options):
        raise UntoldPacking(f"{type(module).__name__} is told how far it may look by a mask alone")
    if _fits_kernel(query, value):
        return _at_once(query, key, value, packing, options.get("scaling"), options.get("sliding_window")), None
    parts = zip(*(states.split(packing.lengths, 2) for states in (query, key, value)), strict=True)
    return torch.cat([_alone(module, query, key, value, options) for query, key, value in parts], 1), None


def _is_limited(module: torch.nn.Module, options: dict[str, Any]) -> bool:
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    kind = kinds[getattr(module, "layer_idx", 0)] if kinds else ""
    return kind == "chunked_attention" or (kind == "sliding_attention" and not options.get("sliding_window"))


def _fits_kernel(query: torch.Tensor, value: torch.Tensor) -> bool:
    size = query.shape[-1]
    fits = query.dtype in (torch.bfloat16, torch.float16) and size == value.shape[-1] <= 256 and size % 8 == 0
    return query.is_cuda and fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _at_once(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(packing.lengths)
    attend: Any = varlen_attn
    return attend(
        *(states[0].transpose(0, 1) for states in (query, key, value)),
        packing.starts,
        packing.starts,
        longest,
        longest,
        scale=scale,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )[None]


def _alone(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    length, window = query.shape[2], options.get("sliding_window")
    mask = None
    if window and length > window:
        at = torch.arange(length, device=query.device)
        mask = ((at[:, None] >= at) & (at[:, None] - at < window))[None, None]
    return sdpa_attention_forward(module, query, key, value, mask, **options)[0]


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)
