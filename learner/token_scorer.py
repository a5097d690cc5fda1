"""From hidden states to what the losses need of each sampled token: here alone does the output layer run.

    score_tokens(hidden, token_ids, output_layer, drawing, mode)   →  TokenScores

Legend: n sampled tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch


class Mode(Enum):
    """How much is asked of each token; each mode gives what those above it give."""

    LOGPROBS = "log-probabilities"
    """Of the sampled tokens."""
    ENTROPIES = "entropies"
    """To be told, not learned from."""
    LEARNED_ENTROPIES = "learned entropies"
    """With their gradients."""
    DISTRIBUTIONS = "distributions"
    """Over the whole vocabulary: n × vocabulary numbers are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How the tokens came about."""

    is_drawn: torch.Tensor
    """[n] whether each was drawn, at the temperature and none forbidden, or demonstrated."""
    temperature: float
    forbidden_token_ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """What the policy says of n sampled tokens."""

    logprobs: torch.Tensor
    """[n] of each, in the distribution that it is drawn from."""
    entropies: torch.Tensor | None
    """[n] of that distribution, where asked for."""
    log_distributions: torch.Tensor | None
    """[n, vocabulary], where asked for."""


def score_tokens(
    hidden: torch.Tensor,
    token_ids: torch.Tensor,
    output_layer: Callable[[torch.Tensor], torch.Tensor],
    drawing: Drawing,
    mode: Mode,
) -> TokenScores:
    """`hidden` [n, width] are the states before the tokens, `token_ids` [n]."""
    logits = output_layer(hidden).float()
    logits = torch.where(drawing.is_drawn[:, None], logits / drawing.temperature, logits)
    if drawing.forbidden_token_ids:
        is_forbidden = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        is_forbidden[list(drawing.forbidden_token_ids)] = True
        logits = logits.masked_fill(drawing.is_drawn[:, None] & is_forbidden, float("-inf"))
    log_distributions = logits.log_softmax(dim=-1)
    entropies = None
    if mode is not Mode.LOGPROBS:
        entropies = _entropies(log_distributions.detach() if mode is Mode.ENTROPIES else log_distributions)
    return TokenScores(
        logprobs=log_distributions.gather(1, token_ids[:, None])[:, 0],
        entropies=entropies,
        log_distributions=log_distributions if mode is Mode.DISTRIBUTIONS else None,
    )


def _entropies(log_distributions: torch.Tensor) -> torch.Tensor:
    # A forbidden token has probability 0 and log-probability -inf, whose product is 0 here.
    return -(log_distributions.exp() * log_distributions.clamp_min(-1e9)).sum(dim=-1)
