"""A random model of nano size to measure with: as slow and as fast as a trained one."""

from pathlib import Path

from transformers import set_seed
from transformers.utils import logging

from study.nano.model import new_model
from study.nano.recipe import BaseRecipe, ModelShape


def write_nano_model(folder: Path, *, hidden_size: int = 192, num_layers: int = 4, max_positions: int = 1024) -> int:
    """Write model and tokenizer; the number of parameters."""
    logging.disable_progress_bar()
    set_seed(0)
    shape = ModelShape(
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 32,
        max_positions=max_positions,
        rope_theta=10000.0,
    )
    nano = new_model(BaseRecipe(shape=shape))
    nano.save(folder, "float32")
    return nano.model.num_parameters()
