"""The options of the compare section."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cluster.options import flat, without_nulls
from cluster.question_options import QuestionConfig

INIT = "init"
"""What arms start from, unless they name another."""


class ArmConfig(BaseModel):
    """One way of training: a command, and what it does otherwise than the rest of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    command: Literal["sft", "rl"]
    """Whether it imitates or plays."""
    start: str | None = None
    """What it starts from: `init`, another arm, or what either was behind an iteration, as in `init@20`. Without it,
    from init, or from `learner.model` where there is none."""
    options: dict[str, Any] = {}
    """Sections and options that differ, as in `{learner: {optimizer: {learning_rate: 1.0e-4}}}`."""
    dose: Literal["chosen", "paper", "both"] | None = None
    """What its learning rate stands for: the one that validation has `chosen`, that of the `paper`, or `both`. Reports
    tell them apart; nothing else changes."""


class CompareConfig(BaseModel):
    """What is trained side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    init: ArmConfig | None = None
    """What every arm starts from, made for each seed; without it, they start from `learner.model`."""
    arms: dict[str, ArmConfig] = {}
    """The ways of training, by name; one that is null is left out."""
    sweep: dict[str, tuple[Any, ...]] = {}
    """Values to try of any options, as in `{learner.optimizer.learning_rate: [1.0e-4, 1.0e-3]}`: every arm is made with
    every combination. Keys under `init.` vary what the arms start from, as in `{init.cluster.iterations: [10, 20]}`;
    `start` tries policies of one init, as in `{start: [init@10, init@20]}`."""
    seeds: tuple[int, ...] = (0,)
    """Each is a repetition of everything, with other draws, other orders and other tasks."""
    budget: float | None = Field(default=None, gt=0)
    """How much compute each arm has, the making of its start not included."""
    ledger: Literal["compute/flops", "compute/paper_flops", "compute/trained_tokens"] = "compute/flops"
    """In which account."""
    until: dict[str, float] = {}
    """Matched success beside matched compute: each arm ends with the first evaluation in which these measures are so
    high, as in `{validation/success: 0.8}`, whatever is left of its budget."""
    evaluations: int = Field(default=4, ge=1)
    """How often each arm is measured, at equal shares of the budget."""
    temperatures: tuple[float, ...] = ()
    """At which further temperatures the start and the end of each arm are measured: what sharper draws alone give."""
    select: str | None = None
    """By which suite, and by which of its measures, the best of the runs that differ in their optimizer or in what is
    swept is chosen, as in `validation/success`; without a measure, by success. The suite is of the validation split,
    under the rule and the look of training."""
    question: QuestionConfig | None = None
    """What the study asks, where it is one of those that `ruleshift questions` lists."""
    side_by_side: int | None = Field(default=None, ge=1)
    """How many runs are made at the same time; without it, as many as the cluster has room for."""

    @field_validator("arms", mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """An arm that a later file sets to null is left out."""
        return without_nulls(given)

    @field_validator("sweep", mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        """Keys may be written with dots, or one inside the other as `key=value` in a command makes them."""
        return dict(flat(given)) if isinstance(given, dict) else given
