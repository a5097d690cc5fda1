"""What a forward keeps for its backward, as PyTorch's autograd keeps it, and what is made beside that and thrown away.

    activation_bytes(learner, architecture, traffic, device)    of one micro-batch, at its most

Values that a layer keeps of each token, with its width w, attention a (queries), k (keys and values each) and inner
width i, of b bytes each; norms are computed in float32:

    two norms                   2 w (4 + 2 b) bytes
    attention                   2 a + 2 k
    attention with own norms    another 2 (a + k)    Qwen3
    feed-forward, gated         4 i

and of a vision tower's layer, of each patch: 13 w + 4 i where its feed-forward is gated, else 11 w + 2 i.
"""

from cluster.planning.architecture import Architecture
from learner.config import LearnerConfig
from learner.limits import COPIES, FEW_LOGITS, TILE_COPIES, TILE_LOGITS
from rollout.traffic import Traffic

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FP32_BYTES = 4
LOGIT_SHARE = 0.35
"""How much of all logits is held at once, where these are many and made for a few tokens at a time."""


def activation_bytes(learner: LearnerConfig, architecture: Architecture, traffic: Traffic, device: str) -> float:
    """Of a micro-batch through which so much goes on a "cpu" or "cuda" device."""
    value_bytes, width = BYTES[learner.dtype], architecture.hidden_size
    of_layer = traffic.tokens * _of_layer(architecture, value_bytes)
    of_input = traffic.tokens * value_bytes * width
    layers, recomputes = architecture.num_layers, learner.deepspeed.gradient_checkpointing
    logits = _of_logits(learner, traffic.scored, architecture.vocab_size, device)
    # Where a layer is computed again, the logits are gone.
    language = layers * of_input + max(of_layer, logits) if recomputes else layers * of_layer + logits
    learns = "vision_tower" not in learner.frozen_parts
    tower = _of_tower(architecture, value_bytes, recomputes=recomputes) if learns else 0.0
    kept = language + traffic.patches * tower
    if learner.lora.rank or "language_model" in learner.frozen_parts:
        return kept
    # The output layer's gradient of a micro-batch; where the same matrix embeds, it waits for that one's at the end.
    gradient = value_bytes * architecture.vocab_size * width
    return gradient + max(kept, gradient * architecture.is_tied)


def _of_layer(architecture: Architecture, value_bytes: int) -> float:
    """Bytes a token."""
    queries = architecture.num_heads * architecture.head_size
    keys = architecture.num_kv_heads * architecture.head_size
    norms = 2 * architecture.hidden_size * (FP32_BYTES + 2 * value_bytes)
    attention = 2 * (queries + keys)
    if architecture.model_type.startswith("qwen3"):
        attention += 2 * (queries + keys)
    return norms + value_bytes * (attention + 4 * architecture.intermediate_size)


def _of_tower(architecture: Architecture, value_bytes: int, *, recomputes: bool) -> float:
    """Bytes a patch."""
    tower = architecture.tower
    if tower is None:
        return 0.0
    width, inner = tower.hidden_size, tower.intermediate_size
    of_layer = 13 * width + 4 * inner if tower.is_gated else 11 * width + 2 * inner
    of_layers = tower.num_layers * width + of_layer if recomputes else tower.num_layers * of_layer
    return value_bytes * (tower.patch_values + of_layers)


def _of_logits(learner: LearnerConfig, scored: int, vocabulary: int, device: str) -> float:
    logits = scored * vocabulary
    compares = learner.sft.kl_coefficient or learner.distillation.teacher
    if logits > FEW_LOGITS and not compares and "lm_head" not in learner.lora.target_modules:
        return FP32_BYTES * TILE_COPIES * min(logits, TILE_LOGITS[device])
    return FP32_BYTES * max(LOGIT_SHARE * logits, COPIES * min(logits, FEW_LOGITS))
