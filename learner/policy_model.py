"""The policy with its critic: any Hugging Face causal or image-text-to-text model, and a value head on its last states.

    load_policy(folder, config, chat)  →  PolicyModel
    size_of(policy)               →  ModelSize: what a token costs in each of its parts
    choose_layout(wanted, policy) →  how sequences share a micro-batch
    PolicyModel(micro_batch, …)   →  Predictions: what the loss needs, at sampled tokens alone

The output layer, which is most of a small model's work, runs only where a token was sampled. That this is the model's
own forward is checked when it is loaded.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from learner.backbone import ModelError, add_lora, freeze, load_backbone
from learner.batch import Layout, MicroBatch, micro_batch
from learner.config import LearnerConfig, ValueHeadConfig
from learner.drawing import Drawing
from learner.families import family_of
from learner.families.family import cast
from learner.kernels import is_rounding
from learner.model_size import ModelSize, Weight, model_size
from learner.packed_attention import UntoldPacking
from learner.parts import CRITIC, ParameterGroup, is_looked_up, part_of
from learner.token_scorer import Distributions, Mode, OutputLayer, distributions, score_tokens
from rollout.transcript import ChatTokens


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
        hidden = self.hidden_states(batch)
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
        hidden = self.hidden_states(batch)[batch.sampled_at - 1]
        return distributions(hidden, self.output_layer, self._drawing(is_drawn, temperature))

    @property
    def output_layer(self) -> nn.Module:
        """What makes logits of states."""
        return self.backbone.get_output_embeddings()  # pyright: ignore[reportReturnType]

    def _drawing(self, is_drawn: torch.Tensor, temperature: float) -> Drawing:
        return Drawing(is_drawn=is_drawn, temperature=temperature, forbidden_token_ids=self._forbidden)

    def hidden_states(self, batch: MicroBatch) -> torch.Tensor:
        """[B * R, width]"""
        inputs = cast(batch.inputs, self.backbone.dtype)
        if self.keeps_pictures and "pixel_values" in inputs and self not in batch.seen:
            with torch.no_grad():
                batch.seen[self] = self.family.seen(self.backbone, inputs)
        with batch.packing.told() if batch.packing else nullcontext({}) as beside:
            told = inputs | beside
            return self.family.hidden_states(self.backbone, batch.token_ids, told, batch.seen.get(self)).flatten(0, 1)


def load_policy(folder: Path, config: LearnerConfig, chat: ChatTokens) -> PolicyModel:
    """The model of a folder with a fresh value head, frozen and adapted as configured."""
    backbone = load_backbone(folder, config)
    backbone.requires_grad_(True)
    freeze(backbone, config.freeze)
    if config.lora.rank:
        torch.manual_seed(config.seed)
        add_lora(backbone, config.lora)
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


@torch.no_grad()
def choose_layout(wanted: Literal["auto", "packed", "padded"], policy: PolicyModel) -> Layout:
    """What `learner.layout` asks for, if the policy says the same of two sequences in one row as of each alone."""
    if wanted == "padded":
        return "padded"
    family = policy.family
    rows = [each for each in (family.filler(), family.words("one two three"), family.words("four")) if each]

    def states(batch: MicroBatch) -> torch.Tensor:
        return policy.hidden_states(batch.to(next(policy.parameters()).device))

    alone = torch.cat([states(micro_batch([[row]], "padded", family=family)) for row in rows])
    try:
        gap = states(micro_batch([rows], "packed", family=family)) - alone
        problem = "" if is_rounding(gap, alone) else f"states differ by {float(gap.abs().max()):.3g}"
    except UntoldPacking as error:
        problem = str(error)
    if problem and wanted == "packed":
        raise ModelError(
            f"learner.layout=packed: several sequences to a row are not told apart in {type(policy.backbone).__name__} "
            f"({problem}); set it to padded, or to auto"
        )
    return "padded" if problem else "packed"


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
