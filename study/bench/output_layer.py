"""What an output layer's log-probabilities cost with their gradients: ours in tiles, and PyTorch's fused cross-entropy,
which says nothing of entropies or of tokens that could not be drawn."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from learner.drawing import Drawing
from learner.vocabulary_tiles import score_in_tiles
from study.bench import Row

NUM_TOKENS = 1024
NUM_TIMES = 4
"""The first is not counted."""


def rows(width: int, vocabulary: int, dtype: torch.dtype) -> list[Row]:
    """Tokens per second, forwards and backwards, of a layer of such a width."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    states = torch.randn(NUM_TOKENS, width, dtype=dtype, device=device, requires_grad=True)
    weight = torch.randn(vocabulary, width, dtype=dtype, device=device, requires_grad=True)
    token_ids = torch.randint(vocabulary, (NUM_TOKENS,), device=device)
    everywhere = torch.ones(NUM_TOKENS, dtype=torch.bool, device=device)
    drawing = Drawing(is_drawn=everywhere, temperature=1.0, forbidden_token_ids=())

    def tiles() -> torch.Tensor:
        options = {"with_entropies": True, "learns_entropies": False}
        return score_in_tiles(states, weight, token_ids, drawing, **options)[0]

    def fused() -> torch.Tensor:
        return functional.linear_cross_entropy(states, weight, token_ids, reduction="none")

    ours, theirs = _tokens_per_second(tiles), _tokens_per_second(fused)
    return [
        ("output layer, with entropies", ours, "tokens/s"),
        ("output layer by PyTorch's fused cross-entropy", theirs, "tokens/s"),
        ("output layer, ours ÷ PyTorch's", ours / theirs, "ratio"),
    ]


def _tokens_per_second(said: Callable[[], torch.Tensor]) -> float:
    seconds = []
    for _ in range(NUM_TIMES):
        started = time.perf_counter()
        said().sum().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return NUM_TOKENS / min(seconds[1:])
