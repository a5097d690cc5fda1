"""Sequences become tensors: micro-batches that hold as many sequences as fit.

    ModelInput      a sequence as the model sees it, pictures expanded
    micro_batches   ModelInputs → micro-batches under a token budget, in one of two layouts
    MicroBatch      what goes through the model at once

Legend: B rows, R tokens in a row, n sampled tokens in the micro-batch, k sequences in it.

    packed   all sequences in one row             positions start at 0 with each, and attention stays inside
    padded   a sequence to a row, zeros behind    positions by themselves

What a model wants to be told beside tokens, its family says (learner/families).

No layout changes any number, since tokens attend backwards only and never across a sequence's first token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapreplace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image

from learner.packed_attention import Packing
from rollout.traffic import Traffic, total

Layout = Literal["padded", "packed"]


class BatchError(ValueError):
    """Sequences cannot be put through the model as configured; the message names the key and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """A sequence as the model sees it: `ModelInput(token_ids=[5, 9, 4, 8, 2], sampled_at=[3, 4], first_number=0)`."""

    token_ids: npt.NDArray[np.int64]
    """The record's tokens, each picture's placeholder expanded to as many as the model wants."""
    sampled_at: npt.NDArray[np.int64]
    """The positions of sampled tokens."""
    first_number: int
    """The number of its first sampled token among all of this rank's; the others follow."""
    images: tuple[Image, ...] = ()
    """Its pictures, in order."""
    of_images: Traffic = field(default_factory=Traffic)
    """What of these goes through the vision tower and the projector."""
    told: "ModelInput | None" = None
    """The same sequence as a teacher sees it, where he is told more: he is asked about the same sampled tokens."""

    @property
    def num_tokens(self) -> int:
        """How many tokens go through the model."""
        return len(self.token_ids)

    @property
    def room(self) -> int:
        """How many tokens it may be, for whoever is told most."""
        return max(self.num_tokens, self.told.num_tokens if self.told else 0)

    @property
    def traffic(self) -> Traffic:
        """What goes through the model, and what it is asked for: each sampled token, and the worth behind the last."""
        length, sampled = len(self.token_ids), len(self.sampled_at)
        pairs = length * (length + 1) // 2
        return self.of_images + Traffic(tokens=length, scored=sampled, valued=sampled + 1, pairs=pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What goes through the model at once."""

    token_ids: torch.Tensor
    """[B, R]"""
    sampled_at: torch.Tensor
    """[n] the positions of sampled tokens in the flattened rows."""
    numbers: torch.Tensor
    """[n] their numbers among all of this rank's sampled tokens."""
    ends_at: torch.Tensor
    """[k] where each sequence's last sampled token stands in the flattened rows."""
    end_numbers: torch.Tensor
    """[k] the number of that token."""
    inputs: Mapping[str, torch.Tensor]
    """What the model is told beside: positions, pictures, and whatever its family wants, by name."""
    traffic: Traffic
    """What of sequences goes through the model, neither padding nor filler."""
    packing: Packing | None = None
    """Where sequences begin in the only row, where all are in one."""
    told: "MicroBatch | None" = None
    """The same sequences, row by row, as a teacher sees them, where he is told more."""
    seen: dict[Any, Any] = field(default_factory=dict)
    """What models whose eyes do not learn have said of its pictures, by model: it is the same whenever they look."""

    def through(self, model: Any) -> Traffic:
        """What of it goes through a model that is asked now."""
        return self.traffic.without_pictures() if model in self.seen else self.traffic

    @property
    def num_tokens(self) -> int:
        """How many tokens are those of sequences, and neither padding nor filler."""
        return self.traffic.tokens

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name, value in moved.items():
            if isinstance(value, torch.Tensor):
                moved[name] = value.to(device, non_blocking=True)
        moved |= {name: part and part.to(device) for name, part in (("told", self.told), ("packing", self.packing))}
        moved["inputs"] = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        return MicroBatch(**moved)


Rows = Sequence[Sequence[ModelInput]]
"""The sequences of each row."""


class Teller(Protocol):
    """What a model is told of rows beside their tokens; families do (learner/families/family.py)."""

    def inputs(self, rows: Rows, width: int, layout: Layout) -> Mapping[str, torch.Tensor]: ...


class _Words:
    """Of a model without eyes."""

    def inputs(self, rows: Rows, width: int, layout: Layout) -> Mapping[str, torch.Tensor]:
        return {} if layout == "padded" else {"position_ids": positions(rows, width)}


def micro_batches(
    inputs: Sequence[ModelInput],
    *,
    max_tokens: int,
    layout: Layout,
    pad_token_id: int = 0,
    family: Teller | None = None,
    filler: ModelInput | None = None,
) -> list[MicroBatch]:
    """All sequences, each once, in micro-batches of at most `max_tokens` tokens with padding.

    `filler` is a row that is added wherever no picture would be shown: ranks put weights and gradients together, and
    so all of them have to look at the same time.
    """
    longest = max((each.room for each in inputs), default=0)
    if longest > max_tokens:
        raise BatchError(
            f"learner.micro_batch_tokens={max_tokens}: a sequence of {longest} tokens does not fit into a micro-batch; "
            f"set it to {longest} or more, or lower rollout.engine.max_context_tokens"
        )
    batches = []
    for rows in _rows(inputs, max_tokens, layout, filler):
        if filler is not None and not any(each.images for row in rows for each in row):
            rows[-1:] = [[*rows[-1], filler]] if layout == "packed" else [rows[-1], [filler]]
        batch = micro_batch(rows, layout, pad_token_id, family)
        if any(each.told for row in rows for each in row):
            told = [[each.told or each for each in row] for row in rows]
            batch = replace(batch, told=micro_batch(told, layout, pad_token_id, family))
        batches.append(batch)
    return batches


def empty_micro_batch(filler: ModelInput | None = None, family: Teller | None = None) -> MicroBatch:
    """One that teaches nothing, for a rank that has nothing left while others go on."""
    return micro_batch([[filler or _NOTHING]], "padded", 0, family)


def positions(rows: Rows, width: int) -> torch.Tensor:
    """[B, R], from 0 in each sequence and in what is behind the last."""
    position_ids = np.zeros((len(rows), width), np.int64)
    for number, row in enumerate(rows):
        start = 0
        for length in [*(each.num_tokens for each in row), width - _length(row)]:
            position_ids[number, start : start + length] = np.arange(length)
            start += length
    return torch.from_numpy(position_ids)


_NOTHING = ModelInput(token_ids=np.zeros(2, np.int64), sampled_at=np.zeros(0, np.int64), first_number=0)
"""Two tokens of no meaning."""


def balance(lengths: Sequence[int], num_parts: int) -> list[list[int]]:
    """The indices of the lengths in parts of nearly equal sums, each part in the order given."""
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    smallest = [(0, 0, part) for part in range(num_parts)]  # a heap: the sum, the count and the number of each
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length, count, part = smallest[0]
        parts[part].append(index)
        heapreplace(smallest, (length + lengths[index], count + 1, part))
    return [sorted(part) for part in parts]


def _rows(
    inputs: Sequence[ModelInput], max_tokens: int, layout: Layout, filler: ModelInput | None
) -> list[list[list[ModelInput]]]:
    """The rows of each micro-batch; the longest sequences first, so that those of one are of nearly one length."""
    ordered = sorted(inputs, key=lambda each: -each.room)
    if layout == "padded":
        return _grouped(ordered, max_tokens, spare_rows=int(filler is not None))
    longest = ordered[0].room if ordered else 0
    return [[row] for row in _filled(ordered, max(longest, max_tokens - (filler.room if filler else 0)))]


def _filled(ordered: Sequence[ModelInput], capacity: int) -> list[list[ModelInput]]:
    """Each into the first row that has room for it."""
    rows: list[list[ModelInput]] = []
    free: list[int] = []
    for each in ordered:
        fitting = next((index for index, room in enumerate(free) if room >= each.room), None)
        if fitting is None:
            rows.append([])
            free.append(capacity)
            fitting = len(rows) - 1
        rows[fitting].append(each)
        free[fitting] -= each.room
    return rows


def _grouped(ordered: Iterable[ModelInput], max_tokens: int, spare_rows: int) -> list[list[list[ModelInput]]]:
    """A row for each, as many to a micro-batch as leave room for so many rows more."""
    groups: list[list[list[ModelInput]]] = []
    for each in ordered:
        if not groups or groups[-1][0][0].room * (len(groups[-1]) + 1 + spare_rows) > max_tokens:
            groups.append([])
        groups[-1].append([each])
    return groups


def _length(row: Sequence[ModelInput]) -> int:
    return sum(each.num_tokens for each in row)


def micro_batch(rows: Rows, layout: Layout, pad_token_id: int = 0, family: Teller | None = None) -> MicroBatch:
    """Of these rows; one, where sequences are packed."""
    width = max(_length(row) for row in rows)
    token_ids = np.full((len(rows), width), pad_token_id, np.int64)
    sampled_at, numbers, ends = [], [], []
    for number, row in enumerate(rows):
        start = 0
        for each in row:
            end = start + each.num_tokens
            token_ids[number, start:end] = each.token_ids
            sampled_at.append(number * width + start + each.sampled_at)
            numbers.append(each.first_number + np.arange(len(each.sampled_at)))
            if len(each.sampled_at):
                last = number * width + start + each.sampled_at[-1]
                ends.append((last, each.first_number + len(each.sampled_at) - 1))
            start = end
    ends_at, end_numbers = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).unbind(1)
    return MicroBatch(
        token_ids=torch.from_numpy(token_ids),
        sampled_at=torch.from_numpy(np.concatenate(sampled_at)),
        numbers=torch.from_numpy(np.concatenate(numbers)),
        ends_at=ends_at,
        end_numbers=end_numbers,
        inputs=(family or _Words()).inputs(rows, width, layout),
        traffic=total(each.traffic for row in rows for each in row if len(each.sampled_at)),
        packing=Packing.of([each.num_tokens for each in rows[0]]) if layout == "packed" else None,
    )
