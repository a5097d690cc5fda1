"""The digest of a model is the same however its weights are stored, and another when a single bit of them is."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from rollout.weight_digest import PIECE, digest_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8)


def weights(seed: int, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 100).to(dtype)


@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 9), st.sampled_from(DTYPES))
def test_it_does_not_matter_how_they_are_stored(seed: int, rows: int, columns: int, dtype: torch.dtype) -> None:
    whole = weights(seed, rows, columns, dtype)
    padded = torch.cat([whole, torch.zeros(3, columns, dtype=dtype)])
    pieces = [*whole.unbind(0)]
    for stored in ([whole.T], [padded], pieces, [*reversed(pieces)], [whole.T.contiguous()]):
        assert digest_of(stored) == digest_of([whole])


@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 9), st.sampled_from(DTYPES), st.data())
def test_one_bit_makes_it_another(seed: int, rows: int, columns: int, dtype: torch.dtype, data: st.DataObject) -> None:
    whole = weights(seed, rows, columns, dtype)
    changed = whole.clone()
    size = changed.element_size()
    as_bytes = changed.view(torch.uint8).view(-1)
    place = data.draw(st.integers(0, rows * columns * size - 1))
    as_bytes[place] ^= 1 << data.draw(st.integers(0, 7))
    assert digest_of([changed]) != digest_of([whole])


def test_many_large_ones_do_not_overflow() -> None:
    largest = torch.full((PIECE + 3,), -(2**62), dtype=torch.int64)
    assert digest_of([largest] * 3) == -3 * (PIECE + 3) * 2**62 % 2**64
