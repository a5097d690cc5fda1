"""Folders that look like models to whoever reads only their config and the headers of their weights."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NANO: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 900,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
"""A Llama of 1.0 M parameters."""

NANO_SHAPES = {
    "model.embed_tokens.weight": [900, 128],
    "lm_head.weight": [900, 128],
    "model.norm.weight": [128],
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(4)
        for name, shape in {
            "self_attn.q_proj": [128, 128],
            "self_attn.k_proj": [64, 128],
            "self_attn.v_proj": [64, 128],
            "self_attn.o_proj": [128, 128],
            "mlp.gate_proj": [384, 128],
            "mlp.up_proj": [384, 128],
            "mlp.down_proj": [128, 384],
            "input_layernorm": [128],
            "post_attention_layernorm": [128],
        }.items()
    },
}


def make_folder(
    folder: Path, config: Mapping[str, Any] = NANO, shapes: Mapping[str, Sequence[int]] = NANO_SHAPES
) -> Path:
    """config.json, a tokenizer's file, and a safetensors header with nothing behind it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    (folder / "tokenizer.json").write_text("{}")
    tensors = {name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder
