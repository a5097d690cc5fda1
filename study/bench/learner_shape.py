"""`ruleshift bench learner --shape NAME`: an update of a model as wide as a public one, ours and without each saving.

    bare           the same micro-batches, attention and output layer, entropies included, in a loop that does nothing
                   else
    ours           all of what an update does, from episodes to new weights
    without …      ours with one saving switched off
    output layer   alone, beside PyTorch's fused cross-entropy

Each is measured in a process of its own: tokens of the dialogues by the seconds of an update, the share of what the
device could do at its best that went into the model's own work (MFU), and the most memory beyond what the process held
before its model. The limit is the bare loop.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cluster.planning.hardware import GIB, look
from learner import token_scorer
from learner.batch import micro_batches
from learner.config import LearnerConfig
from learner.deepspeed_engine import join_ranks
from learner.device_peak import peak_flops, peak_memory
from learner.learner import Learner
from learner.policy_model import choose_layout, load_policy, size_of
from learner.sequence import TrainingSequence, sequences_of
from learner.token_scorer import Mode
from rollout.traffic import total
from rollout.transcript import ChatTokens
from study.bench import Row, output_layer
from study.bench.shapes import dialogues, write_shape

NUM_UPDATES = 3
"""The first is not counted: it warms caches up."""
BYTES_A_PARAMETER = {"float32": 16, "bfloat16": 18}
"""Weights, gradients, AdamW, and float32 weights beside those in bfloat16."""
SHARE = 0.4
"""Of the device's memory is for these, and the rest for activations."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement."""

    folder: Path
    num_dialogues: int
    options: dict[str, Any]
    """Of the learner."""
    without: str = ""
    """The saving that is switched off: one of WITHOUT, or none."""
    is_bare: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of it."""

    tokens_per_second: float
    mfu: float | None
    peak_gib: float


def rows(shape: str, tokens: int = 8192, num_dialogues: int = 48) -> list[Row]:
    """Measure and compare."""
    hardware = look()
    on_gpu = bool(hardware.num_gpus)
    dtype = "bfloat16" if on_gpu else "float32"
    memory = hardware.gpu_memory_gib if on_gpu else hardware.memory_gib
    with TemporaryDirectory() as name:
        folder = Path(name)
        written = write_shape(shape, folder, room=SHARE * memory * GIB, bytes_a_parameter=BYTES_A_PARAMETER[dtype])
        options = {"model": name, "dtype": dtype, "micro_batch_tokens": tokens, "advantage": {"kind": "grpo"}}
        job = Job(folder=folder, num_dialogues=num_dialogues, options=options)
        found: list[Row] = [
            ("parameters", written.num_parameters / 1e6, "million"),
            (f"layers, of {written.of_layers}", written.num_layers, "layers"),
        ]
        found += _apart(partial(output_layer.rows, written.width, written.vocabulary, getattr(torch, dtype)))
        bare, ours = _in_turn(replace(job, is_bare=True), job)
        found += [*_figures("bare loop", bare), *_figures("ours", ours)]
        found.append(("ours ÷ bare", ours.tokens_per_second / bare.tokens_per_second, "ratio"))
        for without in WITHOUT:
            other = measured(replace(job, without=without))
            found += [
                *_figures(f"without {without}", other),
                (f"ours ÷ without {without}", ours.tokens_per_second / other.tokens_per_second, "times as fast"),
                (f"ours ÷ without {without}", ours.peak_gib / other.peak_gib, "of the memory"),
            ]
    return found


def measured(job: Job) -> Found:
    """In a process of its own."""
    return _apart(partial(_measure, job))


def _in_turn(one: Job, other: Job) -> tuple[Found, Found]:
    """Each twice, and the better of both: a machine is not as fast from minute to minute."""
    found = [measured(job) for job in (one, other, other, one)]
    pairs = (found[0], found[3]), (found[1], found[2])
    first, second = (max(pair, key=lambda each: each.tokens_per_second) for pair in pairs)
    return first, second


def _apart(make: Callable[[], Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(make).result()


def _figures(title: str, found: Found) -> list[Row]:
    figures = [(title, found.tokens_per_second, "tokens/s"), (title, found.peak_gib, "GiB")]
    return figures + ([(title, 100 * found.mfu, "% MFU")] if found.mfu is not None else [])


def _measure(job: Job) -> Found:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    chat = ChatTokens.load(job.folder)
    played = dialogues(chat, job.num_dialogues)
    sequences = [sequence for episode in played for sequence in sequences_of(episode, chat)]
    options = dict(job.options)
    if job.without:
        WITHOUT[job.without](options)
    config = LearnerConfig.model_validate(options)
    join_alone()
    before = _resident()
    update = (_bare_update if job.is_bare else _update)(job.folder, config, chat, sequences)
    peak_memory()
    seconds, held = [], []
    for _ in range(NUM_UPDATES):
        started = time.perf_counter()
        held.append(update.run())
        seconds.append(time.perf_counter() - started)
    best, peak = min(seconds[1:]), peak_flops(getattr(torch, config.dtype))
    return Found(
        tokens_per_second=sum(each.num_tokens for each in sequences) / best,
        mfu=update.flops / best / peak if peak else None,
        peak_gib=(max(held) - before) / GIB,
    )


def join_alone() -> None:
    """Be the only rank, in this process."""
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    join_ranks(0, 1, address, timeout_seconds=600)


def _resident() -> int:
    """What this process holds that is not its model's; a GPU's own count begins at nothing."""
    if torch.cuda.is_available():
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Update:
    """Learns once, and says how many bytes that took at the most; and what the model's own work in it is."""

    run: Callable[[], float]
    flops: float


def _update(folder: Path, config: LearnerConfig, chat: ChatTokens, sequences: Sequence[TrainingSequence]) -> Update:
    learner = Learner(folder, config, temperature=1.0, chat=chat)
    # Four dialogues of one task each.
    groups = {each.trajectory: number // 4 for number, each in enumerate(sequences)}
    traffic = total(learner.policy.family.model_input(each, 0).traffic for each in sequences)
    return Update(
        lambda: GIB * learner.update([sequences], groups).metrics["peak_memory_gib"], learner.size.learn(traffic)
    )


def _bare_update(
    folder: Path, config: LearnerConfig, chat: ChatTokens, sequences: Sequence[TrainingSequence]
) -> Update:
    """What one would write for this model alone, with everything made ready beforehand."""
    policy = load_policy(folder, config, chat).to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6)
    inputs = [policy.family.model_input(each, 0) for each in sequences]
    layout = choose_layout(config.layout, policy)
    tokens = config.micro_batch_tokens
    batches = micro_batches(inputs, max_tokens=tokens, layout=layout, family=policy.family, filler=None)
    count = sum(len(batch.sampled_at) for batch in batches)
    device = next(policy.parameters()).device

    def update() -> float:
        for batch in batches:
            is_drawn = torch.ones(len(batch.sampled_at), dtype=torch.bool, device=device)
            said = policy(batch.to(device), is_drawn, 1.0, Mode.ENTROPIES)
            loss = said.logprobs.sum() + 0.0 * said.values.sum()
            (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return peak_memory()

    size = size_of(policy, recomputes=False)
    return Update(update, size.learn(total(each.traffic for each in inputs)))


def _padded(options: dict[str, Any]) -> None:
    options["layout"] = "padded"


def _whole_logits(options: dict[str, Any]) -> None:
    token_scorer.FEW_LOGITS = sys.maxsize


def _looking(options: dict[str, Any]) -> None:
    LearnerConfig.looks_for_logprobs = lambda self, num_steps: True


WITHOUT: dict[str, Callable[[dict[str, Any]], None]] = {
    "several dialogues to a row": _padded,
    "logits in parts": _whole_logits,
    "leaving out a look": _looking,
}
"""Savings, and what switches each off in the process that measures."""
