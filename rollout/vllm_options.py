"""How vLLM is started: its arguments, and what its processes read from the environment; what differs between devices
differs here.

    with environment(config):
        AsyncLLM.from_engine_args(engine_arguments(model, config))
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from vllm.config import WeightTransferConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from rollout.config import EngineConfig
from rollout.engine import EngineError
from rollout.engine_extra import extra_faults
from rollout.weight_digest import Digests

PICKLING = "VLLM_ALLOW_INSECURE_SERIALIZATION"
"""Needed where weights come as handles of a GPU's memory."""
BATCHED_TOKENS = 8192
"""The most tokens that an engine reads at once, those of pictures among them, as a server of vLLM has it on large GPUs.
By itself vLLM would take 2,048 on smaller ones: two pictures of 896² pixels."""


def engine_arguments(model: Path, config: EngineConfig) -> AsyncEngineArgs:
    """Of a model in a folder."""
    on_cpu = current_platform.is_cpu()
    names = {field.name for field in fields(AsyncEngineArgs)}
    for name, rule, fix in extra_faults(config.extra, names):
        raise EngineError(f"rollout.engine.extra.{name}={config.extra[name]}: {rule}; {fix}")
    arguments = {
        # Only whole blocks are shared between the turns of an episode; vLLM's 128 tokens on CPUs are often a turn.
        "block_size": 32 if on_cpu else None,
        "max_num_batched_tokens": max(BATCHED_TOKENS, config.max_context_tokens) if on_cpu else BATCHED_TOKENS,
        "enforce_eager": on_cpu,  # compiling takes longer to start, and was no faster for small models
        **config.extra,
    }
    return AsyncEngineArgs(
        **arguments,
        model=str(model),
        dtype=config.dtype,
        seed=config.seed,
        max_model_len=config.max_context_tokens,
        max_num_seqs=config.max_sequences,
        tensor_parallel_size=config.tensor_parallel_size,
        distributed_executor_backend="uni" if config.tensor_parallel_size == 1 else "mp",
        gpu_memory_utilization=config.gpu_memory_fraction,
        kv_cache_memory_bytes=int(config.cpu_cache_gib * 2**30) if on_cpu else None,
        # A prompt that is cut in two makes vLLM turn a seeded generator back, which those of CPUs cannot do.
        enable_chunked_prefill=False if on_cpu else None,
        logprobs_mode="processed_logprobs",  # of the distribution that is sampled from, after the temperature
        enable_sleep_mode=config.sleeps,
        weight_transfer_config=WeightTransferConfig(backend=config.weight_transfer),
        worker_extension_cls=f"{Digests.__module__}.{Digests.__qualname__}",
        mm_processor_cache_gb=0,  # in its place stands rollout/vllm_pictures.py
        disable_log_stats=True,
        use_tqdm_on_load=False,
    )


@contextmanager
def environment(config: EngineConfig) -> Iterator[None]:
    """What vLLM's processes read from the environment when they start; what is set already stays as it is."""
    defaults = {
        # vLLM warns of every layer that has nothing to load, at each update; whether weights are right, the probe says.
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        **({PICKLING: "1"} if config.weight_transfer == "ipc" else {}),
    }
    if current_platform.is_cpu():
        # One core is for this process. More threads than cores that are free cost a factor of ten: they spin.
        defaults["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) - 1))
        # Bound threads would share the first cores with those of every other engine on the machine.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # For every number of rows oneDNN compiles another product of matrices, of 0.4 MiB, and keeps 1,024 of them:
        # memory would grow for thousands of episodes. The layers of a step still share one; compiling takes 0.2 ms.
        defaults["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "32"
        if config.tensor_parallel_size == 1:
            # On CPUs it takes this to have the model in the scheduler's process: one process and ten seconds less.
            defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added.keys() - {PICKLING}:  # on which both ends of vLLM's pipes must agree as long as they last
            os.environ.pop(name, None)
