"""Kernels of the package `liger-kernel` for a model's norms, rotations and feed-forward layers, in place of PyTorch's.

use_liger(backbone)         of a model on a GPU, since they are Triton's, which has no other
replaced(backbone, put)     puts anything in place, and refuses it where the model then says something else of words
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch


class OtherKernels(ValueError):
    """Kernels that are not there, or not the model's own; the message names the key and the fix."""


def use_liger(backbone: Any) -> None:
    """For the model from here on, and for others of its kind in this process; the output layer is ours."""
    if not torch.cuda.is_available():
        raise OtherKernels(
            "learner.kernels=liger: there is no GPU here, and they run on no other device; set it to torch"
        )
    try:
        patching = import_module("liger_kernel.transformers.monkey_patch")
    except ImportError as error:
        raise OtherKernels(
            f"learner.kernels=liger: {error}; pip install liger-kernel on every host, or set it to torch"
        ) from None
    kind = backbone.config.model_type
    if kind not in patching.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise OtherKernels(f"learner.kernels=liger: the package has none for a {kind}; set it to torch")
    options = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    replaced(backbone.to(torch.device("cuda")), lambda: patching._apply_liger_kernel_to_instance(backbone, **options))


@torch.no_grad()
def replaced(backbone: Any, put: Callable[[], None]) -> None:
    """Call `put`, and raise OtherKernels unless the states that the model ends in are what they were."""
    device = backbone.get_input_embeddings().weight.device
    token_ids = torch.arange(8, 24, device=device)[None] % backbone.get_input_embeddings().num_embeddings

    def states() -> torch.Tensor:
        return backbone.base_model(input_ids=token_ids, use_cache=False).last_hidden_state

    own = states()
    put()
    gap = states() - own
    if not is_rounding(gap, own):
        raise OtherKernels(
            f"learner.kernels: with these a {backbone.config.model_type} ends in states that differ by "
            f"{float(gap.abs().max()):.2g}; set it to torch"
        )


def is_rounding(gap: torch.Tensor, states: torch.Tensor) -> bool:
    """Whether states differ by no more than another order of the same sums may make of them."""
    return bool(gap.abs().max() <= (1e-5 if states.dtype == torch.float32 else 2e-2) * states.abs().max())
