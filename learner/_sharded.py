"""Parameters of which each rank may have only a part, and what a checkpoint of them needs besides.

    whole_shape, whole_bytes            what a parameter is when put together
    layout_of, require_same_layout      who has what
    only_data                           loading that cannot run code
    random_states, set_random_states    where all random numbers of a process stand

A checkpoint only fits ranks that share the same model in the same way as those that wrote it.
"""

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from learner.config import CHECKPOINT_OPTIONS
from learner.parts import ParameterGroup

FORCE_DATA = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""By this PyTorch reads data alone, even where a library asks it to read anything."""


class CheckpointMismatch(ValueError):
    """A checkpoint is of another model, or of ranks that share it in another way."""


def whole_shape(parameter: Tensor) -> torch.Size:
    """A parameter's shape, which DeepSpeed keeps beside it where the parameter itself is spread over ranks."""
    return getattr(parameter, "ds_shape", parameter.shape)


def whole_bytes(parameter: Tensor) -> int:
    """A parameter's size when whole."""
    return whole_shape(parameter).numel() * parameter.element_size()


def layout_of(
    module: nn.Module, groups: Sequence[ParameterGroup], *, num_ranks: int, zero_stage: int, dtype: str
) -> dict[str, Any]:
    """What two runs must have in common for one to take the other's checkpoint."""
    parameters = {
        name: f"{' × '.join(map(str, whole_shape(parameter)))}{'' if parameter.requires_grad else ' (frozen)'}"
        for name, parameter in module.named_parameters()
    }
    names = [group.name for group in groups]
    shared = {"num_ranks": num_ranks, "zero_stage": zero_stage, "dtype": dtype}
    return {**shared, "groups": names, "parameters": parameters}


def require_same_layout(folder: Path, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """CheckpointMismatch, if the checkpoint is not for us."""
    differences = [
        f"{option} was {saved[key]} and is {here[key]}: set it back to {saved[key]}"
        for key, option in CHECKPOINT_OPTIONS.items()
        if saved[key] != here[key]
    ]
    if (before := saved.get("groups", ["model"])) != here["groups"]:
        differences.append(
            f"what has a learning rate of its own was {', '.join(before)} and is {', '.join(here['groups'])}: set "
            "learner.value_head.learning_rate, learner.value_head.warmup_updates and "
            "learner.optimizer.part_learning_rates back"
        )
    old, new = saved["parameters"], here["parameters"]
    changed = [
        f"{name} was {old.get(name, 'absent')} and is {new.get(name, 'absent')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if changed:
        listed = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        differences.append(f"{len(changed)} parameters differ ({listed}): take the model it was written with")
    if differences:
        raise CheckpointMismatch(f"the checkpoint {folder} does not fit this run. " + ". ".join(differences))


@contextmanager
def only_data() -> Iterator[None]:
    """Whatever DeepSpeed and PyTorch load inside holds tensors and plain values; a file that asks for more is refused.

    DeepSpeed reads its checkpoints as pickles that may run anything. PyTorch's own reader, which it is made to take,
    builds nothing but what is named here and in PyTorch, so a run folder from elsewhere cannot bring code.
    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    before = os.environ.get(FORCE_DATA)
    os.environ[FORCE_DATA] = "1"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            yield
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointMismatch(
            f"a file of the checkpoint wants {asked[1] if asked else 'more than data'} built, which no checkpoint of "
            "ours does: it may have been meddled with; take another"
        ) from None
    finally:
        os.environ.pop(FORCE_DATA)
        if before is not None:
            os.environ[FORCE_DATA] = before


def random_states() -> dict[str, Any]:
    """Those of Python, NumPy, PyTorch and the GPU."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on from there."""
    kind, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
