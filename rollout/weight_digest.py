"""A number of a whole model's weights that two processes can compare, whichever way each of them stores them.

    digest_of(tensors)   →  the sum of all bit patterns, modulo 2**64
    Digests              what vLLM's processes can be asked for, as their worker's extension

The sum is the same when tensors are fused, permuted, or padded with zeros, as engines do; it is another when a single
value is, and it costs one pass over the memory. That weights stand in the wrong place is for the probe to see.
"""

from collections.abc import Iterable

import torch

WHOLE = 2**64
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest_of(tensors: Iterable[torch.Tensor]) -> int:
    """The sum, of tensors on any device.

    >>> whole = torch.tensor([[1.5, -2.0], [0.25, 3.0]])
    >>> digest_of([whole]) == digest_of([whole[1:], whole[:1].T])
    True
    """
    return sum(int(_bits(tensor).sum(dtype=torch.int64)) for tensor in tensors) % WHOLE


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(BITS[tensor.element_size()])


class Digests:
    """Added to vLLM's worker class, whose `model_runner` it asks."""

    def weight_digests(self) -> dict[str, int]:
        """The digest of each parameter, of those that share memory of the first; on CPUs, most layers keep theirs in a
        form of oneDNN's that cannot be read."""
        model: torch.nn.Module = self.model_runner.model  # pyright: ignore[reportAttributeAccessIssue]
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.numel()]
        first = {parameter.data_ptr(): (name, parameter) for name, parameter in reversed(named)}
        return {name: digest_of([parameter]) for name, parameter in first.values()}
