"""Models that stand still beside the one that learns: the policy as it began, a teacher.

    stand(model, sharing, dtype)   at ZeRO stage 3 its weights lie with all ranks, as those of the learning one do

Who asks a layer of it for something else than its own forward has its weights `gathered`
(learner/deepspeed_engine.py).
"""

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
