"""A Hugging Face module as a source of weights: its parameters as its checkpoint has them.

    HuggingFaceSource    the stream of named tensors that a WeightSender sends
    checkpoint_names     for each parameter the names under which it is saved
    as_saved             one parameter as it is saved

Transformers 5 renames what it loads (`visual.…` becomes `model.visual.…`) and stacks experts; a rollout engine knows
only what is in the file.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource, materialize_full_tensor


class HuggingFaceSource(WeightSource):
    """The weights of a module that is whole in this process; tied ones are sent once."""

    def __init__(self, module: PreTrainedModel, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """`folder` is the checkpoint that the engine was started from; `dtype` is what is sent, if not the module's."""
        checkpoint_names(module, folder)
        self._module = module
        self._dtype = dtype

    def metadata(self) -> list[ParamMeta]:
        """What iterating yields."""
        return [
            ParamMeta(saved_name, self._dtype or parameter.dtype, tuple(tensor.shape))
            for name, parameter in self._module.named_parameters()
            for saved_name, tensor in as_saved(self._module, name, _without_values(parameter)).items()
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and tensor, one after the other."""
        for name, parameter in self._module.named_parameters():
            tensor = materialize_full_tensor(parameter.detach())
            for saved_name, saved in as_saved(self._module, name, tensor).items():
                yield saved_name, saved.to(self._dtype or saved.dtype)


def checkpoint_names(module: PreTrainedModel, folder: Path) -> dict[str, list[str]]:
    """For each parameter, of tied ones the first, its names in the folder's files; an error where it has none."""
    names = {
        name: list(as_saved(module, name, _without_values(parameter))) for name, parameter in module.named_parameters()
    }
    in_files = _names_in(folder)
    unmatched = [name for name, saved in names.items() if not in_files.issuperset(saved)]
    if unmatched:
        listed = ", ".join(f"{name} (saved as {', '.join(names[name])})" for name in unmatched[:5])
        raise ValueError(
            f"{len(unmatched)} of {len(names)} parameters of {type(module).__name__} are not in the checkpoint "
            f"{folder}, so no rollout engine could take them: {listed}{' …' if len(unmatched) > 5 else ''}. "
            "Save the module there with save_pretrained and start the engines from that."
        )
    return names


def as_saved(module: PreTrainedModel, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameter under the name that `save_pretrained` gives it; stacked experts come apart."""
    return revert_weight_conversion(module, {name: tensor})


def _without_values(parameter: torch.Tensor) -> torch.Tensor:
    # Of a parameter that is spread over learner ranks, DeepSpeed keeps the whole shape under this name.
    return torch.empty(getattr(parameter, "ds_shape", parameter.shape), device="meta")


def _names_in(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names.update(file.keys())
    return names
