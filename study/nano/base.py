"""Makes a nano base model: a Llama or Idefics3 of a million parameters that has learned environments from lessons.

    ruleshift base configs/nano/bases/gp_l.yaml models/nano_gp_l

    recipe ─▶ lessons ─▶ tokens ─▶ micro-batches ─▶ Muon and AdamW ─▶ a Hugging Face folder

Nothing here goes by the clock: steps, schedules and lessons are counted and seeded, so that a loaded machine takes
longer and makes the same model. Two recipes differ in their file alone.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, set_seed
from transformers.utils import logging

from envs.lessons import DialogueTeacher, Lesson
from learner.batch import ModelInput, micro_batches
from study.nano.lessons import Learned, lesson_row
from study.nano.model import NanoModel, new_model
from study.nano.recipe import BaseRecipe, Stage

STEPS_BETWEEN_LINES = 50
_MUON_TO_ADAMW = 5.0
"""Muon's steps are of one size in every direction, AdamW's in every entry."""


def make_base(recipe: BaseRecipe, out: Path, show: Callable[[str], Any] = print) -> None:
    """Train the model of the recipe and write it, with its tokenizer, into the folder `out`."""
    logging.disable_progress_bar()
    # Told now where it cannot be, and not after a quarter of an hour.
    out.mkdir(parents=True, exist_ok=True)
    teachers = [recipe.teachers(stage) for stage in recipe.stages]
    set_seed(recipe.seed)
    nano = new_model(recipe, [teacher for of_stage in teachers for teacher in of_stage])
    show(f"{nano.model.num_parameters() / 1e6:.2f} million parameters, {len(nano.chat.tokenizer)} tokens")
    with _one_thread():
        for number, (stage, of_stage) in enumerate(zip(recipe.stages, teachers, strict=True)):
            _train(nano, recipe, stage, number, of_stage, show)
    nano.save(out, recipe.saved_as)
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


def _train(
    nano: NanoModel,
    recipe: BaseRecipe,
    stage: Stage,
    number: int,
    teachers: list[DialogueTeacher],
    show: Callable[[str], Any],
) -> None:
    """One stage of the curriculum."""
    optimizers = _optimizers(nano.model, recipe.weight_decay)
    started, num_tokens, losses = time.monotonic(), 0, []
    for step in range(stage.steps):
        seeds = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        lessons = [_lesson(teachers, f"{recipe.seed}/{number}/{seed}") for seed in seeds]
        inputs = _model_inputs(lessons, nano, stage.learn)
        losses.append(_accumulate(nano, inputs, recipe.micro_batch_tokens))
        num_tokens += sum(each.num_tokens for each in inputs)
        torch.nn.utils.clip_grad_norm_(nano.model.parameters(), 1.0)
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


def _lesson(teachers: list[DialogueTeacher], seed: str) -> Lesson:
    """One teacher's, each as often as its weight says."""
    weights = [teacher.options.weight for teacher in teachers]
    (teacher,) = Random(f"teacher/{seed}").choices(teachers, weights)
    return teacher.lesson(seed)


def _optimizers(model: PreTrainedModel, weight_decay: float) -> list[tuple[torch.optim.Optimizer, float]]:
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


def _model_inputs(lessons: list[Lesson], nano: NanoModel, learned: Learned) -> list[ModelInput]:
    inputs, num_learned = [], 0
    for lesson in lessons:
        row = lesson_row(lesson, nano.chat, learned)
        inputs.append(nano.family.expanded(row.token_ids, row.is_learned, row.images, num_learned))
        num_learned += len(inputs[-1].sampled_at)
    return inputs


def _accumulate(nano: NanoModel, inputs: list[ModelInput], max_tokens: int) -> float:
    """Add the gradient of the mean loss over all learned tokens; that loss."""
    model: Any = nano.model
    num_learned = sum(len(each.sampled_at) for each in inputs)
    total = 0.0
    for batch in micro_batches(inputs, max_tokens=max_tokens, layout="padded", family=nano.family):
        hidden = nano.family.hidden_states(model, batch.token_ids, batch.inputs)
        # The output layer runs only where something was learned.
        logits = model.lm_head(hidden.flatten(0, 1)[batch.sampled_at - 1])
        loss = cross_entropy(logits, batch.token_ids.flatten()[batch.sampled_at], reduction="sum") / num_learned
        loss.backward()
        total += loss.item()
    return total
