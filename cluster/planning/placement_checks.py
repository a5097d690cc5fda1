"""Whether there are the devices that the placement needs, and whether the options suit it."""

from collections.abc import Iterator
from pathlib import Path

from cluster.config import Config
from cluster.faults import Finding, note
from cluster.planning.hardware import Hardware
from cluster.planning.placement import Command, Placement, place
from rollout.engine_extra import argument_names, extra_faults

TRANSFERS = {"cpu": "shared_memory", "one_gpu": "ipc", "colocated": "ipc", "split": "nccl"}
"""Placement → the weight transfer that reaches its engines."""
HARDWARE_FILES = Path("configs/hardware")


def placement_findings(config: Config, hardware: Hardware, command: Command) -> Iterator[Finding]:
    """Devices first, then what runs on them."""
    placement = place(config, hardware, command)
    if config.cluster.placement == "cpu":
        yield from _cores(config, hardware)
    else:
        yield from _gpus(config, hardware, placement)
    if command != "evaluate":
        yield from _transfer(config)
        yield from _turns(config)
        yield from _sharing(config)
    yield from _engine(config)


def _cores(config: Config, hardware: Hardware) -> Iterator[Finding]:
    engine, ranks = config.rollout.engine, config.learner.num_ranks
    hosts = hardware.num_nodes if config.cluster.num_nodes > 1 else 1
    cores = hosts * min(hardware.cores_per_node, config.cluster.cores_per_run or hardware.cores_per_node)
    if ranks > cores:
        yield Finding(
            key="learner.num_ranks",
            value=ranks,
            rule=f"each rank computes on a core of its own, and the run has {cores}; ranks that share one wait for "
            "each other, and the more there are the slower they become",
            fix=f"set it to {cores} or less",
        )
    for key, dtype in (("learner.dtype", config.learner.dtype), ("rollout.engine.dtype", engine.dtype)):
        if dtype != "float32":
            yield Finding(
                key=key,
                value=dtype,
                rule="cluster.placement=cpu computes in float32",
                fix=f"set it to float32, or place the run on GPUs with a file of {HARDWARE_FILES}",
            )
    if engine.tensor_parallel_size > 1:
        yield Finding(
            key="rollout.engine.tensor_parallel_size",
            value=engine.tensor_parallel_size,
            rule="cluster.placement=cpu has no GPUs to share an engine",
            fix="set it to 1",
        )


def _gpus(config: Config, hardware: Hardware, placement: Placement) -> Iterator[Finding]:
    cluster, learner, engine = config.cluster, config.learner, config.rollout.engine
    kind, needed = cluster.placement, placement.num_gpus
    if None in placement.hosts or needed > hardware.num_gpus:
        size = engine.tensor_parallel_size
        fits_none = size > hardware.gpus_per_node > 0 and kind == "split"
        yield Finding(
            key="rollout.engine.tensor_parallel_size" if fits_none else "cluster.placement",
            value=size if fits_none else kind,
            rule=(
                f"an engine lies on one host, which has {hardware.gpus_per_node} GPUs"
                if fits_none
                else f"needs {needed} GPU{'s' if needed > 1 else ''} ({_needs(config)}), and there is {hardware}"
            ),
            fix="lower it"
            if fits_none
            else "lower learner.num_ranks or cluster.num_rollout_workers, choose another file of "
            f"{HARDWARE_FILES}, or plan for a machine that has them with --elsewhere",
        )
    if kind == "split":
        return
    if engine.tensor_parallel_size > 1:
        yield Finding(
            key="rollout.engine.tensor_parallel_size",
            value=engine.tensor_parallel_size,
            rule=f"with cluster.placement={kind} every engine shares one GPU with one learner rank",
            fix="set it to 1, or choose placement=split",
        )
    workers = cluster.num_workers
    if cluster.most_workers > workers:
        yield Finding(
            key="cluster.num_rollout_workers",
            value=cluster.num_rollout_workers,
            rule=f"with cluster.placement={kind} every engine shares a GPU with a learner rank, and these stay",
            fix=f"set it to {workers}, or choose placement=split",
        )
    if kind == "one_gpu" and (learner.num_ranks, workers) != (1, 1):
        many = learner.num_ranks > 1
        yield Finding(
            key="learner.num_ranks" if many else "cluster.num_rollout_workers",
            value=learner.num_ranks if many else workers,
            rule="cluster.placement=one_gpu has room for one learner rank and one rollout worker",
            fix="set it to 1, or choose placement=colocated",
        )
    if kind == "colocated" and workers > learner.num_ranks and any(one.role == "learner" for one in placement.actors):
        yield Finding(
            key="cluster.num_rollout_workers",
            value=workers,
            rule=f"only on learner.num_ranks={learner.num_ranks} GPUs is a learner that gives an engine its weights",
            fix=f"set both to the number of GPUs, as {hardware.num_gpus or learner.num_ranks}",
        )
    elif kind == "colocated" and workers < learner.num_ranks:
        yield note(
            "cluster.num_rollout_workers",
            workers,
            f"{learner.num_ranks - workers} of {learner.num_ranks} GPUs play nothing",
            f"set it to {learner.num_ranks}",
        )


def _needs(config: Config) -> str:
    ranks, workers = config.learner.num_ranks, config.cluster.num_workers
    learners = f"{ranks} learner rank{'s' if ranks > 1 else ''}"
    engines = f"{workers} engine{'s' if workers > 1 else ''}"
    if config.cluster.placement == "split":
        return f"{learners} and {engines} of {config.rollout.engine.tensor_parallel_size}"
    return f"{learners} and {engines} share them"


def _transfer(config: Config) -> Iterator[Finding]:
    kind, chosen = config.cluster.placement, config.rollout.engine.weight_transfer
    wanted = TRANSFERS[kind]
    if chosen != wanted:
        reason = {
            "shared_memory": "engines without GPUs take weights from the host's memory",
            "ipc": "engines take weights from the learner on the same GPU",
            "nccl": "engines take weights from another GPU",
        }[wanted]
        yield Finding(
            key="rollout.engine.weight_transfer",
            value=chosen,
            rule=f"with cluster.placement={kind} {reason}",
            fix=f"set it to {wanted}",
        )


def _turns(config: Config) -> Iterator[Finding]:
    kind, lag = config.cluster.placement, config.rollout.max_policy_lag
    if lag and kind in ("one_gpu", "colocated"):
        yield Finding(
            key="rollout.max_policy_lag",
            value=lag,
            rule=f"with cluster.placement={kind} engines sleep while the learner learns, so nothing is played ahead",
            fix="set it to 0, or choose placement=split",
        )
    if not lag and kind == "split":
        yield note(
            "rollout.max_policy_lag",
            lag,
            "engines wait while the learner learns, and the learner while they play",
            "set it to 1 to have both at once, if slightly older episodes will do",
        )


def _sharing(config: Config) -> Iterator[Finding]:
    learner = config.learner
    sharing = learner.deepspeed
    if learner.rests and config.cluster.placement not in ("one_gpu", "colocated"):
        yield note(
            "learner.rests",
            True,
            f"with cluster.placement={config.cluster.placement} nobody else is on the learner's GPUs",
            "leave it out",
        )
    if sharing.offload_optimizer and sharing.zero_stage == 0:
        yield Finding(
            key="learner.deepspeed.offload_optimizer",
            value=True,
            rule="at learner.deepspeed.zero_stage=0 the optimizer's state stays beside the model",
            fix="set zero_stage to 1, 2 or 3",
        )
    if sharing.offload_optimizer and config.cluster.placement == "cpu":
        yield note(
            "learner.deepspeed.offload_optimizer",
            True,
            "host memory is all there is with placement cpu",
            "leave it out",
        )
    if sharing.zero_stage and learner.num_ranks == 1:
        yield note(
            "learner.deepspeed.zero_stage",
            sharing.zero_stage,
            "there is one rank, which shares its state with nobody",
            "set learner.num_ranks higher, or it to 0",
        )
    if learner.lora.rank and learner.freeze:
        yield note(
            "learner.freeze",
            learner.freeze,
            "with learner.lora.rank above 0 only the low-rank additions train, so all else is frozen already",
            "leave it out",
        )
    if learner.lora.target_modules and not learner.lora.rank:
        yield note("learner.lora.rank", 0, "target_modules get no additions of rank 0", "set a rank, as 16")
    if config.cluster.placement != "cpu" and learner.dtype == "float32":
        yield note("learner.dtype", "float32", "GPUs compute in it at a fraction of their speed", "set it to bfloat16")


def _engine(config: Config) -> Iterator[Finding]:
    rollout = config.rollout
    extra = rollout.engine.extra
    for name, rule, fix in extra_faults(extra, argument_names() if extra else ()):
        yield Finding(key=f"rollout.engine.extra.{name}", value=extra[name], rule=rule, fix=fix)
    if rollout.max_answer_tokens >= rollout.engine.max_context_tokens:
        yield Finding(
            key="rollout.max_answer_tokens",
            value=rollout.max_answer_tokens,
            rule=f"leaves no room for a question in rollout.engine.max_context_tokens="
            f"{rollout.engine.max_context_tokens}",
            fix="lower it or raise the other",
        )
    if rollout.episodes_in_flight > rollout.engine.max_sequences:
        yield note(
            "rollout.episodes_in_flight",
            rollout.episodes_in_flight,
            f"an engine draws rollout.engine.max_sequences={rollout.engine.max_sequences} answers at once, so the "
            "others wait",
            "make them equal",
        )
