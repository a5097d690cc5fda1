"""Packed attention is each sequence's own, whatever the heads, the lengths and the window."""

from contextlib import nullcontext
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from learner import packed_attention
from learner.packed_attention import Packing, UntoldPacking

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
}


def by_hand(states: list[torch.Tensor], packing: Packing, scale: float, window: int | None) -> torch.Tensor:
    """All scores of all tokens in double precision, and none but a sequence's own kept."""
    query, key, value = (each[0].double() for each in states)
    key, value = (each.repeat_interleave(query.shape[0] // each.shape[0], 0) for each in (key, value))
    sequence = torch.repeat_interleave(torch.arange(len(packing.lengths)), torch.tensor(packing.lengths))
    at = torch.arange(len(sequence))
    may = (sequence[:, None] == sequence) & (at[:, None] >= at)
    if window:
        may &= at[:, None] - at < window
    scores = (query @ key.transpose(1, 2) * scale).masked_fill(~may, float("-inf"))
    return (scores.softmax(-1) @ value).transpose(0, 1)[None]


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.sampled_from([None, 1, 5]),
    st.integers(0, 2**31),
)
def test_a_sequence_sees_itself_alone(
    lengths: list[int], heads: tuple[int, int], window: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    packing = Packing.of(lengths)
    states = [torch.randn(1, count, sum(lengths), 8, requires_grad=True) for count in (heads[0], heads[1], heads[1])]
    query, key, value = states
    module: Any = SimpleNamespace(num_key_value_groups=heads[0] // heads[1], is_causal=True)
    found, _ = packed_attention._attend(module, query, key, value, None, packing, scaling=0.3, sliding_window=window)
    expected = by_hand(states, packing, 0.3, window)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    mix = torch.randn(found.shape)
    ours, theirs = (torch.autograd.grad((mix * said).sum(), states) for said in (found, expected))
    for gradient, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, right, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 7])
def test_the_kernel_of_gpus_takes_and_gives_what_the_others_do(window: int | None) -> None:
    """Shapes alone, forwards and backwards: the kernel itself runs on GPUs only."""
    with FakeTensorMode():
        states = [torch.empty(1, count, 30, 32, dtype=torch.bfloat16, requires_grad=True) for count in (4, 2, 2)]
        packing = Packing(lengths=(10, 20), starts=torch.empty(3, dtype=torch.int32))
        query, key, value = states
        found = packed_attention._at_once(query, key, value, packing, 0.3, window)
        assert (found.shape, found.dtype) == ((1, 30, 4, 32), torch.bfloat16)
        found.sum().backward()
        assert [each.grad is not None and each.grad.shape == each.shape for each in states] == [True] * 3


def run(model: Any, token_ids: torch.Tensor, packing: Packing | None) -> torch.Tensor:
    if packing is None:
        return model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
    positions = torch.cat([torch.arange(length) for length in packing.lengths])[None]
    with packing.told() as told:
        return model.base_model(input_ids=token_ids, position_ids=positions, use_cache=False, **told).last_hidden_state


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (LlamaForCausalLM, LlamaConfig(**SHAPE)),
        (MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=5)),
    ],
    ids=["all before", "a window"],
)
def test_a_model_reads_each_sequence_as_alone_and_learns_the_same(kind: Any, config: Any, recomputes: bool) -> None:
    torch.manual_seed(1)
    model = kind._from_config(config, attn_implementation="sdpa").train()
    if recomputes:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    random = Random(2)
    lengths = [random.randint(1, 16) for _ in range(5)]
    parts = [torch.randint(60, (1, length)) for length in lengths]
    weights = list(model.base_model.parameters())
    alone = torch.cat([run(model, part, None) for part in parts], 1)
    packed_attention.use(model)
    again = torch.cat([run(model, part, None) for part in parts], 1)
    together = run(model, torch.cat(parts, 1), Packing.of(lengths))
    mix = torch.randn(alone.shape)
    expected = torch.autograd.grad((mix * alone).sum(), weights)
    for found in (again, together):
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
        gradients = torch.autograd.grad((mix * found).sum(), weights)
        for gradient, right in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, right, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sliding_attention", "chunked_attention"])
def test_a_layer_that_a_mask_alone_tells_how_far_to_look_cannot_be_packed(kind: str) -> None:
    config = SimpleNamespace(layer_types=["full_attention", kind])
    states = [torch.randn(1, 2, 9, 8) for _ in range(3)]
    query, key, value = states
    for layer, is_refused in ((0, False), (1, True)):
        module: Any = SimpleNamespace(config=config, layer_idx=layer, is_causal=True)
        with pytest.raises(UntoldPacking, match="by a mask alone") if is_refused else nullcontext():
            packed_attention._attend(module, query, key, value, None, Packing.of([4, 5]), scaling=0.3)


def test_a_model_that_keeps_it_from_its_attention_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPE), attn_implementation="sdpa")
    packed_attention.use(model)
    forward = LlamaAttention.forward

    def forgetting(self: Any, *args: Any, packing: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaAttention, "forward", forgetting)
    with pytest.raises(UntoldPacking, match="LlamaAttention is not told where sequences begin"):
        run(model, torch.randint(60, (1, 9)), Packing.of([4, 5]))
