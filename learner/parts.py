"""Which part of a model a parameter belongs to, by its name; without torch, so that plans can ask too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch.nn import Parameter

PARTS = {
    "projector": ("connector", "multi_modal_projector", "merger", "projector", "deepstack_merger_list"),
    "vision_tower": ("vision_tower", "vision_model", "visual"),
}
"""How models name their parts; the rest is the language model.

A projector may stand inside a vision tower, as Qwen's merger does, so it is looked for first.
"""
LOOKED_UP = {"embed_tokens", "position_embedding", "pos_embed", "embedding", "tile_embedding"}
"""How models name their embeddings."""

CRITIC = "critic"
"""The group of the value head's parameters."""


def part_of(name: str) -> str:
    """`projector`, `vision_tower` or `language_model`."""
    words = set(name.split("."))
    return next((part for part, names in PARTS.items() if words & set(names)), "language_model")


def is_looked_up(name: str) -> bool:
    """Whether its rows are looked up, or added, and multiply nothing."""
    return bool(set(name.split(".")) & LOOKED_UP)


class ParameterGroup(NamedTuple):
    """Parameters that have one learning rate: `ParameterGroup("critic", [weight, bias], 1e-3)`."""

    name: str
    parameters: Sequence["Parameter"]
    learning_rate: float
    """The highest; it rises and falls as that of `OptimizerConfig` does."""
