"""Log-probabilities and entropies of sampled tokens from states and an output layer's weight, without the logits.

    score_in_tiles(states, weight, token_ids, …)   →  log-probabilities [n], entropies [n]

Logits are made for all n tokens and a few columns of the vocabulary at a time, and again for their gradients, so that
a tile of them stays in a core's cache; what they add up to is kept as it grows. Each row of the weight's gradient comes
of one tile alone.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from learner.drawing import Drawing
from learner.limits import TILE_LOGITS

NEVER = -1e30
"""The logit of what could not be drawn: finite, lest it times a probability of nothing be not a number."""


def score_in_tiles(
    states: torch.Tensor,
    weight: torch.Tensor,
    token_ids: torch.Tensor,
    drawing: Drawing,
    *,
    with_entropies: bool,
    learns_entropies: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`states` [n, width] are at the temperature already, `weight` [vocabulary, width], `token_ids` [n]; what is
    forbidden has no probability where a token was drawn. Entropies have gradients where they are learned from."""
    logprobs, entropies = _Tiled.apply(states, weight, token_ids, drawing, with_entropies, learns_entropies)
    return logprobs, entropies if with_entropies else None


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        states, weight, token_ids, drawing, with_entropies, learns_entropies = given
        highest = states.new_full((len(states),), NEVER, dtype=torch.float32)
        total, weighted, own = (torch.zeros_like(highest) for _ in range(3))
        for tile in _tiles(len(states), weight):
            logits = _logits(tile, states, weight, drawing)
            is_here, column = _own(tile, token_ids)
            own = torch.where(is_here, logits.gather(1, column)[:, 0], own)
            # Sums are of exponentials below the highest logit so far, and fall when a higher one comes.
            risen = torch.maximum(highest, logits.amax(-1))
            logits -= risen[:, None]
            exponentials = logits.exp()
            fall = highest - risen
            if with_entropies:
                weighted = fall.exp() * (weighted + total * fall) + torch.linalg.vecdot(exponentials, logits)
            total = fall.exp() * total + exponentials.sum(-1)
            highest = risen
        normalisers = highest + total.log()
        entropies = total.log() - weighted / total
        ctx.save_for_backward(states, weight, token_ids, normalisers, entropies)
        ctx.drawing, ctx.learns_entropies = drawing, learns_entropies
        if not learns_entropies:
            ctx.mark_non_differentiable(entropies)
        return own - normalisers, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states, weight, token_ids, normalisers, entropies = ctx.saved_tensors
        of_logprobs, of_entropies = gradients
        of_states = torch.zeros_like(states, dtype=torch.float32)
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for tile in _tiles(len(states), weight):
            logprobs = _logits(tile, states, weight, ctx.drawing)
            logprobs -= normalisers[:, None]
            # d log p(y) / d logits = 1 at y, less p;   d entropy / d logits = -p (log p + entropy)
            if ctx.learns_entropies:
                factors = (logprobs + entropies[:, None]).mul_(of_entropies[:, None]).add_(of_logprobs[:, None])
                of_logits = logprobs.exp_().mul_(factors).neg_()
            else:
                of_logits = logprobs.exp_().mul_(-of_logprobs[:, None])
            is_here, column = _own(tile, token_ids)
            of_logits.scatter_add_(1, column, torch.where(is_here, of_logprobs, 0.0)[:, None])
            of_logits = of_logits.to(states.dtype)
            if of_weight is not None:
                torch.mm(of_logits.T, states, out=of_weight[tile])
            if states.dtype == torch.float32:
                of_states.addmm_(of_logits, weight[tile])
            else:
                of_states += of_logits @ weight[tile]
        return of_states.to(states.dtype), of_weight, *[None] * 4


def _tiles(num_tokens: int, weight: torch.Tensor) -> Iterator[slice]:
    step = max(1, TILE_LOGITS[weight.device.type] // max(1, num_tokens))
    for start in range(0, len(weight), step):
        yield slice(start, min(start + step, len(weight)))


def _logits(tile: slice, states: torch.Tensor, weight: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    logits = functional.linear(states, weight[tile]).float()
    for token in drawing.forbidden_token_ids:
        if tile.start <= token < tile.stop:
            logits[:, token - tile.start].masked_fill_(drawing.is_drawn, NEVER)
    return logits


def _own(tile: slice, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens are in the tile; in which of its columns [n, 1], any where it is not."""
    is_here = (token_ids >= tile.start) & (token_ids < tile.stop)
    return is_here, (token_ids - tile.start).clamp(0, tile.stop - tile.start - 1)[:, None]
