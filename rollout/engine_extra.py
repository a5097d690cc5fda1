"""Further arguments of vLLM by name: which there are, and which are not for the user to set.

extra_faults(extra, names)   →  what is wrong with `rollout.engine.extra`, without vLLM
argument_names()             →  all that the installed vLLM has, read from its source; none where it is not installed
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = {
    "model": "learner.model sets it",
    "dtype": "rollout.engine.dtype sets it",
    "seed": "rollout.engine.seed sets it",
    "max_model_len": "rollout.engine.max_context_tokens sets it",
    "max_num_seqs": "rollout.engine.max_sequences sets it",
    "tensor_parallel_size": "rollout.engine.tensor_parallel_size sets it",
    "distributed_executor_backend": "rollout.engine.tensor_parallel_size decides it",
    "gpu_memory_utilization": "rollout.engine.gpu_memory_fraction sets it",
    "kv_cache_memory_bytes": "rollout.engine.cpu_cache_gib or gpu_memory_fraction sets it",
    "enable_sleep_mode": "rollout.engine.sleeps sets it",
    "weight_transfer_config": "rollout.engine.weight_transfer sets it",
    "enable_chunked_prefill": "on CPUs a prompt cut in two cannot be drawn with a seed, and on GPUs it is on",
    "worker_extension_cls": "what an engine holds is compared with what was sent by one of ours",
    "logprobs_mode": "the learner needs log-probabilities of the distribution that was drawn from",
    "mm_processor_cache_gb": "two processes would disagree where a request is cancelled, and pictures are kept anyway",
    "disable_log_stats": "nobody reads what vLLM would log",
    "use_tqdm_on_load": "a run's log has no room for bars",
}
"""Arguments that are set here, and by what."""


def extra_faults(extra: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(name, rule, fix) of each that cannot be; unknown ones only where there are `names` to know them by."""
    for name in extra:
        if name in OURS:
            yield name, OURS[name], "leave it out"
        elif names and name not in names:
            close = get_close_matches(name, names, n=1, cutoff=0.6)
            fix = f"did you mean '{close[0]}'?" if close else "its arguments are the fields of vllm.AsyncEngineArgs"
            yield name, "vLLM has no such engine argument", fix


@cache
def argument_names() -> frozenset[str]:
    """The fields of vLLM's AsyncEngineArgs; importing vLLM would take seconds."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        return frozenset()
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    return frozenset(
        field.target.id
        for kind in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(kind, ast.ClassDef) and kind.name in ("EngineArgs", "AsyncEngineArgs")
        for field in kind.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id[0] != "_"
    )
