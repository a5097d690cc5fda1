"""A model that ranks share, put together, so that one can look at all of it."""

import torch
from torch import Tensor, nn

from learner.deepspeed_engine import DistributedEngine, gathered


def whole_state_dict(engine: DistributedEngine) -> dict[str, Tensor] | None:
    """Parameters and saved buffers on the host at rank 0, None elsewhere; a tied parameter once."""
    module: nn.Module = engine._engine.module
    whole: dict[str, Tensor] = {}
    with gathered(module.parameters()):
        whole.update((name, parameter.detach().to("cpu", copy=True)) for name, parameter in module.named_parameters())
    if torch.distributed.get_rank():
        return None
    saved = module.state_dict().keys()
    whole.update((name, buffer.to("cpu", copy=True)) for name, buffer in module.named_buffers() if name in saved)
    return whole
