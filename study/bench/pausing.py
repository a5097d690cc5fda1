"""How long an engine draws nothing when new weights come while it plays: 64 dialogues of the built-in nano model.

One long answer among those of the dialogues is watched token by token. Every step of the engine draws one of its tokens
too, so that the longest time between two of them, while weights come, is the pause: calls, loading and, where keys and
values of the older policy are not kept (`rollout.keep_cache`), reading all dialogues again.
"""

import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import ray
from transformers import AutoModelForCausalLM
from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from cluster.config import Config, load_config
from cluster.planning.hardware import look
from rollout.play import Task
from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
from rollout.receivers import Receivers
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import make_sender
from rollout.worker import RolloutWorker, stream
from study.bench import Row

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "nano_gp_l"
NUM_DIALOGUES = 64
APART_SECONDS = 0.7
AFTER_SECONDS = 0.4
"""So long after a push the engine may still be reading again what its dialogues have said."""


class _Watched(RolloutWorker):
    """A worker, one of whose answers is watched."""

    async def beat(self, num_tokens: int) -> list[float]:
        """When each token of a long answer came."""
        params = SamplingParams(
            max_tokens=num_tokens, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
        )
        prompt = tokens_input([5] * 8)
        return [time.monotonic() async for _ in self.engine._llm.generate(prompt, params, "beat")]


def pause_rows(num_pushes: int) -> list[Row]:
    """Play, push a few times meanwhile, and look at the watched answer; with what was cached thrown away, and kept."""
    return [row for kept in ("never", "within_lag") for row in _rows_of(kept, num_pushes)]


def _rows_of(kept: str, num_pushes: int) -> list[Row]:
    config = load_config(
        [ROOT / "configs" / "nano" / "gp_l.yaml"],
        [
            *(f"rollout.episodes_in_flight={NUM_DIALOGUES}", "env.max_attempts=5", f"learner.model={MODEL}"),
            *(f"rollout.keep_cache={kept}", "rollout.max_policy_lag=1"),
        ],
    )
    name = f"rollout-watched-{kept}"
    actor = ray.remote(_Watched).options(name=name, max_concurrency=1000, num_gpus=min(1, look().num_gpus))
    worker: Any = actor.remote(name, str(MODEL), config.rollout)
    ray.get(worker.start.remote())
    beats, pushes = _watch(worker, config, num_pushes)
    ray.get(worker.close.remote())
    steps = [after - before for before, after in pairwise(beats)]
    pauses = [
        max(after - before for before, after in pairwise(beats) if after > begun and before < ended + AFTER_SECONDS)
        for begun, ended in pushes
    ]
    what = f"push beside {NUM_DIALOGUES} dialogues, keep_cache={kept}"
    return [
        (f"{what}: an ordinary step", median(steps), "s"),
        (f"{what}: nothing is drawn, median", median(pauses), "s"),
        (f"{what}: nothing is drawn, longest", max(pauses), "s"),
        (f"{what}: until the probe has passed", median(ended - begun for begun, ended in pushes), "s"),
    ]


def _watch(worker: Any, config: Config, num_pushes: int) -> tuple[list[float], list[tuple[float, float]]]:
    """When tokens came, and from when to when each push went on."""
    module = AutoModelForCausalLM.from_pretrained(MODEL)
    client = Receivers.of([worker])
    sender = make_sender("shared_memory", client=client, source=HuggingFaceSource(module, MODEL))
    prompts = make_probe(module.config.vocab_size)
    logprobs = expected_logprobs(module, prompts)
    tolerance = TOLERANCES[config.rollout.engine.dtype]
    ends: list[float] = []

    def play() -> None:
        tasks = [Task(seed=seed) for seed in range(num_pushes * 4 * NUM_DIALOGUES)]
        for _ in stream("rollout-watched", worker, config.env, config.verifier, tasks, config.rollout):
            ends.append(time.monotonic())

    playing = Thread(target=play)
    playing.start()
    while len(ends) < NUM_DIALOGUES:
        time.sleep(0.05)
    beating = worker.beat.remote(config.rollout.engine.max_context_tokens - 16)
    pushes: list[tuple[float, float]] = []
    for version in range(1, num_pushes + 1):
        time.sleep(APART_SECONDS)
        begun = time.monotonic()
        sender.send(version)
        client.verify(ProbeExpectation(prompts=prompts, logprobs=logprobs, version=version, tolerance=tolerance))
        pushes.append((begun, time.monotonic()))
    beats: list[float] = ray.get(beating)
    playing.join()
    sender.close()
    last = pushes[-1][1]
    if max(ends) < last or max(beats) < last:
        raise RuntimeError("the dialogues ended before the last push: play more of them")
    return beats, pushes
