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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from learner.parts import part_of

KNOWN: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("known_models.yaml").read_text(encoding="utf-8")
)
"""The config.json of public models, as far as it matters here, by how their folders' names begin."""


class UnreadableModel(ValueError):
    """A folder's config.json says too little; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's shape."""

    model_type: str
    """The family, as Transformers calls it."""
    source: str
    """Where the counts are from."""
    parameters: Mapping[str, int]
    """By part: language_model, vision_tower, projector; only those that there are."""
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
    counts_positions: bool
    """Whether it counts positions over a whole row by itself, so that sequences cannot share one."""

    @property
    def num_parameters(self) -> int:
        """Of all parts."""
        return sum(self.parameters.values())

    @property
    def has_eyes(self) -> bool:
        """Whether it sees pictures."""
        return "vision_tower" in self.parameters

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
    counted: dict[str, int] = {}
    for name, shape in _tensors(folder):
        part = part_of(name)
        counted[part] = counted.get(part, 0) + math.prod(shape)
    if not counted:
        return architecture
    return _with_counts(architecture, counted)


def known_architecture(folder: str) -> Architecture | None:
    """Of a public model whose name the folder's name begins with: `models/Llama-3.1-8B-Instruct-mine` is a Llama."""
    name = Path(folder).name
    found = next((known for known in KNOWN if name.startswith(known)), None)
    return _from_config(KNOWN[found], "known by its name") if found else None


def _with_counts(architecture: Architecture, counted: Mapping[str, int]) -> Architecture:
    fields = {name: getattr(architecture, name) for name in Architecture.__slots__}
    return Architecture(**{**fields, "parameters": dict(counted), "source": "counted in its safetensors files"})


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
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
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
    parameters = {"language_model": _text_parameters(shape, family, is_tied=is_tied)}
    if vision is not None and family != "mllama":
        parameters |= _vision_parameters(vision, width, int(config.get("scale_factor", 1)))
    return Architecture(
        model_type=family,
        source=source,
        parameters=parameters,
        max_positions=text.get("max_position_embeddings"),
        counts_positions="mrope_section" in rope or family.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl")),
        **shape,
    )


def _text_parameters(shape: Mapping[str, int], family: str, *, is_tied: bool) -> int:
    width, query = shape["hidden_size"], shape["num_heads"] * shape["head_size"]
    key = shape["num_kv_heads"] * shape["head_size"]
    attention = 2 * width * query + 2 * width * key
    if family.startswith("qwen2"):
        attention += query + 2 * key  # biases
    if family.startswith("qwen3"):
        attention += 2 * shape["head_size"]  # norms of queries and keys
    layer = attention + 3 * width * shape["intermediate_size"] + 2 * width
    return shape["num_layers"] * layer + width + (1 if is_tied else 2) * shape["vocab_size"] * width


def _vision_parameters(vision: Mapping[str, Any], text_width: int, scale_factor: int) -> dict[str, int]:
    """A vision transformer, and what brings the patches that it merges to the language model's width."""
    width = int(vision.get("embed_dim") or vision["hidden_size"])
    inner = int(vision["intermediate_size"] if "intermediate_size" in vision else vision.get("mlp_ratio", 4) * width)
    depth = int(vision["depth"] if "depth" in vision else vision["num_hidden_layers"])
    is_gated = inner < 3 * width  # so in Qwen2.5-VL; other towers have one wide layer and one back
    patch = 3 * int(vision.get("temporal_patch_size", 1)) * int(vision["patch_size"]) ** 2
    positions = (int(vision.get("image_size", 0)) // int(vision["patch_size"])) ** 2
    positions = int(vision.get("num_position_embeddings", positions))
    block = 4 * width * (width + 1) + (3 if is_gated else 2) * width * inner + 2 * inner + 3 * width
    tower = patch * width + positions * width + depth * block
    merged = width * (int(vision["spatial_merge_size"]) if "spatial_merge_size" in vision else scale_factor) ** 2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    hidden = merged * merged if "spatial_merge_size" in vision else 0
    return {
        "vision_tower": tower,
        "projector": mergers * (hidden + merged * text_width) if hidden else merged * text_width,
    }
