"""The trained policy as a source of weights, however ranks share it and whatever of it is trained.

    DeepSpeedZeroSource    the stream of named tensors that a WeightSender sends; every rank goes through all of it

A rollout engine knows only the layers that the model's checkpoint has. What low-rank training adds to a layer's weight
is sent as part of that weight; the model itself stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from learner._sharded import whole_bytes, whole_shape
from learner.deepspeed_engine import gathered
from rollout.weight_files import DEFAULT_BUCKET_BYTES, buckets_of
from rollout.weight_source import as_saved, require_names

Addition = tuple[nn.Parameter, nn.Parameter, float]
"""B, A and s of s·B·A."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter under the name that it has without low-rank training, and what that adds to it."""

    name: str
    base: nn.Parameter
    additions: tuple[Addition, ...]

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that have to be whole to tell its value."""
        yield self.base
        for up, down, _ in self.additions:
            yield from (up, down)

    def num_bytes(self) -> int:
        """Of all of them."""
        return sum(whole_bytes(parameter) for parameter in self.parameters())

    def value(self) -> Tensor:
        """Computed in float32 where something is added, so that it is rounded once."""
        value = self.base.detach()
        for up, down, scale in self.additions:
            value = value.float() + (up.detach().float() @ down.detach().float()) * scale
        return value.to(self.base.dtype)


class DeepSpeedZeroSource(WeightSource):
    """The weights of a module that ranks may share, put together in buckets; tied ones are sent once."""

    def __init__(
        self,
        module: nn.Module,
        folder: Path,
        *,
        dtype: torch.dtype | None = None,
        bucket_bytes: int = DEFAULT_BUCKET_BYTES,
    ) -> None:
        """`module` is a PreTrainedModel, with or without low-rank additions, or a PeftModel around it.

        `folder` is the checkpoint that the engine was started from; `dtype` is what is sent, if not the module's.
        """
        # A PeftModel has the model inside, to which it has added its layers in place.
        self._module: Any = getattr(module, "get_base_model", lambda: module)()
        self._weights = list(_weights_of(self._module))
        self._dtype = dtype
        self._bucket_bytes = bucket_bytes
        require_names(self._module, folder, {weight.name: list(self._shapes(weight)) for weight in self._weights})

    def metadata(self) -> list[ParamMeta]:
        """What iterating yields."""
        return [
            ParamMeta(saved_name, self._dtype or weight.base.dtype, shape)
            for weight in self._weights
            for saved_name, shape in self._shapes(weight).items()
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor, one after the other."""
        for bucket in buckets_of(self._weights, _Weight.num_bytes, self._bucket_bytes):
            with gathered(parameter for weight in bucket for parameter in weight.parameters()):
                values = [(weight.name, weight.value()) for weight in bucket]
            # The gathering has ended on all ranks, even if this one is never asked for the rest.
            for name, value in values:
                for saved_name, saved in as_saved(self._module, name, value).items():
                    yield saved_name, saved.to(self._dtype or saved.dtype)

    def _shapes(self, weight: _Weight) -> dict[str, tuple[int, ...]]:
        without_values = torch.empty(whole_shape(weight.base), device="meta")
        return {name: tuple(saved.shape) for name, saved in as_saved(self._module, weight.name, without_values).items()}


def _weights_of(module: nn.Module) -> Iterator[_Weight]:
    additions: dict[Tensor, tuple[Addition, ...]] = {}
    factors: set[Tensor] = set()
    for name, layer in module.named_modules():
        if hasattr(layer, "lora_A"):
            base_layer, additions_here = _low_rank(name, layer)
            additions[base_layer.weight] = additions_here
            factors.update(set(layer.parameters()) - set(base_layer.parameters()))
    for name, parameter in module.named_parameters():
        if parameter not in factors:
            yield _Weight(name.replace(".base_layer.", "."), parameter, additions.get(parameter, ()))


def _low_rank(name: str, layer: Any) -> tuple[nn.Linear, tuple[Addition, ...]]:
    """The layer to which something is added, and what."""
    base_layer = layer.get_base_layer()
    if not isinstance(base_layer, nn.Linear) or layer.lora_variant or any(layer.lora_bias.values()):
        raise ValueError(
            f"{name} has a kind of LoRA ({type(layer).__name__} on {type(base_layer).__name__}) that no rollout engine "
            "can be sent: use plain LoRA, without bias, on linear layers"
        )
    return base_layer, tuple(
        (layer.lora_B[adapter].weight, layer.lora_A[adapter].weight, layer.scaling[adapter])
        for adapter in layer.active_adapters
        if adapter in layer.lora_A
    )
