"""How the tokens came about that a policy is asked of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Of n tokens."""

    is_drawn: torch.Tensor
    """[n] whether each was drawn, at the temperature and none forbidden, or demonstrated."""
    temperature: float
    forbidden_token_ids: Sequence[int]
