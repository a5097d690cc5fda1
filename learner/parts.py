"""Which part of a model a parameter belongs to, by its name; without torch, so that plans can ask too."""

PARTS = {
    "projector": ("connector", "multi_modal_projector", "merger", "projector", "deepstack_merger_list"),
    "vision_tower": ("vision_tower", "vision_model", "visual"),
}
"""How models name their parts; the rest is the language model.

A projector may stand inside a vision tower, as Qwen's merger does, so it is looked for first.
"""


def part_of(name: str) -> str:
    """`projector`, `vision_tower` or `language_model`."""
    words = set(name.split("."))
    return next((part for part, names in PARTS.items() if words & set(names)), "language_model")
