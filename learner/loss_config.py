"""The options of what is learned from episodes and demonstrations: credit, losses, imitation."""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """Frozen, and nothing that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class AdvantageConfig(Options):
    """How much better than expected each sampled token was."""

    kind: Literal["token", "turn", "bi_level", "grpo", "dr_grpo", "rloo", "reinforce", "dpo"] = "bi_level"
    """`token`: generalised advantage estimation over sampled tokens. `turn`: over whole answers, as the paper does.
    `bi_level`: over answers, then over the tokens of each answer. `grpo`, `dr_grpo`, `rloo`: against the other
    samples of the same task, without a critic. `reinforce`: discounted return against the batch's mean. `dpo`: no
    credit, but preference: of a failed answer and the right one that came later in the same dialogue, the right one."""
    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount from one sampled token to the next."""
    lambda_: float = Field(default=0.95, ge=0, le=1, alias="lambda")
    """Weight of later tokens' surprises."""
    turn_gamma: float = Field(default=0.9, ge=0, le=1)
    """Discount from one answer to the next."""
    turn_lambda: float = Field(default=0.95, ge=0, le=1)
    """Weight of later answers' surprises."""
    normalise: Literal["none", "std", "mean_std"] = "std"
    """Over all sampled tokens of an update, or with `turn` over all answers: divide by the standard deviation, and with
    `mean_std` also centre. `grpo`, `dr_grpo` and `rloo` have `none` unless told otherwise, as their papers do."""

    flat_groups: Literal["keep", "drop", "redraw"] = "keep"
    """With samples of one task that all earned the same, and so teach nothing: learn from them like from others, or
    leave them out before anything is computed, or play other tasks for them beforehand."""
    redraws: int = Field(default=3, ge=1)
    """With `redraw`, how often; what is flat after that is left out."""

    @property
    def num_redraws(self) -> int:
        """How often other tasks are played, at most."""
        return self.redraws if self.flat_groups == "redraw" else 0

    @property
    def needs_values(self) -> bool:
        """Whether a critic is trained."""
        return self.kind in ("token", "turn", "bi_level")

    @property
    def needs_groups(self) -> bool:
        """Whether several samples of each task are needed."""
        return self.kind in ("grpo", "dr_grpo", "rloo")


class RewardKlConfig(Options):
    """The divergence from the initial policy as a part of the reward, token by token, as InstructGPT has it."""

    coefficient: float = Field(default=0.0, ge=0)
    """What a nat of it costs, in the beginning."""
    target: float | None = Field(default=None, gt=0)
    """How many nats an episode is to have; the coefficient rises above it and falls below. It stays where not set."""
    horizon: float = Field(default=10_000, gt=0)
    """In how many episodes, about, it adapts."""

    def adapted(self, coefficient: float, measured: float, num_episodes: int) -> float:
        """The coefficient behind so many episodes of so many nats each: by a fifth in a horizon at most."""
        if self.target is None:
            return coefficient
        error = min(max(measured / self.target - 1, -0.2), 0.2)
        return coefficient * (1 + error * num_episodes / self.horizon)


class LossConfig(Options):
    """The policy's and the critic's loss."""

    ratio: Literal["token", "answer"] = "token"
    """Whether new and old policy are compared token by token or by the summed log-probability of the answer."""
    aggregate: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    """Of what the losses of single tokens, or answers, become one. `token_mean`: their mean over the whole step.
    `sequence_mean`: the mean over each episode's, and of these over episodes, as GRPO has it; the default of `grpo`.
    `constant`: each episode's sum, divided by `episode_length`, and the mean of these over episodes, as Dr. GRPO and
    RLOO have it; the default of `dr_grpo` and `rloo`."""
    episode_length: float = Field(default=1.0, gt=0)
    """What `aggregate: constant` divides by, whatever an episode's length is."""
    reasoning_weight: float = Field(default=1.0, ge=0)
    """With `ratio: answer`, the weight in the sum of what stands before the answer's action; the action's is 1."""
    clip: float = Field(default=0.2, gt=0)
    """How far below 1 the ratio may fall before it earns nothing more."""
    clip_high: float | None = Field(default=None, gt=0)
    """How far above 1 it may rise; as `clip` if not set."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bounds the loss of a bad token whose ratio has grown beyond this."""
    value_clip: float | None = Field(default=None, gt=0)
    """How far the critic may move from its old estimate before it earns nothing more."""
    value_coefficient: float = Field(default=0.5, ge=0)
    """Weight of the value loss, which is half the squared error."""
    entropy_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the bonus for the entropy of the distribution that is sampled from."""
    kl_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the reference policy, which is the initial one."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How the divergence is estimated at the sampled tokens. As a loss, k1 has no gradient on average; it is for
    comparison."""
    reward_kl: RewardKlConfig = RewardKlConfig()
    """The divergence from the initial policy as a part of the reward instead."""
    preference_beta: float = Field(default=0.1, gt=0)
    """With `dpo`, how soon a pair has moved far enough from the initial policy."""
    target_kl: float | None = Field(default=None, gt=0)
    """An update ends behind a step that found the policy further than this from what it was before the update, by the
    mean of k3 over the step's tokens."""
    importance_cap: float | None = Field(default=2.0, gt=0)
    """Weighs each token by old policy ÷ sampling policy, at most this; not at all if not set."""


class SftConfig(Options):
    """The loss on demonstrations."""

    span_weights: dict[Literal["recognition", "reasoning", "action", "format"], float] = {}
    """Weight of a token by the part of the answer that it belongs to; 1 where not named."""
    weighting: Literal["none", "dft"] = "none"
    """`dft`: each token counts by how likely it is to the policy, as in dynamic fine-tuning (arXiv 2508.05629), so that
    what it finds unlikely pulls no harder than what it finds likely."""
    equal_span_mass: bool = False
    """Whether every part of an answer weighs the same, however many tokens it has."""
    kl_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the divergence of the trained model from the initial one, over all tokens that could have followed."""


class DistillationConfig(Options):
    """A teacher says of each played token what it would have drawn from."""

    teacher: str | None = None
    """Folder of a model with the policy's shape and tokenizer; `itself`, the policy as it is, told a `context`; in a
    study also the policy of another arm, as `policy:sft` or `policy:sft@20`."""
    context: str = ""
    """What the teacher is told before each dialogue's first question, and the policy is not, as the rule that holds."""
    coefficient: float = Field(default=1.0, gt=0)
    """Weight of the divergence of the policy from the teacher, over all tokens that could have been drawn; with
    `rl_weight: 0`, all that is learned from."""

    @property
    def other_model(self) -> str | None:
        """The folder of a teacher that is not the policy itself."""
        return None if self.teacher == "itself" else self.teacher

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if self.teacher == "itself" and not self.context:
            raise ValueError("teacher=itself knows what the policy knows; give it a context, as the rule that holds")
        if self.context and not self.teacher:
            raise ValueError(f"context={self.context!r} is told to nobody; set teacher=itself, or to a model's folder")
        return self


class GateConfig(Options):
    """In which updates a weight counts at all; in every one where neither bound is set."""

    by: Literal["success", "entropy"] = "success"
    """`success`: the share of all episodes of the iteration that ended right. `entropy`: of what they drew, in nats a
    token, as the mean of -log p."""
    below: float | None = None
    """Where it is less than this."""
    above: float | None = None
    """Where it is more than this."""

    @property
    def is_set(self) -> bool:
        """Whether it is ever shut."""
        return self.below is not None or self.above is not None

    def is_open(self, measured: float | None) -> bool:
        """For what was measured; None where there was nothing to measure."""
        if measured is None:
            return True
        return (self.below is None or measured < self.below) and (self.above is None or measured > self.above)

    @model_validator(mode="after")
    def _is_open_somewhere(self) -> Self:
        if self.below is not None and self.above is not None and self.above >= self.below:
            raise ValueError(f"nothing is above={self.above} and below={self.below}; set above to less than below")
        return self


class ScheduleConfig(Options):
    """How a weight goes from what it is to `end`, and where it counts."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    """`constant`: not at all."""
    updates: int = Field(default=1, ge=1)
    """In how many updates."""
    end: float = Field(default=0.0, ge=0)
    """To what."""
    gate: GateConfig = GateConfig()
    """Where it counts."""

    def at(self, weight: float, update: int) -> float:
        """In an update, the first of which is 0."""
        if self.kind == "constant":
            return weight
        done = min(1.0, update / self.updates)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.end + (weight - self.end) * left
