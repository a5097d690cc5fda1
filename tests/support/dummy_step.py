"""The memory of an update as PyTorch's allocator saw it, in a process of its own.

measured(cases)   →  for each case (shape, learner options, dialogues): bytes at the most, and what a plan says of it
"""

import gc
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from cluster.planning.architecture import read_architecture
from cluster.planning.memory import learner_rows
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.sequence import sequences_of
from rollout.traffic import Traffic
from rollout.transcript import ChatTokens
from study.bench import shapes
from study.bench.learner_shape import join_alone
from tests.support.peak_bytes import peak_bytes


class Case(NamedTuple):
    """A model, as its config says, and how it learns."""

    shape: Mapping[str, Any]
    options: Mapping[str, Any]
    num_dialogues: int = 8


class Found(NamedTuple):
    """Bytes."""

    measured: float
    planned: float


def measured(cases: Sequence[Case]) -> list[Found]:
    """In the order of the cases."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure_all, cases).result()


def _measure_all(cases: Sequence[Case]) -> list[Found]:
    torch.set_num_threads(1)
    join_alone()
    return [_measure(case) for case in cases]


def _measure(case: Case) -> Found:
    with TemporaryDirectory() as name:
        folder = Path(name)
        shapes.SHAPES["case"] = case.shape
        shapes.write_shape("case", folder, room=1e12, bytes_a_parameter=16)
        chat = ChatTokens.load(folder)
        episodes = shapes.dialogues(chat, case.num_dialogues)
        sequences = [sequence for episode in episodes for sequence in sequences_of(episode, chat)]
        config = LearnerConfig.model_validate({"model": name, "advantage": {"kind": "grpo"}, **case.options})
        before = _tensors()
        learner = Learner(folder, config, temperature=1.0, chat=chat)
        groups = {sequence.trajectory: number // 4 for number, sequence in enumerate(sequences)}
        learner.update([sequences], groups)
        held = sum(size for at, size in _tensors().items() if at not in before)
        peak = held + peak_bytes(lambda: learner.update([sequences], groups))
        batches = list(learner.prepared([sequences]).batches())
        fullest = max(batches, key=lambda batch: batch.token_ids.numel())
        traffic = Traffic(
            tokens=fullest.token_ids.numel(), scored=fullest.traffic.scored, patches=fullest.traffic.patches
        )
        rows = learner_rows(config, read_architecture(folder), traffic, "cpu")
        return Found(peak, sum(learning for _, learning in rows.values()) * 2**30)


def _tensors() -> dict[int, int]:
    """Where values lie → how many bytes, of all tensors that there are."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor) and each.device.type == "cpu":
            storage = each.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found
