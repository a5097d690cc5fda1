"""Models that stand still beside the one that learns: the policy as it began, a teacher.

stand(model, sharing, dtype)   at ZeRO stage 3 its weights lie with all ranks, as those of the learning one do
at_hand(weights)               inside, such weights are whole on every rank; all enter and leave together
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed
from torch import nn

from learner._deepspeed_options import standing_options
from learner.config import DeepSpeedConfig

Model = TypeVar("Model", bound=nn.Module)


def stand(model: Model, sharing: DeepSpeedConfig, dtype: str) -> Model:
    """The same model, which is put together layer by layer for the time of a call where ranks share it."""
    model.requires_grad_(False)
    if sharing.real_stage(dtype) == 3:
        import deepspeed

        options = standing_options(dtype=dtype, num_ranks=torch.distributed.get_world_size())
        deepspeed.initialize(model=model, config=options)
    return model


@contextmanager
def at_hand(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """For whoever asks a layer for something else than its own forward, as often as it likes."""
    shared = [weight for weight in weights if hasattr(weight, "ds_id")]
    if not shared:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(shared, modifier_rank=None):
        yield
