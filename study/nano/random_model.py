"""A random model of nano size to measure with: as slow and as fast as a trained one."""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, set_seed
from transformers.utils import logging

from study.nano.tokenizer import build_nano_tokenizer


def write_nano_model(folder: Path, *, hidden_size: int = 192, num_layers: int = 4, max_positions: int = 1024) -> int:
    """Write model and tokenizer; the number of parameters."""
    logging.disable_progress_bar()
    tokenizer: Any = build_nano_tokenizer()
    tokenizer.save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=max_positions,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig.from_model_config(config)
    model.save_pretrained(folder)
    return model.num_parameters()
