"""The proof that an engine plays the policy that the learner has: both score the same few prompts.

    make_probe          the prompts, one with a picture where the model has eyes
    expected_logprobs   their log-probabilities by the learner's module
    ProbeExpectation    both, for `VllmEngine.verify`
    largest_gap         the comparison

Every tensor that touches any of these tokens shows: all layers, the whole output layer (through the softmax), the
vision tower. What does not show is a single row of the embedding whose token the probe happens not to contain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from rollout.engine import Prompt

PROBE_SEED = 20_24
PICTURE_SIDE = 64

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""The largest gap between equal weights, by the engine's dtype, as `largest_gap` measures it.

Two implementations add in different orders, which costs about 1e-6 nats in float32 and 5e-3 in bfloat16 on models of
a few layers; the rest is room for deep ones. Logits are rounded in proportion to their size, and some of a probe's
tokens are very unlikely: a small trained model was 0.09 nats off at one of them in bfloat16. A stale or swapped tensor
is off by tenths of a nat everywhere.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeExpectation:
    """What an engine has to answer: `ProbeExpectation(prompts=[Prompt(token_ids=[1, 7, 9])], logprobs=[[-2.1, -0.4]],
    version=3, tolerance=1e-4)`."""

    prompts: Sequence[Prompt]
    """What is scored."""
    logprobs: Sequence[Sequence[float]]
    """Of every token but the first, pictures left out, as `RolloutEngine.score` gives them."""
    version: int
    """Which policy version the log-probabilities are of."""
    tolerance: float
    """The largest gap at which the weights count as equal; see `TOLERANCES`."""
    digest: int | None = None
    """Of all weights together, where the engine holds them bit for bit (rollout/weight_digest.py)."""


def make_probe(
    vocab_size: int,
    *,
    forbidden_token_ids: Sequence[int] = (),
    picture_token_id: int | None = None,
    num_prompts: int = 4,
    num_tokens: int = 32,
) -> tuple[Prompt, ...]:
    """The same pseudo-random prompts in every run; with a `picture_token_id`, the first one shows a picture."""
    random = Random(PROBE_SEED)
    avoided = {*forbidden_token_ids, picture_token_id}
    allowed = [token for token in range(vocab_size) if token not in avoided]
    prompts = [Prompt(token_ids=random.choices(allowed, k=num_tokens)) for _ in range(num_prompts)]
    if picture_token_id is not None:
        token_ids = prompts[0].token_ids
        at = num_tokens // 4
        seen = [*token_ids[:at], picture_token_id, *token_ids[at:]]
        prompts[0] = Prompt(token_ids=seen, images=(_picture(),))
    return tuple(prompts)


def _picture() -> Image.Image:
    """Coloured noise."""
    pixels = np.random.default_rng(PROBE_SEED).integers(0, 256, (PICTURE_SIDE, PICTURE_SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@torch.no_grad()
def expected_logprobs(module: torch.nn.Module, prompts: Sequence[Prompt], processor: Any = None) -> list[list[float]]:
    """What `RolloutEngine.score` should give, by a plain forward of a Hugging Face module.

    `processor` is the model's own; only prompts with pictures need it.
    """
    device = next(module.parameters()).device
    scores = []
    for prompt in prompts:
        token_ids, is_own, inputs = expand_pictures(prompt, processor)
        row = torch.tensor([token_ids], device=device)
        logits = module(input_ids=row, **{name: value.to(device) for name, value in inputs.items()}).logits[0]
        logprobs = logits[:-1].float().log_softmax(dim=-1)
        of_tokens = logprobs.gather(1, row[0, 1:, None])[:, 0].tolist()
        scores.append([logprob for logprob, own in zip(of_tokens, is_own[1:], strict=True) if own])
    return scores


def expand_pictures(prompt: Prompt, processor: Any) -> tuple[list[int], list[bool], dict[str, torch.Tensor]]:
    """The tokens that the model really sees, which of them stand in the prompt itself, and the pictures as tensors."""
    if not prompt.images:
        return prompt.token_ids, [True] * len(prompt.token_ids), {}
    expansions = iter([_run(processor, (image,))["input_ids"][0].tolist() for image in prompt.images])
    token_ids: list[int] = []
    is_own: list[bool] = []
    for token_id in prompt.token_ids:
        is_picture = token_id == processor.image_token_id
        added = next(expansions) if is_picture else [token_id]
        token_ids += added
        is_own += [not is_picture] * len(added)
    made = _run(processor, prompt.images)
    inputs = {name: value for name, value in made.items() if name not in ("input_ids", "attention_mask")}
    # The processor has told pictures from words in its own text, and here they stand in another.
    for name in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[name] = torch.tensor([token_ids]).eq(processor.image_token_id).to(inputs[name].dtype)
    return token_ids, is_own, inputs


def _run(processor: Any, images: Sequence[Image.Image]) -> Any:
    text = processor.image_token * len(images)
    return processor(text=text, images=list(images), add_special_tokens=False, return_tensors="pt")


def largest_gap(measured: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest difference, in nats, or in shares of the expected log-probability where that is beyond one nat.

    Infinite where the two do not even have the same shape, or hold a NaN.
    """
    if [len(row) for row in measured] != [len(row) for row in expected]:
        return float("inf")
    wanted = np.concatenate([*expected, [0.0]])
    gap = (np.abs(np.concatenate([*measured, [0.0]]) - wanted) / np.maximum(1.0, np.abs(wanted))).max()
    return float("inf") if np.isnan(gap) else float(gap)
