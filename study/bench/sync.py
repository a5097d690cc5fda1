"""How long a weight update takes, beside a plain copy of the same bytes in memory, and how long it keeps play waiting.

An update is everything that keeps an engine from playing: the calls through the Ray actor, loading, the resets of all
caches, and the probe that proves the weights right. The same weights go by one call a tensor too, as OpenRLHF sends
them. Beside running dialogues: pausing.py.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from transformers import AutoModelForCausalLM

from cluster.planning.hardware import look
from rollout.config import EngineConfig, RolloutConfig
from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
from rollout.receivers import Receivers
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import SyncReport, make_sender
from rollout.worker import start_worker
from study.bench import Row
from study.bench.pausing import pause_rows
from study.nano.random_model import write_nano_model

SIZES = {"nano": (192, 4), "small": (512, 8)}
"""Name → hidden size and number of layers."""
NUM_UPDATES = 7
NUM_COPIES = 7
CONFIG = RolloutConfig(engine=EngineConfig(max_context_tokens=512))


def rows(sizes: Mapping[str, tuple[int, int]] = SIZES, num_updates: int = NUM_UPDATES) -> list[Row]:
    """Update each size a few times."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        found = [row for size in sizes for row in _rows_of(size, *sizes[size], num_updates)]
        return found + pause_rows(num_updates)
    finally:
        ray.shutdown()


def _rows_of(size: str, hidden_size: int, num_layers: int, num_updates: int) -> list[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        num_parameters = write_nano_model(folder, hidden_size=hidden_size, num_layers=num_layers)
        worker = start_worker(f"rollout-{size}", folder, CONFIG, num_gpus=min(1, look().num_gpus))
        ray.get(worker.start.remote())
        module = AutoModelForCausalLM.from_pretrained(folder)
        reports, totals, gap = _update(worker, module, folder, num_updates)
        singly, by_tensor, _ = _update(worker, module, folder, num_updates, first=num_updates + 1, bucket_bytes=1)
        ray.get(worker.close.remote())
    seconds = statistics.median(totals)
    copying = _seconds_to_copy(reports[0].num_bytes)
    return [
        (f"{size}: parameters", num_parameters / 1e6, "million"),
        (f"{size}: bytes", reports[0].num_bytes / 2**20, "MiB"),
        (f"{size}: calls", reports[0].num_calls, "buckets"),
        (f"{size}: transfer and load", statistics.median(report.seconds for report in reports), "s"),
        (f"{size}: whole update, probe included", seconds, "s"),
        (f"{size}: calls, one a tensor", singly[0].num_calls, "calls"),
        (f"{size}: whole update, one call a tensor", statistics.median(by_tensor), "s"),
        (f"{size}: calls, one a tensor ÷ ours", singly[0].num_calls / reports[0].num_calls, "ratio"),
        (f"{size}: plain copy of the bytes", copying, "s"),
        (f"{size}: whole update / plain copy", seconds / copying, "ratio"),
        (f"{size}: largest log-probability gap", gap, "nats"),
    ]


def _update(
    worker: Any, module: Any, folder: Path, num_updates: int, *, first: int = 1, **options: Any
) -> tuple[list[SyncReport], list[float], float]:
    """Perturb and send the weights a few times: reports, seconds with the probe, and the largest gap; `options` are the
    sender's, whose buckets of one byte hold a tensor each."""
    client = Receivers.of([worker])
    sender = make_sender("shared_memory", client=client, source=HuggingFaceSource(module, folder), **options)
    prompts = make_probe(module.config.vocab_size)
    reports, totals, gaps = [], [], []
    for version in range(first, first + num_updates):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        expected = ProbeExpectation(
            prompts=prompts,
            logprobs=expected_logprobs(module, prompts),
            version=version,
            tolerance=TOLERANCES[CONFIG.engine.dtype],
        )
        started = time.perf_counter()
        reports.append(sender.send(version))
        gaps.append(client.verify(expected))
        totals.append(time.perf_counter() - started)
    sender.close()
    return reports, totals, max(gaps)


def _seconds_to_copy(num_bytes: int) -> float:
    source, target = torch.ones(num_bytes, dtype=torch.uint8), torch.empty(num_bytes, dtype=torch.uint8)
    costs = []
    for _ in range(NUM_COPIES):
        started = time.perf_counter()
        target.copy_(source)
        costs.append(time.perf_counter() - started)
    return statistics.median(costs)
