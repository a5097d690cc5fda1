"""Other kernels are taken where they say what the model's own say, and refused where they do not or cannot run."""

import sys
from types import MethodType, ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from learner import kernels
from learner.kernels import OtherKernels


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 60}
    return LlamaForCausalLM._from_config(LlamaConfig(**shape, num_attention_heads=4), attn_implementation="sdpa")


def with_norms(model: Any, scale: float) -> None:
    """PyTorch's own kernel for the norms that the model writes out."""

    def norm(self: Any, states: torch.Tensor) -> torch.Tensor:
        return scale * functional.rms_norm(states, self.weight.shape, self.weight, self.variance_epsilon)

    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = MethodType(norm, module)


def test_kernels_that_say_the_same_are_taken(model: Any) -> None:
    kernels.replaced(model, lambda: with_norms(model, 1.0))
    assert all("forward" in vars(layer.input_layernorm) for layer in model.model.layers)


def test_kernels_that_say_something_else_are_refused(model: Any) -> None:
    with pytest.raises(
        OtherKernels, match=r"learner\.kernels: .* llama ends in states that differ .*; set it to torch"
    ):
        kernels.replaced(model, lambda: with_norms(model, 1.01))


def test_without_a_gpu_they_are_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OtherKernels, match=r"learner\.kernels=liger: there is no GPU here, .*; set it to torch"):
        kernels.use_liger(model)


def test_a_package_that_is_missing_or_has_none_is_told(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(OtherKernels, match=r"learner\.kernels=liger: .*; pip install liger-kernel"):
        kernels.use_liger(model)
    patching: Any = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"gemma": None})
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patching)
    with pytest.raises(
        OtherKernels, match=r"learner\.kernels=liger: the package has none for a llama; set it to torch"
    ):
        kernels.use_liger(model)
