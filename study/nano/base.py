"""Makes the nano base model: a Llama of 0.8 million parameters that has learned GeneralPoints from lessons.

    ruleshift base configs/nano/base.yaml models/nano_gp_l

    recipe ─▶ lessons ─▶ tokens ─▶ micro-batches ─▶ Muon and AdamW ─▶ a Hugging Face folder

Nothing here goes by the clock: steps, schedules and lessons are counted and seeded, so that a loaded machine takes
longer and makes the same model. Two recipes differ in their file alone.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, set_seed
from transformers.utils import logging

from cluster.errors import ConfigError
from envs._cards.lessons import Lesson, LessonConfig, Teacher
from envs.general_points import Config as GeneralPointsConfig
from learner.batch import ModelInput, micro_batches
from rollout.transcript import ChatTokens
from study.nano.lessons import lesson_row
from study.nano.tokenizer import build_nano_tokenizer

MICRO_BATCH_TOKENS = 2048
"""Small enough that short dialogues are not padded to the length of long ones."""

STEPS_BETWEEN_LINES = 50
_MUON_TO_ADAMW = 5.0
"""Muon's steps are of one size in every direction, AdamW's in every entry."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelShape(_Options):
    """The size of the model."""

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


class Stage(_Options):
    """A part of the curriculum."""

    lessons: LessonConfig = LessonConfig()
    """What is learned."""
    steps: int = Field(ge=1)
    """How many optimizer steps it takes."""
    learning_rate: float = Field(gt=0)
    """AdamW's highest learning rate; Muon's is five times as high. It falls linearly to a fiftieth."""
    warmup_steps: int = Field(default=50, ge=1)
    """Steps over which the learning rate rises."""


class BaseRecipe(_Options):
    """Everything that decides what the base model is."""

    env: GeneralPointsConfig
    """The ordinary game, with the splits that training runs and tests will use."""
    shape: ModelShape = ModelShape()
    """The size of the model."""
    stages: tuple[Stage, ...] = ()
    """The curriculum, in order; without one, the model stays random."""
    batch_size: int = Field(default=64, ge=1)
    """Lessons in one step."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of both optimizers."""
    seed: int = 0
    """Of the first weights and of the lessons."""


def load_recipe(file: Path) -> BaseRecipe:
    """The recipe in a YAML file; raises ConfigError with every fault."""
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; the recipe that models/nano_gp_l was made by is configs/nano/base.yaml"
        )
    try:
        return BaseRecipe.model_validate(OmegaConf.to_container(OmegaConf.load(file), resolve=True))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults)) from None


def make_base(recipe: BaseRecipe, out: Path, show: Callable[[str], Any] = print) -> None:
    """Train the model of the recipe and write it, with its tokenizer, into the folder `out`."""
    logging.disable_progress_bar()
    tokenizer: Any = build_nano_tokenizer()
    chat = ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])
    set_seed(recipe.seed)
    model = LlamaForCausalLM(_llama_config(recipe.shape, tokenizer))
    model.generation_config = GenerationConfig.from_model_config(model.config)
    show(f"{sum(weight.numel() for weight in model.model.layers.parameters()) / 1e6:.2f} million parameters in layers")
    with _one_thread():
        for number, stage in enumerate(recipe.stages):
            _train(model, recipe, stage, number, chat, show)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    show(f"{out}: the model and its tokenizer")


@contextmanager
def _one_thread() -> Iterator[None]:
    """The matrices are small: threads would wait for each other, and sums would depend on how many there are."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _llama_config(shape: ModelShape, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=shape.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _train(
    model: LlamaForCausalLM, recipe: BaseRecipe, stage: Stage, number: int, chat: ChatTokens, show: Callable[[str], Any]
) -> None:
    """One stage of the curriculum."""
    teacher = Teacher(stage.lessons, recipe.env)
    optimizers = _optimizers(model, recipe.weight_decay)
    started, num_tokens, losses = time.monotonic(), 0, []
    for step in range(stage.steps):
        seeds = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        inputs = _model_inputs([teacher.lesson(f"{recipe.seed}/{number}/{seed}") for seed in seeds], chat)
        losses.append(_accumulate(model, inputs))
        num_tokens += sum(each.num_tokens for each in inputs)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        learning_rate = stage.learning_rate * _schedule(step, stage)
        for optimizer, factor in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * factor
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % STEPS_BETWEEN_LINES == 0 or step + 1 == stage.steps:
            seconds = time.monotonic() - started
            recent = losses[-STEPS_BETWEEN_LINES:]
            show(
                f"stage {number + 1} of {len(recipe.stages)}, step {step + 1:5} of {stage.steps}   "
                f"loss {math.fsum(recent) / len(recent):.4f}   {num_tokens / seconds:6.0f} tokens/s   "
                f"{seconds / (step + 1) * (stage.steps - step - 1):4.0f} s left"
            )


def _optimizers(model: LlamaForCausalLM, weight_decay: float) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices inside the layers, AdamW for the rest; each with its share of the learning rate."""
    inside = [weight for name, weight in model.named_parameters() if ".layers." in name and weight.ndim == 2]
    ids = {id(weight) for weight in inside}
    rest = [weight for weight in model.parameters() if id(weight) not in ids]
    return [
        (torch.optim.Muon(inside, momentum=0.95, weight_decay=weight_decay), _MUON_TO_ADAMW),
        (torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=weight_decay), 1.0),
    ]


def _schedule(step: int, stage: Stage) -> float:
    """What share of the learning rate the step takes."""
    return min(1.0, (step + 1) / stage.warmup_steps) * (0.02 + 0.98 * (1 - step / stage.steps))


def _model_inputs(lessons: list[Lesson], chat: ChatTokens) -> list[ModelInput]:
    inputs, num_learned = [], 0
    for lesson in lessons:
        row = lesson_row(lesson, chat)
        learned_at = row.is_learned.nonzero()[0]
        inputs.append(
            ModelInput(token_ids=row.token_ids.astype("int64"), sampled_at=learned_at, first_number=num_learned)
        )
        num_learned += len(learned_at)
    return inputs


def _accumulate(model: LlamaForCausalLM, inputs: list[ModelInput]) -> float:
    """Add the gradient of the mean loss over all learned tokens; that loss."""
    num_learned = sum(len(each.sampled_at) for each in inputs)
    total = 0.0
    for batch in micro_batches(inputs, max_tokens=MICRO_BATCH_TOKENS, layout="padded"):
        hidden = model.model(input_ids=batch.token_ids, use_cache=False).last_hidden_state.flatten(0, 1)
        # The output layer runs only where an answer was learned.
        logits = model.lm_head(hidden[batch.sampled_at - 1])
        loss = cross_entropy(logits, batch.token_ids.flatten()[batch.sampled_at], reduction="sum") / num_learned
        loss.backward()
        total += loss.item()
    return total
