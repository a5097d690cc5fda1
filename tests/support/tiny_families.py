"""Random models of well under a million parameters with eyes, one of each family that the learner knows.

make_model(family, folder)      in a folder as Transformers reads it: FAMILIES names them
own_inputs(chat, model_input)   what a whole row is in Transformers' own way, to hold ours against
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from learner.batch import ModelInput
from rollout.transcript import ChatTokens
from tests.support.tiny_models import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    language_size,
    make_picture_model,
    make_text_model,
    make_tokenizer,
    save_model,
)

QWEN_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
LLAMA_PICTURE = "<|image|>"
TILE_SIZE, NUM_TILES = 28, 4


def _make_qwen(folder: Path, seed: int, vision: Mapping[str, Any], of: tuple[Any, Any, str]) -> Path:
    make_config, make, processor_class = of
    tokenizer = make_tokenizer(SPECIAL_TOKENS + QWEN_TOKENS)
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<image>", QWEN_PICTURE)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: token_id(tokenizer, token) for name, token in zip(names, QWEN_TOKENS, strict=True)}
    # Of 32 dimensions a head, 16 are turned: 6 by time, 4 by height, 6 by width.
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 4, 6]}
    if processor_class == "Qwen3VLProcessor":
        rope["mrope_interleaved"] = True
    text = {**language_size(tokenizer), "rope_parameters": rope, "head_dim": 32}
    torch.manual_seed(seed)
    save_model(make(make_config(text_config=text, vision_config=dict(vision), **ids)), tokenizer, folder)
    sides = {"shortest_edge": 28 * 28, "longest_edge": 168 * 168}
    images: Any = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2, size=sides)
    images._processor_class = processor_class
    images.save_pretrained(folder)
    return folder


def token_id(tokenizer: Any, token: str) -> int:
    """Its number."""
    return tokenizer.convert_tokens_to_ids(token)


def make_qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL: positions of three axes, windows in its tower."""
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"fullatt_block_indexes": [1], "window_size": 56, "patch_size": 14}
    of = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, "Qwen2_5_VLProcessor")
    return _make_qwen(folder, seed, vision, of)


def make_qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen3-VL: positions of three axes, and its tower speaks to more than one layer."""
    vision = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"deepstack_visual_indexes": [0, 1], "patch_size": 14, "num_position_embeddings": 64}
    of = (Qwen3VLConfig, Qwen3VLForConditionalGeneration, "Qwen3VLProcessor")
    return _make_qwen(folder, seed, vision, of)


def make_mllama(folder: Path, seed: int = 0) -> Path:
    """A Llama-3.2-Vision: pictures are looked at across, by some layers."""
    tokenizer = make_tokenizer((*SPECIAL_TOKENS, LLAMA_PICTURE, "<|python_tag|>"))
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<image>", LLAMA_PICTURE)
    text = {**language_size(tokenizer), "cross_attention_layers": [1, 3], "num_hidden_layers": 4}
    vision = {"hidden_size": 64, "intermediate_size": 128, "attention_heads": 2, "num_hidden_layers": 2}
    vision |= {"num_global_layers": 1, "image_size": TILE_SIZE, "patch_size": 14, "max_num_tiles": NUM_TILES}
    vision |= {"vision_output_dim": 128, "intermediate_layers_indices": [0]}
    torch.manual_seed(seed)
    image_token_id = token_id(tokenizer, LLAMA_PICTURE)
    model = MllamaForConditionalGeneration(
        MllamaConfig(text_config=text, vision_config=vision, image_token_index=image_token_id)
    )
    # Closed gates would let no picture through.
    for name, parameter in model.named_parameters():
        if name.endswith(("gate", "gate_attn", "gate_ffn")):
            torch.nn.init.constant_(parameter, 0.7)
    save_model(model, tokenizer, folder)
    side = {"height": TILE_SIZE, "width": TILE_SIZE}
    images: Any = MllamaImageProcessorPil(size=side, max_image_tiles=NUM_TILES)
    MllamaProcessor(images, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "idefics3": make_picture_model,
    "qwen2_5_vl": make_qwen2_5_vl,
    "qwen3_vl": make_qwen3_vl,
    "mllama": make_mllama,
}
"""Those with eyes."""


def make_model(family: str, folder: Path) -> Path:
    """A model of a family, or a Llama where it is `llama`."""
    return make_text_model(folder, tied=False) if family == "llama" else FAMILIES[family](folder)


def own_inputs(chat: ChatTokens, seen: ModelInput, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What Transformers' own processor would give with a row; it makes what is as long as the row of its own text."""
    row = torch.from_numpy(seen.token_ids)[None]
    if not seen.images:
        return {"input_ids": row}
    processor: Any = chat.processor
    made: Any = processor(text=processor.image_token * len(seen.images), images=list(seen.images), return_tensors="pt")
    told = {name: value for name, value in made.items() if name != "attention_mask"} | {"input_ids": row}
    if "mm_token_type_ids" in told:
        told["mm_token_type_ids"] = (row == chat.image_token_id).int()
    if "cross_attention_mask" in told:
        spans = get_cross_attention_token_mask(seen.token_ids.tolist(), chat.image_token_id or 0)
        tiles = made["aspect_ratio_mask"][0].sum(-1).tolist()
        dense = convert_sparse_cross_attention_mask_to_dense([spans], [tiles], NUM_TILES, row.shape[1])
        told["cross_attention_mask"] = torch.from_numpy(dense)
    return told
