"""Which actor sits where: bundles of a Ray placement group, and who takes what of each.

place(config, hardware, command)   →  Placement      pure
rooms(config, hardware)            →  how many such runs there is room for
reserved(placement, seconds)       →  the same, with Ray's placement group behind it

cpu          bundle i: learner rank i and rollout worker i, on the cores of one host
one_gpu      one bundle: both take turns on one GPU
colocated    bundle i: one GPU, shared by learner rank i and rollout worker i, which take turns
split        a bundle with one GPU for each rank, then one for each worker with as many GPUs as its engine takes
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from cluster.config import Config
from cluster.errors import RunError
from cluster.planning.hardware import Hardware, described

SECONDS_BETWEEN_TRIES = 10.0
"""How often it is tried to have room on no more hosts than planned."""
CACHES = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""What says to each library where it keeps what it has compiled → its folder in `cluster.cache_folder`."""
Role = Literal["learner", "rollout"]
Seat = tuple[Role, int]
"""Which rank, or which worker."""
Strategy = Literal["PACK", "STRICT_PACK", "SPREAD"]
Command = Literal["rl", "sft", "evaluate", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One process: `Actor(role="rollout", number=3, bundle=3, num_cpus=1.0, num_gpus=0.5, threads=12)`."""

    role: Role
    """Whether it learns or plays."""
    number: int
    """Which rank, or which worker."""
    bundle: int
    """Where it sits."""
    num_cpus: float
    """How many cores Ray counts as taken by it."""
    num_gpus: float
    """How many GPUs, or which part of one."""
    threads: int
    """In how many threads it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Bundles and actors."""

    bundles: tuple[Mapping[str, float], ...]
    """What each bundle reserves, in Ray's words: `{"CPU": 2, "GPU": 1}`."""
    strategy: Strategy
    """How Ray lays bundles out over hosts."""
    actors: tuple[Actor, ...]
    """All ranks, then all workers."""
    hosts: tuple[int | None, ...]
    """On which host each bundle will lie if all are empty; None where there is no room for it."""
    group: Any = None
    """Ray's placement group, once it is reserved."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that every actor gets."""

    @property
    def learner_threads(self) -> int:
        """In how many threads each learner rank computes."""
        return next((actor.threads for actor in self.actors if actor.role == "learner"), 1)

    @property
    def num_gpus(self) -> int:
        """How many GPUs all bundles reserve."""
        return int(sum(bundle.get("GPU", 0) for bundle in self.bundles))

    def num_devices(self, *roles: Role) -> int:
        """How many GPUs hold actors of these roles, or of any; where there are none, how many hosts do."""
        bundles = {actor.bundle for actor in self.actors if not roles or actor.role in roles}
        if self.num_gpus:
            return int(sum(self.bundles[bundle].get("GPU", 0) for bundle in bundles))
        return len({self.hosts[bundle] for bundle in bundles})

    def learner_options(self, rank: int) -> dict[str, Any]:
        """Ray's options for a learner rank."""
        return self._options(self._actor("learner", rank))

    def rollout_options(self, number: int) -> dict[str, Any]:
        """Ray's options for a rollout worker; one beyond those that have seats waits for room anywhere."""
        seated = [actor for actor in self.actors if actor.role == "rollout"]
        actor = seated[number] if number < len(seated) else seated[0]
        # An engine reads the number of its threads from here, and Ray would set it to the cores that it counts.
        variables = {**self.environment, "OMP_NUM_THREADS": str(actor.threads)}
        options = {**self._options(actor), "runtime_env": {"env_vars": variables}}
        return options if number < len(seated) else {**options, "scheduling_strategy": "DEFAULT"}

    def _actor(self, role: Role, number: int) -> Actor:
        return next(actor for actor in self.actors if actor.role == role and actor.number == number)

    def _options(self, actor: Actor) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": actor.num_cpus, "num_gpus": actor.num_gpus}
        if self.environment:
            options["runtime_env"] = {"env_vars": dict(self.environment)}
        if self.group is not None:
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self.group, placement_group_bundle_index=actor.bundle
            )
        return options


def place(config: Config, hardware: Hardware | None = None, command: Command = "rl") -> Placement:
    """Who sits where; without hardware, on what the configuration describes. It judges nothing: `checks.check` does."""
    placement = _placed(config, hardware or described(config))
    if config.cluster.cache_folder is None:
        return placement
    caches = Path(config.cluster.cache_folder).expanduser().resolve()
    return replace(placement, environment={name: str(caches / folder) for name, folder in CACHES.items()})


def _placed(config: Config, hardware: Hardware) -> Placement:
    ranks = config.learner.num_ranks
    workers = config.cluster.num_workers
    kind = config.cluster.placement
    if kind == "cpu":
        return _on_cores(config, hardware, ranks, workers)
    if kind == "split":
        bundle_gpus = [1] * ranks + [config.rollout.engine.tensor_parallel_size] * workers
        ranks_first: tuple[tuple[Role, int], ...] = (("learner", ranks), ("rollout", workers))
        members: list[list[Seat]] = [[(role, number)] for role, count in ranks_first for number in range(count)]
    else:
        num_bundles = 1 if kind == "one_gpu" else max(ranks, workers)
        bundle_gpus = [1] * num_bundles
        members = _shared(num_bundles, ranks, workers)
    strategy: Strategy = "STRICT_PACK" if config.cluster.num_nodes == 1 else "PACK"
    num_hosts = min(config.cluster.num_nodes, hardware.num_nodes)
    hosts = _fill(bundle_gpus, hardware.gpus_per_node, num_hosts)
    busiest = max(hosts.count(host) for host in hosts)
    # Those who take turns have all cores of their turn; Ray's own count only has to leave room for each.
    cores = hardware.cores_per_node / busiest
    cpus = _round_down(min(2.0, cores))
    threads: dict[Role, int] = dict.fromkeys(("learner", "rollout"), max(1, int(cores)))
    shares = [bundle_gpus[bundle] if len(present) == 1 else 1 / len(present) for bundle, present in enumerate(members)]
    actors = _seated(members, cpus, shares, threads)
    bundles = tuple({"CPU": cpus, "GPU": gpus} for gpus in bundle_gpus)
    return Placement(bundles=bundles, strategy=strategy, actors=actors, hosts=hosts)


def rooms(config: Config, hardware: Hardware) -> int:
    """How many runs of the configuration have room beside each other; at least one, which may have to wait."""
    placement = place(config, hardware)
    if placement.num_gpus:
        return max(1, hardware.num_gpus // placement.num_gpus)
    cores = sum(bundle["CPU"] for bundle in placement.bundles)
    return max(1, int(hardware.num_nodes * hardware.cores_per_node / cores))


def _on_cores(config: Config, hardware: Hardware, ranks: int, workers: int) -> Placement:
    num_bundles = max(ranks, workers)
    members = _shared(num_bundles, ranks, workers)
    spread = config.cluster.num_nodes > 1
    per_host = -(-num_bundles // hardware.num_nodes) if spread else num_bundles
    cores = min(hardware.cores_per_node, config.cluster.cores_per_run or hardware.cores_per_node)
    cpus = _round_down(cores / per_host)
    share = max(1, int(cpus))
    # One core is for the process around the engine: threads beyond the free cores spin, and cost a factor of ten.
    threads: dict[Role, int] = {"learner": share, "rollout": max(1, share - 1)}
    if config.rollout.max_policy_lag and ranks:
        threads = {"learner": max(1, share // 2), "rollout": max(1, share - share // 2 - (share > 2))}
    actors = _seated(members, cpus, [0.0] * num_bundles, threads)
    hosts = tuple(bundle % hardware.num_nodes for bundle in range(num_bundles)) if spread else (0,) * num_bundles
    return Placement(
        bundles=({"CPU": cpus},) * num_bundles,
        strategy="SPREAD" if spread else "STRICT_PACK",
        actors=actors,
        hosts=hosts,
    )


def _shared(num_bundles: int, ranks: int, workers: int) -> list[list[Seat]]:
    """Rank i and worker i in bundle i, and around again where there are more of them."""
    members: list[list[Seat]] = [[] for _ in range(num_bundles)]
    for rank in range(ranks):
        members[rank % num_bundles].append(("learner", rank))
    for number in range(workers):
        members[number % num_bundles].append(("rollout", number))
    return members


def _fill(needs: list[int], room: int, num_hosts: int) -> tuple[int | None, ...]:
    """The first host that has room for each bundle, in order."""
    free = [room] * num_hosts
    hosts: list[int | None] = []
    for need in needs:
        host = next((number for number, left in enumerate(free) if left >= need), None)
        if host is not None:
            free[host] -= need
        hosts.append(host)
    return tuple(hosts)


def _seated(
    members: list[list[Seat]], cpus: float, gpus: Sequence[float], threads: Mapping[Role, int]
) -> tuple[Actor, ...]:
    """All actors in order of their numbers; those of one bundle share its cores."""
    actors = [
        Actor(
            role=role,
            number=number,
            bundle=bundle,
            num_cpus=_round_down(cpus / len(present)),
            num_gpus=gpus[bundle],
            threads=threads[role],
        )
        for bundle, present in enumerate(members)
        for role, number in present
    ]
    return tuple(sorted(actors, key=lambda actor: (actor.role, actor.number)))


def _round_down(value: float) -> float:
    """To what Ray counts in, and never to nothing."""
    return max(0.01, int(value * 100) / 100)


@contextmanager
def reserved(placement: Placement, timeout_seconds: float) -> Iterator[Placement]:
    """The placement in a running Ray; raises RunError, with what is missing, where it is not free in time."""
    import ray
    from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

    from cluster.stopping import pause, wait

    most, ends = len(set(placement.hosts)), time.monotonic() + timeout_seconds
    while True:
        group = placement_group([dict(bundle) for bundle in placement.bundles], strategy=placement.strategy)
        try:
            if not wait([group.ready()], max(ends - time.monotonic(), 0.1))[0]:
                wanted = ", ".join(f"{len(list(same))} × {bundle}" for bundle, same in groupby(placement.bundles))
                free = {name: ray.available_resources().get(name, 0) for name in ("CPU", "GPU")}
                raise RunError(
                    f"cluster.placement: after {timeout_seconds:.0f} s Ray has no {placement.strategy} room for "
                    f"{wanted}; free are {free}. End other jobs or ask for less: see `ruleshift plan`"
                )
            used = len(set(placement_group_table(group)["bundles_to_node_id"].values()))
            if used <= most:
                yield replace(placement, group=group)
                return
            # Hosts that others have a part of: what was planned of each, and how fast they reach each other, is wrong.
            if time.monotonic() >= ends:
                raise RunError(
                    f"cluster.num_nodes={most}: after {timeout_seconds:.0f} s Ray has room on {used} hosts only, each "
                    "partly taken by others. End other jobs, or plan for more hosts"
                )
        finally:
            remove_placement_group(group)
        pause(min(SECONDS_BETWEEN_TRIES, timeout_seconds / 4))
