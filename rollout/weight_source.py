"""A Hugging Face module as a source of weights: its parameters as its checkpoint has them.

    HuggingFaceSource    the stream of named tensors that a WeightSender sends
    saved_names          for each parameter the names under which it is saved
    require_names        they are those in the checkpoint's files
    as_saved             one parameter as it is saved

Transformers 5 renames what it loads (`visual.…` becomes `model.visual.…`) and stacks experts; a rollout engine knows
only what is in the file.
"""

from collections.abc import Iterator, Mapping, Sequence
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
        require_names(module, folder, saved_names(module))
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


def require_names(module: torch.nn.Module, folder: Path, saved_names: Mapping[str, Sequence[str]]) -> None:
    """An error, if a parameter is saved under a name that the folder's files do not have."""
    in_files: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            in_files.update(file.keys())
    missing = [name for name, saved in saved_names.items() if not in_files.issuperset(saved)]
    if missing:
        listed = ", ".join(f"{name} (saved as {', '.join(saved_names[name])})" for name in missing[:5])
        raise ValueError(
            f"{len(missing)} of {len(saved_names)} parameters of {type(module).__name__} are not in the checkpoint "
            f"{folder}, so no rollout engine could take them: {listed}{' …' if len(missing) > 5 else ''}. "
            "Save the model there with save_pretrained and start the engines from that."
        )


def saved_names(module: PreTrainedModel) -> dict[str, list[str]]:
    """For each parameter, of tied ones the first, the names under which it is saved."""
    return {
        name: list(as_saved(module, name, _without_values(parameter))) for name, parameter in module.named_parameters()
    }


def as_saved(module: PreTrainedModel, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameter under the name that `save_pretrained` gives it; stacked experts come apart."""
    return revert_weight_conversion(module, {name: tensor})


def _without_values(parameter: torch.Tensor) -> torch.Tensor:
    # Of a parameter that is spread over learner ranks, DeepSpeed keeps the whole shape under this name.
    return torch.empty(getattr(parameter, "ds_shape", parameter.shape), device="meta")
