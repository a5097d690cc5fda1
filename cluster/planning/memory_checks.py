"""Whether it all fits into memory, and what to change where it does not."""

from collections.abc import Iterator

from cluster.config import Config
from cluster.faults import Finding, note
from cluster.planning.memory import HOST, Cache, Memory

FEW_DIALOGUES = 8


def memory_findings(config: Config, memory: tuple[Memory, ...], cache: Cache) -> Iterator[Finding]:
    """Room for keys and values, then each kind of device."""
    yield from _cache(config, cache)
    for device in memory:
        if device.fits:
            continue
        yield _of_host(config, device) if device.device == HOST else _of_gpu(config, device)


def _cache(config: Config, cache: Cache) -> Iterator[Finding]:
    engine = config.rollout.engine
    on_gpu = config.cluster.placement != "cpu"
    key = f"rollout.engine.{'gpu_memory_fraction' if on_gpu else 'cpu_cache_gib'}"
    value = engine.gpu_memory_fraction if on_gpu else engine.cpu_cache_gib
    dialogues = cache.num_tokens // engine.max_context_tokens
    room = f"leaves {max(cache.gib, 0):.2g} GiB for keys and values, which is {cache.num_tokens:,} tokens"
    if dialogues < 1:
        yield Finding(
            key=key,
            value=value,
            rule=f"{room}; one dialogue may have rollout.engine.max_context_tokens={engine.max_context_tokens}",
            fix="raise it, lower max_context_tokens, or choose a smaller model",
        )
    elif dialogues < min(FEW_DIALOGUES, engine.max_sequences):
        yield note(
            key, value, f"{room}, or {dialogues} whole dialogues at once", "raise it, or lower max_context_tokens"
        )


def _of_gpu(config: Config, device: Memory) -> Finding:
    learner, engine = config.learner, config.rollout.engine
    total = device.total
    facts = f"{device.device} would hold {max(total.playing, total.learning):.1f} GiB and has {device.room:.1f}"
    engine_gib = device.room * engine.gpu_memory_fraction
    others = total.playing - engine_gib
    if total.playing > device.room and device.room - others > 0.1 * device.room:
        return Finding(
            key="rollout.engine.gpu_memory_fraction",
            value=engine.gpu_memory_fraction,
            rule=f"{facts} while rollouts play",
            fix=f"lower it to {int((device.room - others) / device.room * 20) / 20:g}",
        )
    key, value, fix = "learner.micro_batch_tokens", learner.micro_batch_tokens, "lower it, or use more GPUs"
    sharing, prefix = learner.deepspeed, "learner.deepspeed."
    if not sharing.gradient_checkpointing and total.learning > device.room:
        key, value, fix = f"{prefix}gradient_checkpointing", False, "set it to true"
    elif sharing.zero_stage < 3 and learner.num_ranks > 1:
        key, value, fix = f"{prefix}zero_stage", sharing.zero_stage, f"set it to {max(2, sharing.zero_stage + 1)}"
    elif not sharing.offload_optimizer:
        key, value = f"{prefix}offload_optimizer", False
        fix = "set it to true with zero_stage of 1 or more, or train learner.lora.rank=16 alone"
    phase = "while the learner learns" if total.learning >= total.playing else "while rollouts play"
    return Finding(key=key, value=value, rule=f"{facts} {phase}", fix=fix)


def _of_host(config: Config, device: Memory) -> Finding:
    total = device.total
    facts = f"each host would need {max(total.playing, total.learning):.1f} GiB and has {device.room:.1f}"
    if config.cluster.placement == "cpu":
        return Finding(
            key="learner.model",
            value=config.learner.model,
            rule=f"{facts}, with cluster.placement=cpu",
            fix="choose a smaller model, or place the run on GPUs with a file of configs/hardware",
        )
    offloads = config.learner.deepspeed.offload_optimizer
    return Finding(
        key="learner.deepspeed.offload_optimizer" if offloads else "cluster.placement",
        value=offloads or config.cluster.placement,
        rule=facts,
        fix="set it to false, or use hosts with more memory" if offloads else "use hosts with more memory, or split",
    )
