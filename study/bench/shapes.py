"""Random models as wide as public ones, as deep as there is room for, and dialogues for them to learn from.

    write_shape(name, folder, room)    a model of one of the SHAPES in a folder, cut to so many bytes   →  Shape
    dialogues(chat, count)             with a picture each where the model has eyes                     →  episodes

No width is cut, nor the vocabulary: what an update costs a token and a layer is as in the whole model.
"""

import io
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging

from cluster.planning.architecture import KNOWN
from rollout.episode import Episode
from rollout.transcript import ChatTokens
from study.bench.made_up import made_up
from study.nano.tokenizer import CHAT_TEMPLATE, build_nano_tokenizer

TINY = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 152_064,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
    "vision_config": {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    },
}
"""Next to nothing but a real vocabulary."""
SHAPES: dict[str, Mapping[str, Any]] = {"tiny-qwen2.5-vl": TINY, **{name.lower(): KNOWN[name] for name in KNOWN}}
MARKS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SIDE = 224
"""Pixels along a side of a picture: 64 tokens."""
NUM_SHOWN, NUM_SAMPLED = 192, 96
"""Tokens of a question without its picture, and of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model that was written."""

    num_layers: int
    """Of its language model; `of_layers` has the whole."""
    of_layers: int
    num_parameters: int
    width: int
    """Of its language model."""
    vocabulary: int


def write_shape(name: str, folder: Path, *, room: float, bytes_a_parameter: int) -> Shape:
    """Write a model of the shape, with as many layers as learn in so many bytes, and one at least."""
    wanted = dict(SHAPES[name])
    whole = wanted["num_hidden_layers"]
    tokenizer: Any = deepcopy(_tokenizer())
    sees = "vision_config" in wanted
    if sees:
        tokenizer.add_tokens(list(MARKS.values()), special_tokens=True)
        tokenizer.chat_template = CHAT_TEMPLATE.replace("<image>", PICTURE)
    logging.disable_progress_bar()
    torch.manual_seed(0)
    make = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    sizes = []
    for num_layers in (1, 2):
        with torch.device("meta"):
            sizes.append(make.from_config(_config(wanted, num_layers, tokenizer)).num_parameters())
    of_layer = sizes[1] - sizes[0]
    fitting = 1 + int(max(0, room / bytes_a_parameter - sizes[0]) // of_layer)
    num_layers = min(whole, fitting)
    model = make.from_config(_config(wanted, num_layers, tokenizer))
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model.generation_config = GenerationConfig(**ends, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if sees:
        sides = {"shortest_edge": 28 * 28, "longest_edge": SIDE * SIDE}
        images: Any = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2, size=sides)
        images._processor_class = "Qwen2_5_VLProcessor"
        images.save_pretrained(folder)
    vocabulary, width = model.get_output_embeddings().weight.shape
    return Shape(
        num_layers=num_layers,
        of_layers=whole,
        num_parameters=model.num_parameters(),
        width=width,
        vocabulary=vocabulary,
    )


@cache
def _tokenizer() -> Any:
    return build_nano_tokenizer()


def _config(wanted: Mapping[str, Any], num_layers: int, tokenizer: Any) -> Any:
    """Its config with so many layers of the language model, and of the tower the same share."""
    text = {name: value for name, value in wanted.items() if name not in ("model_type", "vision_config")}
    share = num_layers / text["num_hidden_layers"]
    text["num_hidden_layers"] = num_layers
    text |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    if "vision_config" not in wanted:
        return AutoConfig.for_model(wanted["model_type"], **text)
    vision = dict(wanted["vision_config"])
    vision["depth"] = max(1, round(vision["depth"] * share))
    vision["fullatt_block_indexes"] = list(range(vision["depth"]))[-1:]
    size = text["hidden_size"] // text["num_attention_heads"]
    # Two of three parts of a head's turned dimensions are height's and width's, as these models have it.
    sections = [size // 8, size * 3 // 16, size * 3 // 16]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    marks = {name: tokenizer.convert_tokens_to_ids(token) for name, token in MARKS.items()}
    tied = bool(text.get("tie_word_embeddings"))
    return AutoConfig.for_model(
        wanted["model_type"], text_config=text, vision_config=vision, tie_word_embeddings=tied, **marks
    )


def dialogues(chat: ChatTokens, count: int) -> list[Episode]:
    """Of one to three attempts each; what is said means nothing."""
    random = Random(0)
    sees = chat.processor is not None
    return [_dialogue(chat, seed, random, sees=sees) for seed in range(count)]


def _dialogue(chat: ChatTokens, seed: int, random: Random, *, sees: bool) -> Episode:
    exchanges = []
    for number in range(random.randint(1, 3)):
        text = "".join(random.choices("abcdefgh ", k=random.randint(NUM_SHOWN // 2, NUM_SHOWN * 3 // 2)))
        is_first = number == 0
        shown = chat.opening(text, int(sees)) if is_first else chat.follow_up(text[:20], 0, after_end_token=False)
        count = random.randint(NUM_SAMPLED // 2, NUM_SAMPLED * 3 // 2)
        exchanges.append((shown, [random.randrange(20, 300) for _ in range(count)]))
    return made_up(seed, exchanges, _picture(seed) if sees else None)


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
