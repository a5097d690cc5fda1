"""The options of the learner section.

learner:
  preset: paper          # turn-level credit and one ratio for each answer; or `token`, the default
  loss: {clip: 0.2}      # what is written beside the preset goes before it
  advantage: {kind: grpo}  # stands for its paper's normalisation and mean too, unless they are written beside it
"""

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from learner.loss_config import AdvantageConfig, DistillationConfig, LossConfig, Options, ScheduleConfig, SftConfig

PRESETS: dict[str, dict[str, Any]] = {
    "token": {},
    "paper": {
        "epochs": 4,
        "minibatches": 2,
        "advantage": {"kind": "turn", "turn_gamma": 0.9, "turn_lambda": 0.95, "normalise": "mean_std"},
        "loss": {"ratio": "answer", "reasoning_weight": 0.5, "clip": 0.1, "value_clip": 0.1, "value_coefficient": 0.5},
        "value_head": {"hidden_sizes": (1024, 512)},
    },
}
KINDS: dict[str, dict[str, Any]] = {
    "grpo": {"advantage": {"normalise": "none"}, "loss": {"aggregate": "sequence_mean"}},
    "dr_grpo": {"advantage": {"normalise": "none"}, "loss": {"aggregate": "constant"}},
    "rloo": {"advantage": {"normalise": "none"}, "loss": {"aggregate": "constant"}},
}
"""What `advantage.kind` stands for beside the advantage itself: the algorithm of its paper."""
CHECKPOINT_OPTIONS = {
    "num_ranks": "learner.num_ranks",
    "zero_stage": "learner.deepspeed.zero_stage",
    "dtype": "learner.dtype",
}
"""What a run must go on with as it began, since its checkpoints are laid out so: in the layout → the option."""


class LoraConfig(Options):
    """Train low-rank additions to the linear layers instead of the layers themselves."""

    rank: int = Field(default=0, ge=0)
    """The rank of the additions; 0 trains the model itself."""
    alpha: int = Field(default=32, gt=0)
    """Scale of the additions, divided by the rank."""
    target_modules: tuple[str, ...] = ()
    """Names of the layers that get one; empty for all linear layers but the output layer."""


class ValueHeadConfig(Options):
    """The critic: a small network on the policy's last hidden states."""

    hidden_sizes: tuple[int, ...] = ()
    """Widths of its hidden layers; empty for one linear layer."""
    stop_gradient: bool = False
    """Whether the value loss trains the head alone and leaves the shared model as it is."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Its highest learning rate, which rises and falls as the model's does; the model's own where not set. A fresh
    head needs far more than a model: at 1e-6 it hardly learns."""
    warmup_updates: int = Field(default=0, ge=0)
    """In so many updates at the beginning it learns alone, and the policy stays as it is."""


class OptimizerConfig(Options):
    """AdamW, its learning rate over time and the limit on the gradient's norm."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """The highest learning rate."""
    part_learning_rates: dict[Literal["vision_tower", "projector", "language_model"], PositiveFloat] = Field(
        default_factory=dict
    )
    """Those of parts of the model that have another."""
    end_learning_rate: float = Field(default=0.0, ge=0)
    """What the schedule falls to."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls from the end of the warm-up to `total_steps`."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate rises linearly from zero."""
    total_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps until the schedule has reached its end; needed unless the schedule is constant."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of the running means of the gradient and of its square."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pulls weights towards zero, apart from the gradient."""
    pull_to_start: float = Field(default=0.0, ge=0)
    """Pulls weights towards where they began, as weight decay does towards zero: half the squared distance, times
    this, added to any loss and kept out of AdamW's means."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """A longer gradient is scaled down to this norm."""

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> Self:
        if self.schedule != "constant" and self.total_steps is None:
            raise ValueError(f"schedule {self.schedule} needs total_steps, the optimizer step at which it ends")
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} leaves nothing of total_steps={self.total_steps}")
        return self


class DeepSpeedConfig(Options):
    """How the learner's ranks share a model."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What is spread over the ranks: nothing, the optimizer's state, gradients too, weights too."""
    offload_optimizer: bool = False
    """Whether the optimizer's state lives in host memory."""
    gradient_checkpointing: bool = False
    """Whether activations are computed twice instead of kept."""

    def real_stage(self, dtype: str) -> int:
        """The stage at which DeepSpeed runs: below 2 it would add up micro-batches in bfloat16."""
        return max(self.zero_stage, 2) if dtype == "bfloat16" else self.zero_stage


class LearnerConfig(Options):
    """How a policy learns from episodes."""

    preset: Literal["token", "paper"] = "token"
    """Which defaults apply: `paper` has one advantage and one ratio for each answer, four epochs and a clip of 0.1."""
    model: str | None = None
    """Folder of the initial policy, as `save_pretrained` writes it, with its tokenizer."""
    num_ranks: int = Field(default=1, ge=1)
    """How many processes learn together, each with a device of its own where there are GPUs."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The precision of the model; CPUs want float32, GPUs bfloat16."""
    freeze: tuple[Literal["vision_tower", "projector", "language_model"], ...] = ()
    """Parts of the model that stay as they are."""
    lora: LoraConfig = LoraConfig()
    """Low-rank training."""
    value_head: ValueHeadConfig = ValueHeadConfig()
    """The critic."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Steps and their size."""
    advantage: AdvantageConfig = AdvantageConfig()
    """Credit."""
    loss: LossConfig = LossConfig()
    """Reinforcement."""
    sft: SftConfig = SftConfig()
    """Imitation."""
    imitate_successes: bool = False
    """Rejection sampling: of what is played, the right answers are imitated like demonstrations, each in its dialogue,
    and nothing is learned from the others."""
    distillation: DistillationConfig = DistillationConfig()
    """Learning from a teacher on what is played."""
    rl_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss on played episodes, where there are any."""
    rl_schedule: ScheduleConfig = ScheduleConfig()
    """How that weight changes."""
    sft_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss on demonstrations, where there are any."""
    sft_schedule: ScheduleConfig = ScheduleConfig()
    """How that weight changes."""
    epochs: int = Field(default=1, ge=1)
    """How often an update goes through its episodes."""
    minibatches: int = Field(default=1, ge=1)
    """Into how many optimizer steps an epoch is cut."""
    pulls_every: int = Field(default=0, ge=0)
    """Every so many updates, how hard each loss pulls is told: the norm of its gradient at the model's last states.
    It costs about the output layer's way back for each; 0 for never."""
    old_logprobs: Literal["learner", "rollout"] = "learner"
    """What the ratio compares with: the learner's own log-probabilities before the update, or those recorded while
    sampling, which saves a forward pass where no critic needs one."""
    micro_batch_tokens: int = Field(default=8192, ge=16)
    """The most tokens, padding included, that go through the model at once on one rank."""
    layout: Literal["auto", "packed", "padded"] = "auto"
    """How sequences share a micro-batch: all in one row, or one to a row with padding behind. `auto`: packed, but for
    a model whose attention cannot be told where sequences begin."""
    kernels: Literal["torch", "liger"] = "torch"
    """Of norms, rotations and feed-forward layers: PyTorch's, or on GPUs those of the package liger-kernel, whose
    states of words are checked against the model's own when it is loaded."""
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    """Sharing the model between ranks."""
    rests: bool = False
    """Whether what only a step needs waits in host memory while rollouts play on the same GPUs: room for keys and
    values, for some seconds in each iteration."""
    seed: int = 0
    """Of the order of episodes and of the value head's first weights."""

    @property
    def gates(self) -> set[str]:
        """What gates go by."""
        return {gate.by for gate in (self.rl_schedule.gate, self.sft_schedule.gate) if gate.is_set}

    def looks_for_logprobs(self, num_steps: int) -> bool:
        """Whether a forward pass before so many steps an epoch has to say what the policy is before them."""
        if self.loss.reward_kl.coefficient or self.advantage.kind == "dpo":
            return True
        return self.old_logprobs == "learner" and num_steps * self.epochs > 1

    def looks(self, num_steps: int) -> bool:
        """Whether anything has to be said of what was played before the first of so many steps an epoch."""
        return self.looks_for_logprobs(num_steps) or self.advantage.needs_values or self.asks_the_start

    @property
    def asks_again(self) -> bool:
        """Whether the same is asked of the policy more than once in an update."""
        return self.epochs > 1 or self.looks_for_logprobs(self.minibatches) or self.advantage.needs_values

    @property
    def frozen_parts(self) -> set[str]:
        """In which nothing learns, whatever the layers are called that low-rank training is told to add to."""
        if self.lora.rank:
            return set() if self.lora.target_modules else {"vision_tower", "projector"}
        return set(self.freeze)

    @property
    def keeps_pictures(self) -> bool:
        """Whether what tower and projector say of a picture is kept through an update, since neither learns."""
        return self.asks_again and {"vision_tower", "projector"} <= self.frozen_parts

    @property
    def asks_the_start(self) -> bool:
        """Whether played tokens are held against the initial policy before the first step."""
        return bool(self.loss.kl_coefficient or self.loss.reward_kl.coefficient) or self.advantage.kind == "dpo"

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.distillation.teacher and self.sft.kl_coefficient:
            raise ValueError("distillation.teacher and sft.kl_coefficient exclude each other; set one of them")
        if self.advantage.kind == "dpo" and self.epochs * self.minibatches > 1:
            raise ValueError(
                "advantage.kind=dpo makes one step of an update, behind which its weights are other ones; leave epochs "
                "and minibatches at 1"
            )
        if self.pulls_every and self.deepspeed.zero_stage == 3:
            raise ValueError(
                f"pulls_every={self.pulls_every}: at deepspeed.zero_stage=3 a layer's weights are put together for one "
                "way back, and each loss would need its own; set zero_stage to 2, or leave pulls_every out"
            )
        if self.distillation.teacher and self.imitate_successes:
            raise ValueError("distillation.teacher and imitate_successes exclude each other; set one of them")
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = _beside(PRESETS.get(str(given.get("preset", "token")), {}), given)
        credit = given.get("advantage")
        return _beside(KINDS.get(str(credit.get("kind")), {}) if isinstance(credit, dict) else {}, given)


def _beside(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The given options, and the preset's where nothing was given."""
    merged = {**preset, **given}
    for name, options in preset.items():
        if isinstance(options, dict) and isinstance(given.get(name), dict):
            merged[name] = {**options, **given[name]}
    return merged
