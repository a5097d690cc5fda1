"""From hidden states to what the losses need of each sampled token: here alone does the output layer run.

    score_tokens(hidden, token_ids, output_layer, drawing, mode)   →  TokenScores
    distributions(hidden, output_layer, drawing)                   →  log-distributions, a few rows at a time

A large vocabulary's logits are most of what a training step would keep. So they are made for a few columns at a time,
with gradients worked out by hand; where a layer is more than a matrix, or another policy's distributions are compared
with, for a few tokens at a time, and again when gradients are wanted.

Legend: n sampled tokens, V tokens in the vocabulary.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from learner.drawing import Drawing
from learner.limits import COPIES, FEW_LOGITS, LEARNED_COPIES
from learner.vocabulary_tiles import score_in_tiles

SHARE = 0.25
"""Of more than a few logits, such a part at once, all copies of it counted: smaller parts take longer."""

Distributions = Callable[[slice], torch.Tensor]
"""Which of the n tokens  →  [of these, V] their log-distributions."""


class Mode(Enum):
    """How much is asked of each token; each mode gives what those above it give."""

    VALUES = "values"
    """Of states alone: the output layer does not run."""
    LOGPROBS = "log-probabilities"
    """Of the sampled tokens."""
    ENTROPIES = "entropies"
    """To be told, not learned from."""
    LEARNED_ENTROPIES = "learned entropies"
    """With their gradients."""


class TokenScores(NamedTuple):  # in no other container would DeepSpeed find what comes out of a layer it shares
    """What the policy says of n sampled tokens."""

    logprobs: torch.Tensor
    """[n] of each, in the distribution that it is drawn from."""
    entropies: torch.Tensor | None = None
    """[n] of that distribution, where asked for."""
    divergences: torch.Tensor | None = None
    """[n] of that distribution from the reference's, where one was given."""


class OutputLayer(nn.Linear):
    """An output layer that can be asked for less than logits; all of it within one call, since ranks that share its
    weight put it together for the time of a call."""

    def forward(self, input: torch.Tensor, ask: Callable[["OutputLayer", torch.Tensor], Any] | None = None) -> Any:
        """Logits, or what `ask` makes of this layer and its input."""
        return super().forward(input) if ask is None else ask(self, input)


def score_tokens(
    hidden: torch.Tensor,
    token_ids: torch.Tensor,
    output_layer: nn.Module,
    drawing: Drawing,
    mode: Mode,
    reference: Distributions | None = None,
) -> TokenScores:
    """`hidden` [n, width] are the states before the tokens, `token_ids` [n]."""

    # What a layer is asked of has to go through its call: else ranks that share its weight would keep the whole of it
    # until they have been all the way back.
    def ask(layer: nn.Module, hidden: torch.Tensor) -> TokenScores:
        def of(rows: slice) -> tuple[torch.Tensor, ...]:
            return _of_rows(rows, hidden, token_ids, layer, drawing, mode, reference)

        if reference is None and _is_plain(layer) and not _are_few(hidden, layer):
            return _in_tiles(hidden, token_ids, layer, drawing, mode)
        found = iter(_in_chunks(of, hidden, layer))
        return TokenScores(
            logprobs=next(found),
            entropies=next(found) if mode is not Mode.LOGPROBS else None,
            divergences=next(found) if reference is not None else None,
        )

    return output_layer(hidden, ask) if isinstance(output_layer, OutputLayer) else ask(output_layer, hidden)


def distributions(hidden: torch.Tensor, output_layer: nn.Module, drawing: Drawing) -> Distributions:
    """To compare another policy's with, by `reference` of `score_tokens`; without gradients."""
    kept = hidden.detach()

    @torch.no_grad()
    def of(rows: slice) -> torch.Tensor:
        return _log_distributions(rows, kept, output_layer, drawing)

    return of


def _is_plain(layer: nn.Module) -> bool:
    return isinstance(layer, OutputLayer) and layer.bias is None


def _are_few(hidden: torch.Tensor, layer: Any) -> bool:
    return hidden.shape[0] * layer.out_features <= FEW_LOGITS


def _in_chunks(of: Callable[[slice], tuple[torch.Tensor, ...]], hidden: torch.Tensor, layer: Any) -> list[torch.Tensor]:
    """What `of` says of all rows, none of its logits kept where they are many."""
    if _are_few(hidden, layer):
        return list(of(slice(0, len(hidden))))
    learns = torch.is_grad_enabled()
    part = int(len(hidden) * SHARE / (LEARNED_COPIES if learns else COPIES))
    step = max(1, part, FEW_LOGITS // layer.out_features)
    found = [
        checkpoint(of, rows, use_reentrant=False, determinism_check="none") if learns else of(rows)
        for rows in (slice(start, min(start + step, len(hidden))) for start in range(0, len(hidden), step))
    ]
    return [torch.cat(column) for column in zip(*found, strict=True)]


def _in_tiles(hidden: torch.Tensor, token_ids: torch.Tensor, layer: Any, drawing: Drawing, mode: Mode) -> TokenScores:
    logprobs, entropies = score_in_tiles(
        _heated(hidden, drawing.is_drawn, drawing),
        layer.weight,
        token_ids,
        drawing,
        with_entropies=mode is not Mode.LOGPROBS,
        learns_entropies=mode is Mode.LEARNED_ENTROPIES,
    )
    return TokenScores(logprobs=logprobs, entropies=entropies)


def _of_rows(
    rows: slice,
    hidden: torch.Tensor,
    token_ids: torch.Tensor,
    layer: nn.Module,
    drawing: Drawing,
    mode: Mode,
    reference: Distributions | None,
) -> tuple[torch.Tensor, ...]:
    """Log-probabilities, entropies and divergences, as far as they are asked for."""
    log_distributions = _log_distributions(rows, hidden, layer, drawing)
    found = [log_distributions.gather(1, token_ids[rows, None])[:, 0]]
    if mode is not Mode.LOGPROBS:
        found.append(_entropies(log_distributions.detach() if mode is Mode.ENTROPIES else log_distributions))
    if reference is not None:
        found.append(_divergences(log_distributions, reference(rows)))
    return tuple(found)


def _log_distributions(rows: slice, hidden: torch.Tensor, layer: nn.Module, drawing: Drawing) -> torch.Tensor:
    is_drawn = drawing.is_drawn[rows]
    if _is_plain(layer):
        logits = _logits(layer, _heated(hidden[rows], is_drawn, drawing)).float()
    else:
        logits = _heated(_logits(layer, hidden[rows]).float(), is_drawn, drawing)
    return _allowed(logits, is_drawn, drawing).log_softmax(dim=-1)


def _allowed(logits: torch.Tensor, is_drawn: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Minus infinity where a token that was drawn could not have been this one."""
    if not drawing.forbidden_token_ids:
        return logits
    is_forbidden = _forbidden(logits.shape[-1], drawing, logits.device)
    return logits.masked_fill(is_drawn[:, None] & is_forbidden, float("-inf"))


def _logits(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    # A call within its own call would take the weight apart at its end.
    return functional.linear(hidden, layer.weight, layer.bias) if isinstance(layer, OutputLayer) else layer(hidden)


def _heated(values: torch.Tensor, is_drawn: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Logits at the temperature, or states of which a plain layer makes those, which are fewer."""
    return torch.where(is_drawn[:, None], values / drawing.temperature, values)


def _forbidden(vocabulary: int, drawing: Drawing, device: torch.device) -> torch.Tensor:
    is_forbidden = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    is_forbidden[list(drawing.forbidden_token_ids)] = True
    return is_forbidden


def _entropies(log_distributions: torch.Tensor) -> torch.Tensor:
    return -_expected(log_distributions.exp(), log_distributions)


def _divergences(log_distributions: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    probabilities = log_distributions.exp()
    return _expected(probabilities, log_distributions) - _expected(probabilities, reference)


def _expected(probabilities: torch.Tensor, logarithms: torch.Tensor) -> torch.Tensor:
    # A forbidden token has probability 0 and log-probability -inf, whose product is 0 here.
    return torch.einsum("rv,rv->r", probabilities, logarithms.clamp_min(-1e9))
