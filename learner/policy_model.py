"""The policy with its critic: any Hugging Face causal or image-text-to-text model, and a value head on its last states.

    load_policy(folder, config, chat)  →  PolicyModel
    size_of(policy)               →  ModelSize: what a token costs in each of its parts
    PolicyModel(micro_batch, …)   →  Predictions: what the loss needs, at sampled tokens alone

The output layer, which is most of a small model's work, runs only where a token was sampled. That this is the model's
own forward is checked when it is loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from learner.batch import MicroBatch
from learner.config import LearnerConfig, LoraConfig, ValueHeadConfig
from learner.families import family_of
from learner.families.family import cast
from learner.model_size import ModelSize, Weight, model_size
from learner.parts import CRITIC, ParameterGroup, is_looked_up, part_of
from learner.token_scorer import Distributions, Drawing, Mode, OutputLayer, distributions, score_tokens
from rollout.transcript import ChatTokens


class ModelError(ValueError):
    """A model cannot be trained as configured; the message names the key and the fix."""


@dataclass(frozen=True, kw_only=True)  # no slots: DeepSpeed looks for tensors in what a module returns by its __dict__
class Predictions:
    """What the model says of n sampled tokens in k sequences; what the first three are stands in token_scorer.py."""

    logprobs: torch.Tensor
    """[n], or [0] where only states were asked about"""
    entropies: torch.Tensor | None
    """[n]"""
    divergences: torch.Tensor | None
    """[n]"""
    values: torch.Tensor
    """[n] the critic's worth of the state before each sampled token."""
    after: torch.Tensor
    """[k] and behind each sequence's last sampled token: the bootstrap value of an episode that was cut off."""


class PolicyModel(nn.Module):
    """A backbone and a value head; called with a micro-batch, so that DeepSpeed sees one forward."""

    def __init__(self, backbone: PreTrainedModel, value_head: ValueHeadConfig, chat: ChatTokens) -> None:
        super().__init__()
        self.backbone = backbone
        self.family = family_of(backbone, chat)
        width = (getattr(backbone.config, "text_config", None) or backbone.config).hidden_size
        self.value_head = _value_head(width, value_head.hidden_sizes)
        self.critic_widths = (width, *value_head.hidden_sizes, 1)
        self.stops_gradient = value_head.stop_gradient
        self.critic_learns_alone = False
        self.keeps_states, self.states = False, None
        self.keeps_pictures = False
        self._forbidden = list(chat.forbidden_token_ids)

    def forward(
        self,
        batch: MicroBatch,
        is_drawn: torch.Tensor,
        temperature: float,
        mode: Mode = Mode.LOGPROBS,
        reference: Distributions | None = None,
    ) -> Predictions:
        """`is_drawn` [n] tells tokens that were drawn, at the temperature and none forbidden, from demonstrated."""
        hidden = self._hidden_states(batch)
        self.states = hidden if self.keeps_states else None
        scores = None
        if mode is not Mode.VALUES:
            scores = score_tokens(
                hidden[batch.sampled_at - 1],
                batch.token_ids.flatten()[batch.sampled_at],
                self.output_layer,
                self._drawing(is_drawn, temperature),
                mode,
                reference,
            )
        seen = hidden.detach() if self.stops_gradient or self.critic_learns_alone else hidden
        values = self.value_head(torch.cat([seen[batch.sampled_at - 1], seen[batch.ends_at]]))[:, 0]
        num_tokens = len(batch.sampled_at)
        return Predictions(
            logprobs=scores.logprobs if scores else hidden.new_empty(0),
            entropies=scores and scores.entropies,
            divergences=scores and scores.divergences,
            values=values[:num_tokens],
            after=values[num_tokens:],
        )

    def parameter_groups(self, config: LearnerConfig) -> list[ParameterGroup]:
        """What is trained, by its learning rate; the critic apart where it has one of its own or learns alone."""
        rates, critic = config.optimizer.part_learning_rates, config.value_head
        grouped: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                if name.startswith("value_head."):
                    group = CRITIC if critic.learning_rate or critic.warmup_updates else "model"
                else:
                    group = part if (part := part_of(name)) in rates else "model"
                grouped.setdefault(group, []).append(parameter)
        for part in rates:
            if part not in grouped:
                raise ModelError(
                    f"learner.optimizer.part_learning_rates.{part}: no {part} of {type(self.backbone).__name__} is "
                    "trained; leave it out"
                )
        own = {**rates, CRITIC: critic.learning_rate or config.optimizer.learning_rate}
        common = config.optimizer.learning_rate
        return [ParameterGroup(name, group, own.get(name, common)) for name, group in grouped.items()]

    @torch.no_grad()
    def distributions(self, batch: MicroBatch, is_drawn: torch.Tensor, temperature: float) -> Distributions:
        """What each of the n tokens is drawn from, to compare another policy with: it can be asked for any of them."""
        hidden = self._hidden_states(batch)[batch.sampled_at - 1]
        return distributions(hidden, self.output_layer, self._drawing(is_drawn, temperature))

    @property
    def output_layer(self) -> nn.Module:
        """What makes logits of states."""
        return self.backbone.get_output_embeddings()  # pyright: ignore[reportReturnType]

    def _drawing(self, is_drawn: torch.Tensor, temperature: float) -> Drawing:
        return Drawing(is_drawn=is_drawn, temperature=temperature, forbidden_token_ids=self._forbidden)

    def _hidden_states(self, batch: MicroBatch) -> torch.Tensor:
        """[B * R, width]"""
        inputs = cast(batch.inputs, self.backbone.dtype)
        if self.keeps_pictures and "pixel_values" in inputs and self not in batch.seen:
            with torch.no_grad():
                batch.seen[self] = self.family.seen(self.backbone, inputs)
        return self.family.hidden_states(self.backbone, batch.token_ids, inputs, batch.seen.get(self)).flatten(0, 1)


def load_policy(folder: Path, config: LearnerConfig, chat: ChatTokens) -> PolicyModel:
    """The model of a folder with a fresh value head, frozen and adapted as configured."""
    backbone = load_backbone(folder, config.dtype)
    backbone.requires_grad_(True)
    _freeze(backbone, config.freeze)
    if config.lora.rank:
        torch.manual_seed(config.seed)
        _add_lora(backbone, config.lora)
        if config.deepspeed.zero_stage == 3 and not isinstance(backbone.get_output_embeddings(), OutputLayer):
            # It is called once for every few tokens, and ranks would put its weights together unequally often.
            raise ModelError(
                f"learner.lora.target_modules={list(config.lora.target_modules)}: the output layer is among them; "
                "learner.deepspeed.zero_stage=3 cannot share it, so leave it out, or take zero_stage=2"
            )
    torch.manual_seed(config.seed)
    policy = PolicyModel(backbone, config.value_head, chat)
    policy.value_head.to(backbone.dtype)
    policy.keeps_pictures = config.keeps_pictures
    if config.deepspeed.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
        # Transformers asks for gradients of all embeddings too, which another way of checkpointing needs: with this one
        # a frozen vision tower would go backwards for nothing.
        backbone.disable_input_require_grads()
    return policy.train()


def size_of(policy: PolicyModel, *, recomputes: bool) -> ModelSize:
    """Counted in the policy as it is, before ranks share it."""
    backbone: Any = policy.backbone
    output = backbone.get_output_embeddings().weight
    weights = [
        Weight(
            name=name,
            shape=tuple(parameter.shape),
            learns=parameter.requires_grad,
            is_looked_up=is_looked_up(name)
            or isinstance(backbone.get_submodule(name.rpartition(".")[0]), nn.Embedding),
            is_output=parameter is output,
        )
        for name, parameter in backbone.named_parameters()
    ]
    return model_size(
        weights, policy.critic_widths, critic_reaches_model=not policy.stops_gradient, recomputes=recomputes
    )


def load_backbone(folder: Path, dtype: str) -> PreTrainedModel:
    """The model of a folder, with the fastest exact attention there is here."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    model_config = AutoConfig.from_pretrained(folder)
    has_eyes = getattr(model_config, "vision_config", None) is not None
    use_flash = torch.cuda.is_available() and is_flash_attn_2_available() and dtype == "bfloat16"
    backbone = (AutoModelForImageTextToText if has_eyes else AutoModelForCausalLM).from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
    )
    _check_output_layer(backbone)
    if use_flash:
        # Not before: the check runs where the model is loaded, and flash-attention on GPUs alone.
        backbone.set_attn_implementation("flash_attention_2")
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


class _PreciseLinear(nn.Linear):
    """Computes in float32 also where the model does not: returns are told apart by less than bfloat16 can."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.linear(input.float(), self.weight.float(), self.bias.float())


def _value_head(width: int, hidden_sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for hidden_size in hidden_sizes:
        layers += [_PreciseLinear(width, hidden_size), nn.ReLU()]
        width = hidden_size
    last = _PreciseLinear(width, 1)
    # The first estimate is zero everywhere: no worse than any other, and it moves the shared model nowhere by accident.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def _freeze(backbone: PreTrainedModel, parts: Sequence[str]) -> None:
    for part in parts:
        found = [parameter for name, parameter in backbone.named_parameters() if part_of(name) == part]
        if not found:
            raise ModelError(f"learner.freeze: {type(backbone).__name__} has no {part}; leave it out")
        for parameter in found:
            parameter.requires_grad_(False)


def _add_lora(backbone: PreTrainedModel, lora: LoraConfig) -> None:
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
