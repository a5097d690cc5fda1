"""How fast episodes are played, beside what the machine could do and what the original's way would do.

    (a) ours       multi-turn episodes through a Ray actor: environment, verifier, transcript, engine, log-probabilities
    (b) offline    vLLM's own `generate`, given all of (a)'s prompts at once and told how long each answer is
    (c) one by one Hugging Face `generate`, one answer at a time, as the original's code plays
    (d) batched    Hugging Face `generate`, left-padded batches

All four sample the same number of tokens after the same prompts, with the same random nano model, one after the other:
an idle vLLM worker polls, and would slow its neighbour. Each starts warm. (c) and (d) do a part of the work, since the
whole would take minutes.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from transformers import AutoModelForCausalLM

from cluster.planning.hardware import look
from envs.general_points import Config as GeneralPoints
from envs.protocol import EnvConfig
from rollout.config import EngineConfig, RolloutConfig
from rollout.episode import Episode
from rollout.play import Task
from rollout.worker import start_worker, stream
from study.bench import Row
from study.nano.random_model import write_nano_model
from verifier.config import VerifierConfig

ENVIRONMENT = GeneralPoints(name="general_points", max_attempts=3)
CONFIG = RolloutConfig(max_answer_tokens=40, engine=EngineConfig(max_context_tokens=512, max_sequences=256))

Job = tuple[list[int], int]
"""A prompt and how many tokens are drawn after it."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much work each of the four does."""

    num_episodes: int = 256
    """Of a round of (a)."""
    num_rounds: int = 3
    """Of (a) and (b), of which the median counts."""
    num_one_by_one: int = 12
    """Answers of (c)."""
    num_batched: int = 128
    """Answers of (d)."""
    batch_size: int = 64
    """Of (d)."""


def rows(sizes: Sizes = Sizes()) -> list[Row]:
    """Play, measure, compare."""
    with TemporaryDirectory() as name:
        model = Path(name)
        num_parameters = write_nano_model(model)
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            ours, episodes_per_second, jobs = _ours(model, sizes)
            offline = _offline(model, jobs, sizes.num_rounds)
            one_by_one = _hugging_face_speed(model, jobs[: sizes.num_one_by_one], batch_size=1)
            batched = _hugging_face_speed(model, jobs[: sizes.num_batched], batch_size=sizes.batch_size)
        finally:
            ray.shutdown()
    return [
        ("parameters", num_parameters / 1e6, "million"),
        ("(a) ours, multi-turn", episodes_per_second, "episodes/s"),
        ("(a) ours, multi-turn", ours, "tokens/s"),
        ("(b) vLLM offline, the same tokens", offline, "tokens/s"),
        ("(c) Hugging Face, one by one", one_by_one, "tokens/s"),
        ("(d) Hugging Face, batched", batched, "tokens/s"),
        ("(a)/(b)", ours / offline, "ratio"),
        ("(a)/(c)", ours / one_by_one, "ratio"),
        ("(a)/(d)", ours / batched, "ratio"),
    ]


def _ours(model: Path, sizes: Sizes) -> tuple[float, float, list[Job]]:
    """(a): median tokens/s and episodes/s, and one round's jobs."""
    worker = start_worker("rollout-0", model, CONFIG, num_gpus=min(1, look().num_gpus))
    ray.get(worker.start.remote())
    play(worker, range(sizes.num_episodes))
    speeds, per_second, jobs = [], [], []
    for number in range(1, sizes.num_rounds + 1):
        first = 1000 * number
        episodes, seconds = play(worker, range(first, first + sizes.num_episodes))
        jobs = [job for episode in episodes for job in _jobs(episode)]
        speeds.append(sum(num for _, num in jobs) / seconds)
        per_second.append(len(episodes) / seconds)
    ray.get(worker.close.remote())
    return statistics.median(speeds), statistics.median(per_second), jobs


def _offline(model: Path, jobs: list[Job], num_rounds: int) -> float:
    """(b): median tokens/s over the same jobs."""
    raw = ray.remote(_OfflineEngine).remote(str(model))
    ray.get(raw.start.remote())
    seconds: list[float] = [ray.get(raw.seconds.remote(jobs)) for _ in range(num_rounds + 1)]
    ray.get(raw.close.remote())
    return sum(num for _, num in jobs) / statistics.median(seconds[1:])


def play(
    worker: Any, seeds: range, env: EnvConfig = ENVIRONMENT, config: RolloutConfig = CONFIG
) -> tuple[list[Episode], float]:
    """Those tasks' episodes, and how many seconds they took."""
    tasks = [Task(seed=seed) for seed in seeds]
    started = time.perf_counter()
    played = list(stream("rollout-0", worker, env, VerifierConfig(), tasks, config))
    seconds = time.perf_counter() - started
    return ray.get([reference for _, reference in played]), seconds


def _jobs(episode: Episode) -> Iterator[Job]:
    """The engine's work for one episode: for each turn, all tokens before the answer, and the answer's length."""
    context: list[int] = []
    for turn in episode.turns:
        context = [] if turn.starts_new_context else context
        context += turn.shown_token_ids.tolist()
        yield list(context), len(turn.sampled_token_ids)
        context += turn.sampled_token_ids.tolist()


class _OfflineEngine:
    """vLLM's offline engine in an actor of its own, in the surroundings that ours has."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._engine: Any = None

    def start(self) -> None:
        """Load the model as ours is loaded."""
        from vllm import LLM

        self._engine = LLM(
            self._model,
            dtype=CONFIG.engine.dtype,
            max_model_len=CONFIG.engine.max_context_tokens,
            max_num_seqs=CONFIG.engine.max_sequences,
            kv_cache_memory_bytes=int(CONFIG.engine.cpu_cache_gib * 2**30),
            enforce_eager=True,
            distributed_executor_backend="uni",
        )

    def seconds(self, jobs: list[Job]) -> float:
        """How long it takes over all jobs at once."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt, _ in jobs]
        params = [SamplingParams(max_tokens=num, min_tokens=num, ignore_eos=True) for _, num in jobs]
        self._engine.reset_prefix_cache()
        started = time.perf_counter()
        self._engine.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - started

    def close(self) -> None:
        """End vLLM's process."""
        self._engine.llm_engine.engine_core.shutdown()


def _hugging_face_speed(model: Path, jobs: Sequence[Job], *, batch_size: int) -> float:
    """Sampled tokens per second of Hugging Face `generate`."""
    policy: Any = AutoModelForCausalLM.from_pretrained(model).eval()
    pad = policy.config.pad_token_id
    started = time.perf_counter()
    for batch in _batches(jobs, batch_size):
        longest = max(len(prompt) for prompt, _ in batch)
        token_ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt, _ in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in batch])
        num = max(num for _, num in batch)
        with torch.inference_mode():
            policy.generate(
                token_ids, attention_mask=mask, do_sample=True, top_k=0, min_new_tokens=num, max_new_tokens=num
            )
    return sum(num for _, num in jobs) / (time.perf_counter() - started)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Runs of `size` jobs."""
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
