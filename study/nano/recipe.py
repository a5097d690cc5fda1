"""A recipe: everything that decides what a nano base model is, as a YAML file says it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.config import overrides_in
from cluster.errors import ConfigError
from envs.lessons import DialogueTeacher, load_teacher
from envs.protocol import EnvError
from study.nano.lessons import Learned


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelShape(_Options):
    """The size of a Llama."""

    hidden_size: int = Field(default=128, ge=8)
    """Width."""
    intermediate_size: int = Field(default=352, ge=8)
    """Width inside the feed-forward layers."""
    num_layers: int = Field(default=4, ge=1)
    """Depth."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""
    max_positions: int = Field(default=512, ge=64)
    """The longest dialogue that the model is made for, in tokens."""
    rope_theta: float = Field(default=1000.0, gt=0)
    """The base of the rotary positions; small, since dialogues are short."""


class Eyes(_Options):
    """A vision tower and its connector: with them the model is an Idefics3."""

    image_size: int = Field(default=112, ge=28)
    """Side of a picture in pixels; other pictures are made as large."""
    patch_size: int = Field(default=14, ge=4)
    """Side of a patch in pixels."""
    patches_per_token_side: int = Field(default=2, ge=1)
    """A token of the language model stands for a square of so many patches across."""
    hidden_size: int = Field(default=64, ge=8)
    """Width of the tower."""
    intermediate_size: int = Field(default=192, ge=8)
    """Width inside its feed-forward layers."""
    num_layers: int = Field(default=2, ge=1)
    """Its depth."""
    num_heads: int = Field(default=4, ge=1)
    """Its attention heads."""

    @property
    def tokens_per_picture(self) -> int:
        """How many tokens of the language model a picture is."""
        return (self.image_size // self.patch_size // self.patches_per_token_side) ** 2

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.image_size % (self.patch_size * self.patches_per_token_side):
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of patch_size x patches_per_token_side = "
                f"{self.patch_size * self.patches_per_token_side}"
            )
        return self


class Stage(_Options):
    """A part of the curriculum."""

    lessons: dict[str, dict[str, Any]] = Field(min_length=1)
    """What is learned: for each environment, by its name among `environments`, the options of its lessons."""
    learn: Learned = "answers"
    """`answers`: how to answer. `documents`: also what is asked, pictures excepted; a record of past actions in a
    question is worth as many answers."""
    steps: int = Field(ge=1)
    """How many optimizer steps it takes."""
    learning_rate: float = Field(gt=0)
    """AdamW's highest learning rate; Muon's is five times as high. It falls linearly to a fiftieth."""
    warmup_steps: int = Field(default=50, ge=1)
    """Steps over which the learning rate rises."""


class BaseRecipe(_Options):
    """Everything that decides what the base model is."""

    environments: dict[str, dict[str, Any]] = {}
    """The ordinary tasks, by any name, with the splits that training runs and tests will use."""
    shape: ModelShape = ModelShape()
    """The size of the language model; of one that grows from another, that is the other's."""
    grows_from: Path | None = None
    """A folder with a nano Llama, whose weights and tokens are kept, and to which eyes and words are added."""
    eyes: Eyes | None = None
    """The vision tower of a model that sees pictures."""
    tokens_of: Literal["lessons", "built_in"] = "lessons"
    """What the tokenizer's phrases are cut out of: what the lessons say, or all built-in environments in words."""
    stages: tuple[Stage, ...] = ()
    """The curriculum, in order; without one, the model stays random."""
    batch_size: int = Field(default=64, ge=1)
    """Lessons in one step."""
    micro_batch_tokens: int = Field(default=2048, ge=128)
    """How many tokens go through the model at once: few, so that short dialogues are not padded to the longest."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of both optimizers."""
    seed: int = 0
    """Of the first weights and of the lessons."""
    saved_as: Literal["float32", "float16"] = "float32"
    """How the weights are kept; they are read as float32 either way."""

    @model_validator(mode="after")
    def _lessons_are_of_environments(self) -> Self:
        for number, stage in enumerate(self.stages):
            if unknown := set(stage.lessons) - set(self.environments):
                raise ValueError(
                    f"stages.{number}.lessons.{min(unknown)}: no such environment; there are "
                    f"{', '.join(self.environments) or 'none'}"
                )
            self.teachers(stage)
        return self

    def teachers(self, stage: Stage) -> list[DialogueTeacher]:
        """Who teaches in a stage."""
        return [_teacher(name, self.environments[name], options) for name, options in stage.lessons.items()]


def _teacher(name: str, env: dict[str, Any], options: dict[str, Any]) -> DialogueTeacher:
    try:
        return load_teacher(env, options)
    except (ValidationError, EnvError) as error:
        raise ValueError(f"{name}: {error}") from None


def load_recipe(file: Path, overrides: Sequence[str] = ()) -> BaseRecipe:
    """The recipe in a YAML file, with what `key=value` sets in it; raises ConfigError with every fault."""
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; the recipe that models/nano_gp_l was made by is configs/nano/bases/gp_l.yaml"
        )
    if unreadable := [word for word in overrides if "=" not in word]:
        raise ConfigError(f"{unreadable[0]}: an override is written key=value, as in shape.hidden_size=64")
    try:
        written = OmegaConf.merge(OmegaConf.load(file), overrides_in(overrides))
    except TypeError:
        raise ConfigError(
            f"{file}: one of {' '.join(overrides)} sets options where a list stands, as of stages; write another recipe"
        ) from None
    try:
        return BaseRecipe.model_validate(OmegaConf.to_container(written, resolve=True))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults)) from None
