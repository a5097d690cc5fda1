"""What a plan says of a learner's memory, held against an update of three shapes."""

import pytest

from study.bench.shapes import TINY
from tests.support.dummy_step import Case, measured

TEXT = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4000,
    "max_position_embeddings": 4096,
}
EYES = {
    **TINY,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 4000,
    "vision_config": {
        **TINY["vision_config"],
        "depth": 4,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_heads": 4,
        "out_hidden_size": 128,
    },
}
FULL = {"micro_batch_tokens": 1024}
CASES = {
    "words": Case(TEXT, FULL),
    "words, recomputed": Case(TEXT, {**FULL, "deepspeed": {"gradient_checkpointing": True}}),
    **{f"words, ZeRO {stage}": Case(TEXT, {**FULL, "deepspeed": {"zero_stage": stage}}) for stage in (1, 2, 3)},
    "words, padded": Case(TEXT, {"micro_batch_tokens": 2048, "layout": "padded"}),
    "pictures": Case(EYES, FULL),
    "pictures, the tower frozen": Case(EYES, {**FULL, "freeze": ["vision_tower"]}),
    "a real vocabulary": Case(TINY, FULL),
}


@pytest.mark.timeout(300)
def test_a_plan_is_within_15_percent_of_an_update() -> None:
    found = dict(zip(CASES, measured(list(CASES.values())), strict=True))
    ratios = {name: each.planned / each.measured for name, each in found.items()}
    assert {name: ratio for name, ratio in ratios.items() if not 0.85 <= ratio <= 1.15} == {}, ratios
