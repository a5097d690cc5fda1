"""Micro-batches hold every sequence once, within the budget."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cluster.config import load_config
from envs.catalog import make_environment
from learner.batch import Layout, ModelInput, Rows, balance, empty_micro_batch, micro_batches
from learner.demonstrations.demonstration import DemonstrationConfig
from learner.demonstrations.make import make_demonstrations, to_episode
from learner.sequence import sequences_of
from rollout.transcript import ChatTokens

ROOT = Path(__file__).parents[3]
LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=30)


def inputs_of(lengths: list[int]) -> list[ModelInput]:
    """Each token is numbered over all sequences; all but the first of each are sampled."""
    starts = np.cumsum([0, *lengths])
    return [
        ModelInput(
            token_ids=np.arange(start, start + length),
            sampled_at=np.arange(1, length),
            first_number=int(start) - number,
        )
        for number, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


@given(LENGTHS, st.sampled_from(["padded", "packed"]), st.integers(40, 200))
def test_every_sample_once_and_at_its_place(lengths: list[int], layout: Layout, max_tokens: int) -> None:
    inputs = inputs_of(lengths)
    token_of_sample = np.concatenate([each.token_ids[each.sampled_at] for each in inputs])
    seen = []
    for batch in micro_batches(inputs, max_tokens=max_tokens, layout=layout, pad_token_id=-1):
        assert batch.token_ids.numel() <= max_tokens
        flat = batch.token_ids.flatten().numpy()
        assert (flat[batch.sampled_at] == token_of_sample[batch.numbers]).all()
        assert (flat[batch.ends_at] == token_of_sample[batch.end_numbers]).all()
        assert (flat != -1).sum() == batch.num_tokens
        if layout != "padded":
            # A position of 0 stands where a sequence begins, and where padding does.
            positions, first_tokens = (
                batch.inputs["position_ids"].flatten().numpy(),
                {each.token_ids[0] for each in inputs},
            )
            assert set(flat[(positions == 0) & (flat != -1)]) <= first_tokens
        seen += batch.numbers.tolist()
    assert sorted(seen) == list(range(len(token_of_sample)))


def test_layouts() -> None:
    [batch] = micro_batches(inputs_of([10, 6, 4, 5, 5]), max_tokens=100, layout="padded")
    assert batch.token_ids.shape == (5, 10) and batch.packing is None
    [batch] = micro_batches(inputs_of([10, 6, 4, 5, 5]), max_tokens=100, layout="packed")
    assert batch.token_ids.shape == (1, 30) and batch.packing is not None
    assert (batch.packing.lengths, batch.packing.starts.tolist()) == ((10, 6, 5, 5, 4), [0, 10, 16, 21, 26, 30])


DIALOGUES = {
    "general_points": ("nano_gp_l", {"kind": "suboptimal", "num_mistakes": 2, "count": 256}),
    "route_navigation": ("nano_virl_l", {"count": 48}),
}


@pytest.mark.parametrize("env", DIALOGUES)
def test_nothing_is_wasted_on_real_dialogues(env: str) -> None:
    model, data = DIALOGUES[env]
    chat = ChatTokens.load(ROOT / "models" / model)
    config = load_config([ROOT / "configs" / "envs" / f"{env}.yaml"])
    played = make_demonstrations(make_environment(config.env, config.verifier), DemonstrationConfig(**data))
    sequences = [each for one in played for each in sequences_of(to_episode(one, chat), chat)]
    inputs = inputs_of([len(each.token_ids) for each in sequences])
    batches = micro_batches(inputs, max_tokens=8192, layout="packed")
    assert len(batches) > 3
    assert sum(each.num_tokens for each in batches) == sum(each.token_ids.numel() for each in batches)
    assert sum(each.num_tokens for each in batches[:-1]) >= 0.97 * 8192 * (len(batches) - 1)


@given(LENGTHS, st.sampled_from(["padded", "packed"]), st.integers(1, 60))
def test_a_teacher_who_is_told_more_has_room_and_is_asked_the_same(
    lengths: list[int], layout: Layout, more: int
) -> None:
    inputs = inputs_of(lengths)
    told = [
        replace(
            each,
            told=replace(
                each,
                token_ids=np.concatenate([np.full(more, 10**6), each.token_ids]),
                sampled_at=each.sampled_at + more,
            ),
        )
        if number % 3
        else each
        for number, each in enumerate(inputs)
    ]
    for batch in micro_batches(told, max_tokens=200, layout=layout):
        told_more = batch.told or batch
        assert told_more.token_ids.numel() <= 200 and batch.token_ids.numel() <= 200
        assert told_more.numbers.tolist() == batch.numbers.tolist()
        ours, theirs = (each.token_ids.flatten()[each.sampled_at].tolist() for each in (batch, told_more))
        assert ours == theirs


def test_an_empty_micro_batch_teaches_nothing() -> None:
    assert len(empty_micro_batch().numbers) == 0
    assert micro_batches([], max_tokens=10, layout="packed") == []


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 8))
def test_balance(lengths: list[int], num_parts: int) -> None:
    parts = balance(lengths, num_parts)
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in part) for part in parts]
    # The longest-first rule is never further from even than one whole item.
    assert max(sums) - min(sums) <= max(lengths)


class Pixels:
    """A family that tells how many pictures are shown."""

    def inputs(self, rows: Rows, width: int, layout: Layout) -> dict[str, torch.Tensor]:
        return {"pixels": torch.zeros(sum(len(each.images) for row in rows for each in row))}


BLANK = ModelInput(
    token_ids=np.full(4, 7), sampled_at=np.zeros(0, np.int64), first_number=0, images=(Image.new("RGB", (8, 8)),)
)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_every_micro_batch_looks_at_a_picture_where_a_filler_is_given(layout: Layout) -> None:
    lengths = (9, 8, 8, 3, 6, 5)
    inputs, first = [], 0
    for number, length in enumerate(lengths):
        images = BLANK.images if number == 0 else ()
        sampled_at = np.arange(2, length)
        token_ids = np.full(length, number)
        inputs.append(ModelInput(token_ids=token_ids, sampled_at=sampled_at, first_number=first, images=images))
        first += len(sampled_at)
    batches = micro_batches(inputs, max_tokens=30, layout=layout, family=Pixels(), filler=BLANK)
    assert all(len(batch.inputs["pixels"]) for batch in batches) and len(batches) > 1
    assert sum(batch.num_tokens for batch in batches) == sum(lengths), "a filler is no token of a sequence"
    assert sorted(number for batch in batches for number in batch.numbers.tolist()) == list(range(first))
    assert max(batch.token_ids.numel() for batch in batches) <= 30 + (4 if layout == "packed" else 0)
    filled = [batch for batch in batches if (batch.token_ids == 7).any()]
    assert filled and all(len(batch.inputs["pixels"]) == 1 for batch in filled)
    for batch in filled:
        flat = batch.token_ids.flatten()
        assert not (flat[batch.sampled_at] == 7).any() and len(batch.ends_at) == len(batch.end_numbers)


def test_a_rank_that_has_nothing_left_looks_at_the_filler() -> None:
    batch = empty_micro_batch(BLANK, Pixels())
    assert batch.token_ids.tolist() == [[7] * 4]
    assert (len(batch.numbers), len(batch.ends_at), batch.num_tokens) == (0, 0, 0)
    assert len(batch.inputs["pixels"]) == 1
