"""The options of the rollout section."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class EngineConfig(BaseModel):
    """How a policy is loaded into a rollout engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The precision of weights and activations; CPUs want float32, GPUs bfloat16."""
    max_context_tokens: int = Field(default=1024, ge=16)
    """The longest dialogue, pictures and answer included. An episode whose next question does not fit, with room for
    one whole answer, is truncated."""
    max_sequences: int = Field(default=256, ge=1)
    """How many answers are drawn at once."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """How many GPUs share one engine."""
    gpu_memory_fraction: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU's memory that the engine takes."""
    cpu_cache_gib: float = Field(default=1.0, gt=0)
    """Memory for keys and values where there is no GPU, in GiB."""
    sleeps: bool = False
    """Whether the engine gives its GPU memory back while the learner learns; wanted where both share GPUs. Its weights
    are given up then, and come again with the next update."""
    weight_transfer: Literal["shared_memory", "nccl", "ipc"] = "shared_memory"
    """How new weights arrive: `shared_memory` on CPUs, `nccl` from other GPUs, `ipc` from the same GPU."""
    seed: int = 0
    """Of the engine's own generator; answers that name a seed do not depend on it."""
    extra: dict[str, Any] = {}
    """Further arguments of vLLM's AsyncEngineArgs by name, as in `{kv_cache_dtype: fp8}`. What other options set is
    refused."""


class RolloutConfig(BaseModel):
    """How episodes are played."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: EngineConfig = EngineConfig()
    """How the policy is loaded."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    """Divides the logits when answers are drawn; 0 takes the likeliest token."""
    max_answer_tokens: int = Field(default=256, ge=1)
    """The most tokens of one answer."""
    episodes_in_flight: int = Field(default=256, ge=1)
    """How many episodes a worker plays at once."""
    environment_threads: int = Field(default=4, ge=1)
    """Threads in which environments and verifiers run, so that neither holds the engine up."""
    episode_timeout_seconds: float = Field(default=600.0, gt=0)
    """An episode that takes longer is truncated."""
    max_policy_lag: int = Field(default=0, ge=0, le=8)
    """0: every episode is played by the newest policy. 1 or more: episodes are played while the learner learns, and
    dropped when one of their tokens is more than this many versions old."""
    keep_cache: Literal["never", "within_lag"] = "never"
    """Whether dialogues in play keep their keys and values when new weights come. `never`: all are computed again, by
    the new weights. `within_lag`: they are kept, so that a token may be drawn by several versions together, which only
    importance weights put right: it needs `max_policy_lag` of at least 1 and `learner.loss.importance_cap`."""
    max_failed_fraction: float = Field(default=0.1, ge=0, le=1)
    """The share of an iteration's episodes that may fail by a fault of the environment before the run stops."""
