"""A model of a folder as it is trained: which of it learns, and how its words attend.

    load_backbone(folder, config)     with the fastest exact attention there is, and without dropout
    freeze(backbone, parts)           what does not learn
    add_lora(backbone, lora)          what learns in its place
    adapters_off(backbone)            inside, the model as it was before that

What cannot be trained as configured is a ModelError when it is loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from learner import packed_attention
from learner.config import LearnerConfig, LoraConfig
from learner.kernels import use_liger
from learner.parts import part_of
from learner.token_scorer import OutputLayer


class ModelError(ValueError):
    """A model cannot be trained as configured; the message names the key and the fix."""


def load_backbone(folder: Path, config: LearnerConfig) -> PreTrainedModel:
    """The model of a folder, with the fastest exact attention there is here."""
    model_config = AutoConfig.from_pretrained(folder)
    has_eyes = getattr(model_config, "vision_config", None) is not None
    backbone = (AutoModelForImageTextToText if has_eyes else AutoModelForCausalLM).from_pretrained(
        folder,
        dtype=getattr(torch, config.dtype),
        attn_implementation="sdpa",
    )
    _check_output_layer(backbone)
    packed_attention.use(backbone)
    if config.kernels == "liger":
        use_liger(backbone)
    output_layer: Any = backbone.get_output_embeddings()
    if type(output_layer) is nn.Linear:
        output_layer.__class__ = OutputLayer
    # What was drawn without dropout must be scored without it.
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("attention_dropout", "attn_pdrop"):
        for part in (backbone.config, getattr(backbone.config, "text_config", None)):
            if getattr(part, name, 0.0):
                setattr(part, name, 0.0)
    return backbone


def freeze(backbone: PreTrainedModel, parts: Sequence[str]) -> None:
    """Have these parts not learn."""
    for part in parts:
        found = [parameter for name, parameter in backbone.named_parameters() if part_of(name) == part]
        if not found:
            raise ModelError(f"learner.freeze: {type(backbone).__name__} has no {part}; leave it out")
        for parameter in found:
            parameter.requires_grad_(False)


def add_lora(backbone: PreTrainedModel, lora: LoraConfig) -> None:
    """Have nothing learn but low-rank additions to some layers."""
    import peft

    targets: Any = list(lora.target_modules) or _linear_layers(backbone)
    backbone.requires_grad_(False)
    options = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0)
    try:
        peft.inject_adapter_in_model(options, backbone)
    except ValueError as error:
        raise ModelError(f"learner.lora.target_modules={list(lora.target_modules)}: {error}") from None


def _linear_layers(backbone: PreTrainedModel) -> list[str]:
    output_layer = backbone.get_output_embeddings()
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and module is not output_layer and part_of(name) == "language_model"
    ]


@contextmanager
def adapters_off(backbone: nn.Module) -> Iterator[None]:
    """The model as it was before any low-rank training, inside the block."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in backbone.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def _check_output_layer(backbone: Any) -> None:
    """Some models scale or bend their logits behind the output layer; PolicyModel would miss that."""
    token_ids = torch.arange(1, 9)[None] % backbone.get_input_embeddings().weight.shape[0]
    backbone.eval()
    whole = backbone(input_ids=token_ids, use_cache=False).logits
    hidden = backbone.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
    alone = backbone.get_output_embeddings()(hidden)
    if not torch.allclose(whole, alone, atol=1e-4 if whole.dtype == torch.float32 else 1e-1):
        raise ModelError(
            f"learner.model: {type(backbone).__name__} changes its logits behind the output layer "
            f"(by up to {(whole - alone).abs().max():.3g}), which would be left out here; use a model that does not"
        )
