"""Cutting the vocabulary's work in parts changes no score and no gradient, and keeps no logits."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from learner import token_scorer, vocabulary_tiles
from learner.drawing import Drawing
from learner.token_scorer import Distributions, Mode, OutputLayer, TokenScores, distributions, score_tokens
from learner.vocabulary_tiles import score_in_tiles
from tests.support.peak_bytes import peak_bytes

WIDTH, VOCABULARY, NUM_TOKENS = 16, 50, 23
MODES = [mode for mode in Mode if mode is not Mode.VALUES]


class Adapted(nn.Module):
    """An output layer with a low-rank addition: no plain matrix."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer, self.out_features = layer, layer.out_features
        self.down, self.up = nn.Linear(layer.in_features, 2, bias=False), nn.Linear(2, layer.out_features, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.layer(hidden) + self.up(self.down(hidden))


@dataclass
class Case:
    layer: nn.Module
    hidden: torch.Tensor
    token_ids: torch.Tensor
    drawing: Drawing
    reference: Distributions | None

    def weights(self) -> list[torch.Tensor]:
        return [self.hidden, *self.layer.parameters()]


def case(kind: str, drawn: str, *, forbids: bool, compares: bool) -> Case:
    torch.manual_seed(3)
    layer: nn.Module = OutputLayer(WIDTH, VOCABULARY, bias=kind == "biased")
    if kind == "adapted":
        layer = Adapted(layer)  # pyright: ignore[reportArgumentType]
    if kind == "frozen":
        layer.requires_grad_(False)
    is_drawn = {"all": torch.ones(NUM_TOKENS), "none": torch.zeros(NUM_TOKENS), "some": torch.arange(NUM_TOKENS) % 2}
    drawing = Drawing(
        is_drawn=is_drawn[drawn].bool(), temperature=0.7, forbidden_token_ids=(3, 7, 49) if forbids else ()
    )
    allowed = torch.tensor([token for token in range(VOCABULARY) if token not in (3, 7, 49)])
    token_ids = allowed[torch.randint(len(allowed), (NUM_TOKENS,))]
    reference = None
    if compares:
        other = nn.Linear(WIDTH, VOCABULARY)
        reference = distributions(torch.randn(NUM_TOKENS, WIDTH), other, drawing)
    return Case(layer, torch.randn(NUM_TOKENS, WIDTH, requires_grad=True), token_ids, drawing, reference)


def by_hand(case: Case) -> dict[str, torch.Tensor]:
    """From all logits at once, in double precision."""
    logits = case.layer(case.hidden).double()
    drawn = case.drawing.is_drawn[:, None]
    logits = torch.where(drawn, logits / case.drawing.temperature, logits)
    for token in case.drawing.forbidden_token_ids:
        logits = torch.where(drawn & (torch.arange(VOCABULARY) == token), torch.tensor(-1e30).double(), logits)
    probabilities = torch.softmax(logits, -1)
    logs = torch.log_softmax(logits, -1)
    found = {"logprobs": logs[torch.arange(NUM_TOKENS), case.token_ids]}
    found["entropies"] = torch.distributions.Categorical(logits=logits).entropy()
    if case.reference is not None:
        reference = case.reference(slice(0, NUM_TOKENS)).double().clamp_min(-1e30)
        terms = torch.where(probabilities > 0, probabilities * (logs - reference), 0.0)
        found["divergences"] = terms.sum(-1)
    return found


def gradients(case: Case, scores: dict[str, torch.Tensor], learned: list[str]) -> list[torch.Tensor]:
    mix = torch.linspace(-1, 2, NUM_TOKENS)
    loss: Any = sum((mix * scores[name]).sum() for name in learned)
    weights = [weight for weight in case.weights() if weight.requires_grad]
    return list(torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("compares", [False, True])
@pytest.mark.parametrize("forbids", [False, True])
@pytest.mark.parametrize("drawn", ["all", "none", "some"])
@pytest.mark.parametrize("kind", ["plain", "biased", "adapted", "frozen"])
@pytest.mark.parametrize("few", [1, 7 * NUM_TOKENS, VOCABULARY * NUM_TOKENS - 1, 10**9])
def test_scores_and_gradients_are_those_of_all_logits(
    monkeypatch: pytest.MonkeyPatch, few: int, kind: str, drawn: str, forbids: bool, compares: bool, mode: Mode
) -> None:
    monkeypatch.setattr(token_scorer, "FEW_LOGITS", few)
    monkeypatch.setattr(vocabulary_tiles, "TILE_LOGITS", {"cpu": few})
    it = case(kind, drawn, forbids=forbids, compares=compares)
    expected = by_hand(it)
    learned = ["logprobs"] + ["entropies"] * (mode is Mode.LEARNED_ENTROPIES) + ["divergences"] * compares
    named = dict(as_columns(score(it, mode)))
    told = set(learned) | ({"entropies"} if mode is not Mode.LOGPROBS else set())
    assert named.keys() == told
    for name, found in named.items():
        torch.testing.assert_close(found.double(), expected[name], atol=1e-5, rtol=1e-5)
    wanted = gradients(it, expected, learned)
    for found, right in zip(gradients(it, named, learned), wanted, strict=True):
        torch.testing.assert_close(found, right.to(found.dtype), atol=2e-5, rtol=2e-5)
    with torch.no_grad():
        for name, found in as_columns(score(it, mode)):
            torch.testing.assert_close(found.double(), expected[name], atol=1e-5, rtol=1e-5)


def score(case: Case, mode: Mode) -> TokenScores:
    return score_tokens(case.hidden, case.token_ids, case.layer, case.drawing, mode, case.reference)


def as_columns(scores: TokenScores) -> list[tuple[str, torch.Tensor]]:
    columns = {name: getattr(scores, name) for name in ("logprobs", "entropies", "divergences")}
    return [(name, column) for name, column in columns.items() if column is not None]


def whole(states: torch.Tensor, weight: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(functional.linear(states, weight).float(), token_ids, reduction="none")


def fused(states: torch.Tensor, weight: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    return functional.linear_cross_entropy(states, weight, token_ids, reduction="none")


@pytest.mark.parametrize(
    ("dtype", "other", "bound"),
    [(torch.float32, whole, 1e-5), (torch.float32, fused, 1e-5), (torch.bfloat16, whole, 1e-2)],
)
@pytest.mark.parametrize("scale", [0.1, 10.0, 100.0])
def test_tiles_say_what_pytorch_s_cross_entropies_say(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, other: Any, bound: float, scale: float
) -> None:
    """However far apart logits are, and wherever the highest of them is."""
    monkeypatch.setattr(vocabulary_tiles, "TILE_LOGITS", {"cpu": 64 * 100})
    torch.manual_seed(5)
    states = (scale * torch.randn(64, 32)).to(dtype).requires_grad_()
    weight = torch.randn(9_001, 32).to(dtype).requires_grad_()
    token_ids, everywhere = torch.randint(9_001, (64,)), torch.ones(64, dtype=torch.bool)
    drawing = Drawing(is_drawn=everywhere, temperature=1.0, forbidden_token_ids=())
    ours, _ = score_in_tiles(states, weight, token_ids, drawing, with_entropies=True, learns_entropies=False)
    theirs = -other(states, weight, token_ids)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1, scale), rtol=1e-5)
    mix = torch.linspace(-1, 2, 64)
    found, wanted = (torch.autograd.grad((mix * said).sum(), [states, weight]) for said in (ours, theirs))
    for gradient, right in zip(found, wanted, strict=True):
        assert (gradient - right).float().norm() <= bound * right.float().norm()


def test_entropies_that_are_only_told_have_no_gradient() -> None:
    it = case("plain", "all", forbids=False, compares=False)
    entropies = score(it, Mode.ENTROPIES).entropies
    assert entropies is not None
    assert not entropies.requires_grad


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("compares", [False, True])
def test_a_step_keeps_a_third_of_the_logits_of_a_real_vocabulary(mode: Mode, compares: bool) -> None:
    """What a forward and backward of the output layer hold at their most, beside what they are given and give back."""
    num_tokens, width, vocabulary = 512, 8, 152_064
    layer = OutputLayer(width, vocabulary, bias=False)
    hidden = torch.randn(num_tokens, width, requires_grad=True)
    drawing = Drawing(is_drawn=torch.arange(num_tokens) % 3 > 0, temperature=0.9, forbidden_token_ids=(5,))
    reference = distributions(torch.randn(num_tokens, width), layer, drawing) if compares else None
    token_ids = torch.randint(6, vocabulary, (num_tokens,))

    def step() -> None:
        scores = score_tokens(hidden, token_ids, layer, drawing, mode, reference)
        loss: Any = sum(column.sum() for _, column in as_columns(scores) if column.requires_grad)
        loss.backward()

    # The weight's own gradient is part of either.
    assert peak_bytes(step) <= (0.35 if compares else 0.05) * num_tokens * vocabulary * 4


def test_all_logits_would_show() -> None:
    layer, hidden = nn.Linear(8, 152_064, bias=False), torch.randn(64, 8, requires_grad=True)
    peak = peak_bytes(lambda: layer(hidden).log_softmax(-1)[:, 0].sum().backward())
    assert peak > 2 * 64 * 152_064 * 4
