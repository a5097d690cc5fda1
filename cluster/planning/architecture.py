"""What a model is, from its folder and without loading it: widths, depths, and how many parameters which part has.

    read_architecture(folder)    config.json, and the headers of the safetensors files where there are any
    known_architecture(folder)   of a few public models by their folder's name, for plans made elsewhere

Counts from headers are exact. Those from config.json alone are within one percent for Llama, Mistral, Qwen 2 to 3,
Qwen-VL and Idefics3, and for the text part of Llama-3.2-Vision, whose cross-attention layers are left out: they do
nothing where there is no picture.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from learner.parts import part_of

Tensor = tuple[str, tuple[int, ...]]
"""Name and shape."""
OUTPUT_LAYER = "lm_head.weight"
"""What it ends in where it has a name; where it has none, it is the input embedding."""
KNOWN: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("known_models.yaml").read_text(encoding="utf-8")
)
"""The config.json of public models, as far as it matters here, by how their folders' names begin."""


class UnreadableModel(ValueError):
    """A folder's config.json says too little; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A vision tower's shape."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    patch_values: int
    """What of a picture becomes a patch."""
    is_gated: bool
    """Whether its feed-forward layers have two wide ones, of which one is a gate, or one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's shape."""

    model_type: str
    """The family, as Transformers calls it."""
    source: str
    """Where the counts are from."""
    tensors: tuple[Tensor, ...]
    """All its weights; from config.json alone, norms and biases of a layer are told together."""
    hidden_size: int
    """Width of the language model."""
    intermediate_size: int
    """Width inside its feed-forward layers."""
    num_layers: int
    """Its depth."""
    num_heads: int
    """Attention heads."""
    num_kv_heads: int
    """Heads that keys and values have."""
    head_size: int
    """Width of a head."""
    vocab_size: int
    """How many tokens it knows."""
    max_positions: int | None
    """The longest context it was made for."""
    patch_size: int = 0
    """Pixels along a side of what its vision tower takes for one; 0 without one."""
    merged: int = 1
    """Patches along a side of what becomes one token."""
    picture_size: int | None = None
    """Pixels along a side that every picture is brought to; None where each keeps its own."""
    tower: Tower | None = None
    """What looks at pictures."""

    @property
    def parameters(self) -> dict[str, int]:
        """By part: language_model, vision_tower, projector; only those that there are."""
        counted: dict[str, int] = {}
        for name, shape in self.tensors:
            counted[part_of(name)] = counted.get(part_of(name), 0) + math.prod(shape)
        return counted

    @property
    def num_parameters(self) -> int:
        """Of all parts."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def has_eyes(self) -> bool:
        """Whether it sees pictures."""
        return bool(self.patch_size)

    @property
    def is_tied(self) -> bool:
        """Whether the matrix that embeds tokens is the output layer too."""
        return not any(name.endswith(OUTPUT_LAYER) for name, _ in self.tensors)

    def cache_bytes_per_token(self, value_bytes: int) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size * value_bytes


def read_architecture(folder: Path) -> Architecture:
    """Of the model in a folder that has a config.json; raises UnreadableModel."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture = _from_config(config, "from config.json")
    except (ValueError, AttributeError) as error:
        raise UnreadableModel(f"its config.json cannot be read ({error})") from None
    except KeyError as error:
        raise UnreadableModel(f"its config.json does not say {error}, as those of causal language models do") from None
    tensors = tuple((name, tuple(shape)) for name, shape in _tensors(folder))
    return (
        replace(architecture, tensors=tensors, source="counted in its safetensors files") if tensors else architecture
    )


def known_architecture(folder: str) -> Architecture | None:
    """Of a public model whose name the folder's name begins with: `models/Llama-3.1-8B-Instruct-mine` is a Llama."""
    name = Path(folder).name
    found = next((known for known in KNOWN if name.startswith(known)), None)
    return _from_config(KNOWN[found], "known by its name") if found else None


def _tensors(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes in the headers of safetensors files: eight bytes of length, then JSON."""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = opened.read(8)
            # A file that is cut short, or a pointer to one that was never fetched, has no header of a sane size.
            if len(size) < 8 or struct.unpack("<Q", size)[0] > 100 * 2**20:
                raise UnreadableModel(f"{file.name} is no whole safetensors file; fetch it again")
            header = json.loads(opened.read(struct.unpack("<Q", size)[0]))
        yield from ((name, entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _from_config(config: Mapping[str, Any], source: str) -> Architecture:
    text: Mapping[str, Any] = config.get("text_config") or config
    vision: Mapping[str, Any] | None = config.get("vision_config")
    family = str(config["model_type"])
    heads, width = int(text["num_attention_heads"]), int(text["hidden_size"])
    shape = {
        "hidden_size": width,
        "intermediate_size": int(text["intermediate_size"]),
        "num_layers": int(text["num_hidden_layers"]) - len(text.get("cross_attention_layers") or ()),
        "num_heads": heads,
        "num_kv_heads": int(text.get("num_key_value_heads") or heads),
        "head_size": int(text.get("head_dim") or width // heads),
        "vocab_size": int(text["vocab_size"]),
    }
    is_tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    tensors, of_pictures = [*_text_tensors(shape, family, is_tied=is_tied)], {}
    if vision is not None and family != "mllama":
        scale = int(config.get("scale_factor", 1))
        tower = _tower(vision, family)
        tensors += _vision_tensors(vision, tower, width, scale)
        of_pictures = {
            "patch_size": int(vision["patch_size"]),
            "merged": _patches_a_side(vision, scale),
            "picture_size": vision.get("image_size"),
            "tower": tower,
        }
    return Architecture(
        model_type=family,
        source=source,
        tensors=tuple(tensors),
        max_positions=text.get("max_position_embeddings"),
        **shape,
        **of_pictures,
    )


def _text_tensors(shape: Mapping[str, int], family: str, *, is_tied: bool) -> Iterator[Tensor]:
    width, inner, query = shape["hidden_size"], shape["intermediate_size"], shape["num_heads"] * shape["head_size"]
    key = shape["num_kv_heads"] * shape["head_size"]
    yield "model.embed_tokens.weight", (shape["vocab_size"], width)
    for layer in range(shape["num_layers"]):
        of_layer = {
            "self_attn.q_proj.weight": (query, width),
            "self_attn.k_proj.weight": (key, width),
            "self_attn.v_proj.weight": (key, width),
            "self_attn.o_proj.weight": (width, query),
            "mlp.gate_proj.weight": (inner, width),
            "mlp.up_proj.weight": (inner, width),
            "mlp.down_proj.weight": (width, inner),
            "norms": (2 * width,),
        }
        if family.startswith("qwen2"):
            of_layer["self_attn.biases"] = (query + 2 * key,)
        if family.startswith("qwen3"):
            of_layer["self_attn.norms"] = (2 * shape["head_size"],)
        yield from ((f"model.layers.{layer}.{name}", size) for name, size in of_layer.items())
    yield "model.norm.weight", (width,)
    if not is_tied:
        yield OUTPUT_LAYER, (shape["vocab_size"], width)


def _tower(vision: Mapping[str, Any], family: str) -> Tower:
    width = int(vision.get("embed_dim") or vision["hidden_size"])
    inner = int(vision["intermediate_size"] if "intermediate_size" in vision else vision.get("mlp_ratio", 4) * width)
    return Tower(
        hidden_size=width,
        intermediate_size=inner,
        num_layers=int(vision["depth"] if "depth" in vision else vision["num_hidden_layers"]),
        patch_values=3 * int(vision.get("temporal_patch_size", 1)) * int(vision["patch_size"]) ** 2,
        is_gated=family == "qwen2_5_vl",
    )


def _vision_tensors(vision: Mapping[str, Any], tower: Tower, text_width: int, scale_factor: int) -> Iterator[Tensor]:
    """A vision transformer, and what brings the patches that it merges to the language model's width."""
    width, inner = tower.hidden_size, tower.intermediate_size
    positions = (int(vision.get("image_size", 0)) // int(vision["patch_size"])) ** 2
    yield "visual.patch_embed.weight", (width, tower.patch_values)
    yield "visual.pos_embed.weight", (int(vision.get("num_position_embeddings", positions)), width)
    wide = {"gate_proj": inner, "up_proj": inner} if tower.is_gated else {"fc1": inner}
    for layer in range(tower.num_layers):
        block = f"visual.blocks.{layer}"
        yield f"{block}.attn.qkv.weight", (3 * width, width)
        yield f"{block}.attn.proj.weight", (width, width)
        yield from ((f"{block}.mlp.{name}.weight", (size, width)) for name, size in wide.items())
        yield f"{block}.mlp.{'down_proj' if tower.is_gated else 'fc2'}.weight", (width, inner)
        yield f"{block}.norms_and_biases", (7 * width + 2 * inner,)
    merged = width * _patches_a_side(vision, scale_factor) ** 2
    for merger in range(1 + len(vision.get("deepstack_visual_indexes") or ())):
        if "spatial_merge_size" in vision:
            yield f"visual.merger.{merger}.fc1.weight", (merged, merged)
        yield f"visual.merger.{merger}.fc2.weight", (text_width, merged)


def _patches_a_side(vision: Mapping[str, Any], scale_factor: int) -> int:
    """How many patches by how many become one token."""
    return int(vision["spatial_merge_size"]) if "spatial_merge_size" in vision else scale_factor
