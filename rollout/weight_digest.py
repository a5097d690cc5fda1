"""A number of a whole model's weights that two processes can compare, whichever way each of them stores them.

    digest_of(tensors)   →  the sum of all bit patterns, modulo 2**64
    Digests              what vLLM's processes can be asked for, as their worker's extension

The sum is the same when tensors are fused, permuted, or padded with zeros, as engines do; it is another when a single
value is, and it costs one pass over the memory. That weights stand in the wrong place is for the probe to see.
"""

from collections.abc import Iterable

import torch

WHOLE = 2**64
PIECE = 2**22
"""How many values are summed at once: PyTorch makes 64-bit copies of what it adds up."""
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest_of(tensors: Iterable[torch.Tensor]) -> int:
    """The sum, of tensors on any device; none of them empty.

    >>> whole = torch.tensor([[1.5, -2.0], [0.25, 3.0]])
    >>> digest_of([whole]) == digest_of([whole[1:], whole[:1].T])
    True
    """
    return sum(int(_sum_of_bits(tensor)) for tensor in tensors) % WHOLE


def _sum_of_bits(tensor: torch.Tensor) -> torch.Tensor:
    """On its device, so that one has to be waited for once a tensor."""
    bits = tensor.detach().contiguous().view(BITS[tensor.element_size()]).view(-1)
    return torch.stack([piece.sum(dtype=torch.int64) for piece in bits.split(PIECE)]).sum()


class Digests:
    """Added to vLLM's worker class, whose `model_runner` it asks."""

    def weight_digests(self) -> dict[str, int]:
        """The digest of each parameter, of those that share memory of the first; 0 of one that an update which broke
        off has thrown away. On CPUs, most layers keep theirs in a form of oneDNN's that cannot be read."""
        model: torch.nn.Module = self.model_runner.model  # pyright: ignore[reportAttributeAccessIssue]
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.numel()]
        there = [(name, parameter) for name, parameter in reversed(named) if not parameter.is_meta]
        first = {parameter.data_ptr(): (name, parameter) for name, parameter in there}
        thrown_away = dict.fromkeys((name for name, parameter in named if parameter.is_meta), 0)
        return {name: digest_of([parameter]) for name, parameter in first.values()} | thrown_away
