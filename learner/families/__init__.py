"""What differs between model families, one file each.

    family_of(backbone, chat)  →  Family
      .model_input(sequence, n)           a record as the model sees it, pictures expanded      ModelInput
      .filler()                           a row with a picture of nothing                       ModelInput
      .inputs(rows, width, layout)        what goes into the model beside the tokens            tensors by name
      .hidden_states(model, ids, inputs)  what its last layer says                              [B, R, width]

A family that is not in the table is taken for one whose inputs are its processor's, and is held against the model's own
forward when it is loaded.
"""

from typing import Any

from learner.families.family import Family
from learner.families.m_rope import MultiAxisFamily
from learner.families.mllama import MllamaFamily
from rollout.transcript import ChatTokens

__all__ = ["Family", "family_of"]

FAMILIES: dict[str, type[Family]] = {
    "idefics3": Family,
    "smolvlm": Family,
    "qwen2_vl": MultiAxisFamily,
    "qwen2_5_vl": MultiAxisFamily,
    "qwen3_vl": MultiAxisFamily,
    "mllama": MllamaFamily,
}
"""By `model_type` of a config.json; models without eyes are all alike."""


def family_of(backbone: Any, chat: ChatTokens) -> Family:
    """Of a model that is loaded, with the tokens of its dialogues."""
    kind = FAMILIES.get(backbone.config.model_type)
    if kind is not None:
        return kind(chat, backbone)
    family = Family(chat, backbone)
    if chat.processor is not None:
        family.check(backbone)
    return family
