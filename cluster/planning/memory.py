"""What a plan expects each device to hold, in GiB: exact where it is arithmetic, and an estimate for activations.

    memory_of(config, architecture, placement, …)          →  Memory of each kind of device: rows, and whether they fit
    cache_of(config, architecture, hardware)               →  Cache: what an engine can keep of contexts

P parameters, of which T are trained by R ranks; b bytes to a value of the model, which is 2 in bfloat16:

    ZeRO stage   weights    gradients   AdamW and fp32 weights
    0            P b        4 T         8 T
    1            P b        4 T         12 T / R                  in bfloat16, 0 and 1 run as 2
    2            P b        4 T / R     12 T / R
    3            P b / R    4 T / R     12 T / R
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from cluster.config import Config
from cluster.planning.activations import BYTES, FP32_BYTES, activation_bytes
from cluster.planning.architecture import Architecture
from cluster.planning.hardware import GIB, Hardware
from cluster.planning.placement import Placement
from learner.config import LearnerConfig
from learner.limits import REDUCE_BUCKET_NUMEL
from rollout.traffic import Traffic

HOST = "each host"
PROCESS_GIB = 1.0
"""What a process takes before it holds any weights: libraries, and the context of its device."""
OPTIMIZER_ROW = "learner: AdamW and fp32 weights"
RESERVE = 0.05
"""What PyTorch's allocator keeps on a GPU beyond the tensors that it was asked for, as a share of them: blocks that fit
none of the next ones. It is given back before an engine wakes (an estimate, and not yet measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """One use of a device's memory: `MemoryRow(what="weights", playing=15.0, learning=15.0)`."""

    what: str
    """In words."""
    playing: float
    """GiB while rollouts play."""
    learning: float
    """GiB while the learner learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the fullest device of a kind holds."""

    device: str
    """Which devices these are."""
    room: float
    """GiB that one has."""
    rows: tuple[MemoryRow, ...]
    """What it holds."""

    @property
    def total(self) -> MemoryRow:
        """All of it."""
        playing, learning = sum(row.playing for row in self.rows), sum(row.learning for row in self.rows)
        return MemoryRow(what="total", playing=playing, learning=learning)

    @property
    def fits(self) -> bool:
        """Whether there is room in every phase."""
        return max(self.total.playing, self.total.learning) <= self.room


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Room for keys and values in one engine."""

    gib: float
    """How much."""
    num_tokens: int
    """For how many tokens that is enough."""


def memory_of(
    config: Config,
    architecture: Architecture,
    placement: Placement,
    hardware: Hardware,
    traffic: Traffic,
) -> tuple[Memory, ...]:
    """The device of a learner rank, that of an engine where it is another, and the host; `traffic` is an update's."""
    has_learner = any(actor.role == "learner" for actor in placement.actors)
    on_gpu = config.cluster.placement != "cpu"
    of_micro_batch = traffic.times(config.learner.micro_batch_tokens, max(1, traffic.tokens))
    learner: dict[str, tuple[float, float]] = {}
    if has_learner:
        device = "cuda" if on_gpu else "cpu"
        learner = learner_rows(config.learner, architecture, of_micro_batch, device)
    if learner and config.learner.keeps_pictures and traffic.picture_tokens:
        values = traffic.picture_tokens / config.learner.num_ranks * architecture.hidden_size
        learner["learner: what frozen eyes see"] = (0.0, values * BYTES[config.learner.dtype] / GIB)
    host = _host_rows(config, architecture, placement, learner)
    if learner and on_gpu:
        learning = sum(learning for _, learning in learner.values())
        learner["learner: what its allocator keeps besides (estimate)"] = (0.0, RESERVE * learning)
    whole_host = Memory(device=HOST, room=hardware.memory_gib, rows=host)
    if not on_gpu:
        return (whole_host,)
    room = hardware.gpu_memory_gib
    engine = room * config.rollout.engine.gpu_memory_fraction
    playing = MemoryRow(what="rollout engine: weights, keys and values", playing=engine, learning=PROCESS_GIB)
    resting = _rows(learner, PROCESS_GIB)
    if config.cluster.placement == "split":
        always = MemoryRow(what=playing.what, playing=engine, learning=engine)
        engines = Memory(device="each GPU of an engine", room=room, rows=(always,))
        learners = (Memory(device="each GPU of a learner rank", room=room, rows=resting),) if has_learner else ()
        return (*learners, engines, whole_host)
    return (Memory(device="each GPU", room=room, rows=(*resting, playing) if has_learner else (playing,)), whole_host)


def cache_of(config: Config, architecture: Architecture, hardware: Hardware) -> Cache:
    """Room for keys and values: what the engine's share leaves beside the weights, or what it is given on CPUs."""
    engine = config.rollout.engine
    per_token = architecture.cache_bytes_per_token(BYTES[engine.dtype]) / engine.tensor_parallel_size
    gib = engine.cpu_cache_gib
    if config.cluster.placement != "cpu":
        weights = architecture.num_parameters * BYTES[engine.dtype] / engine.tensor_parallel_size / GIB
        gib = hardware.gpu_memory_gib * engine.gpu_memory_fraction - weights - PROCESS_GIB
    return Cache(gib=gib, num_tokens=max(0, int(gib * GIB / per_token)))


def checkpoint_bytes(learner: LearnerConfig, architecture: Architecture) -> int:
    """What a checkpoint takes on the disk: all weights, AdamW and, where ranks share it, its weights in fp32."""
    whole = architecture.num_parameters + value_head_parameters(learner, architecture)
    of_optimizer = 12 if learner.deepspeed.real_stage(learner.dtype) else 8
    of_optimizer += FP32_BYTES if learner.optimizer.pull_to_start else 0
    return whole * BYTES[learner.dtype] + trained_parameters(learner, architecture) * of_optimizer


def trained_parameters(learner: LearnerConfig, architecture: Architecture) -> int:
    """How many parameters learn, those of the critic included."""
    critic = value_head_parameters(learner, architecture)
    if learner.lora.rank:
        # Each adapted layer of m × n gets rank · (m + n); these are the seven of every block.
        attention = architecture.num_heads * architecture.head_size
        keys = architecture.num_kv_heads * architecture.head_size
        width, inner = architecture.hidden_size, architecture.intermediate_size
        sides = 2 * (width + attention) + 2 * (width + keys) + 3 * (width + inner)
        return critic + learner.lora.rank * sides * architecture.num_layers
    frozen = sum(architecture.parameters.get(part, 0) for part in learner.freeze)
    return critic + architecture.num_parameters - frozen


def value_head_parameters(learner: LearnerConfig, architecture: Architecture) -> int:
    """Of the critic's small network."""
    widths = [architecture.hidden_size, *learner.value_head.hidden_sizes, 1]
    return sum(before * after + after for before, after in pairwise(widths))


def learner_rows(
    learner: LearnerConfig, architecture: Architecture, traffic: Traffic, device: str
) -> dict[str, tuple[float, float]]:
    """What one rank holds on its "cpu" or "cuda" device, as GiB while others play and while it learns; `traffic` is of
    a micro-batch."""
    value_bytes, ranks = BYTES[learner.dtype], learner.num_ranks
    trained = trained_parameters(learner, architecture)
    whole = architecture.num_parameters + value_head_parameters(learner, architecture)
    stage = learner.deepspeed.real_stage(learner.dtype)
    weights = whole * value_bytes / (ranks if stage == 3 else 1)
    gradients = trained * FP32_BYTES / (ranks if stage >= 2 else 1)
    optimizer = trained * (12 / ranks if stage else 8)
    if learner.deepspeed.offload_optimizer:
        optimizer = 0
    rows = {
        "learner: weights": (weights, weights),
        f"learner: gradients (ZeRO {stage})": (0.0, gradients),
        f"{OPTIMIZER_ROW} (ZeRO {stage})": (0.0 if learner.rests else optimizer, optimizer),
        "learner: activations and logits (estimate)": (
            0.0,
            activation_bytes(learner, architecture, traffic, device),
        ),
    }
    if stage:
        # At stage 2 one bucket is summed while the next is filled.
        buckets = FP32_BYTES * min(trained, REDUCE_BUCKET_NUMEL) * (2 if stage == 2 else 1)
        rows["learner: gradients on their way between ranks"] = (0.0, buckets)
    if learner.optimizer.pull_to_start:
        rows["learner: where weights began"] = (trained * FP32_BYTES / (ranks if stage else 1),) * 2
    reference = architecture.num_parameters * value_bytes / (ranks if stage == 3 else 1)
    if learner.distillation.other_model:
        rows["learner: the teacher"] = (reference, reference)
    if (learner.asks_the_start or learner.sft.kl_coefficient) and not learner.lora.rank:
        rows["learner: the initial policy, to compare with"] = (reference, reference)
    return {what: (resting / GIB, learning / GIB) for what, (resting, learning) in rows.items()}


def _rows(learner: Mapping[str, tuple[float, float]], processes: float) -> tuple[MemoryRow, ...]:
    rows = [MemoryRow(what=what, playing=resting, learning=learning) for what, (resting, learning) in learner.items()]
    if rows:
        rows.append(MemoryRow(what="process and device context", playing=processes, learning=processes))
    return tuple(rows)


def _host_rows(
    config: Config, architecture: Architecture, placement: Placement, learner: Mapping[str, tuple[float, float]]
) -> tuple[MemoryRow, ...]:
    """Of the fullest host."""
    engine = config.rollout.engine
    on = [
        [actor for actor in placement.actors if placement.hosts[actor.bundle] == host]
        for host in sorted({host for host in placement.hosts if host is not None})
    ]
    fullest = max(on, key=len, default=[])
    ranks = sum(actor.role == "learner" for actor in fullest)
    workers = len(fullest) - ranks
    weights = architecture.num_parameters * BYTES[engine.dtype] / GIB
    processes = _always("processes", len(fullest) * PROCESS_GIB)
    if config.cluster.placement == "cpu":
        copies = tuple(
            MemoryRow(what=what, playing=ranks * resting, learning=ranks * learning)
            for what, (resting, learning) in learner.items()
        )
        cache = engine.cpu_cache_gib
        return (
            *copies,
            _always("engines: weights", workers * weights),
            _always("engines: keys and values", workers * cache),
            processes,
        )
    rows = [processes]
    if config.learner.rests:
        state = sum(learning for what, (_, learning) in learner.items() if what.startswith(OPTIMIZER_ROW))
        rows.append(MemoryRow(what="AdamW and fp32 weights of resting learners", playing=ranks * state, learning=0.0))
    if config.learner.deepspeed.offload_optimizer and ranks:
        share = trained_parameters(config.learner, architecture) / config.learner.num_ranks / GIB
        rows.append(_always("offloaded AdamW, fp32 weights and gradients", ranks * share * 16))
    return tuple(rows)


def _always(what: str, gib: float) -> MemoryRow:
    return MemoryRow(what=what, playing=gib, learning=gib)
