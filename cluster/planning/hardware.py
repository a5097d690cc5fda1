"""What there is to run on: looked up without torch, or as the configuration describes it.

look()              this machine
described(config)   the machines that `cluster.*` names, for a plan made elsewhere
of_cluster(config)  those of the Ray cluster that this process is of
"""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.config import Config
    from cluster.options import ClusterConfig

GIB = 2**30
SECONDS_TO_ANSWER = 60.0
"""How long hosts are waited for that are asked what their GPUs are."""
LIST_GPUS = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Hosts that are alike.

    Example, one host of the paper's kind:

        Hardware(num_nodes=1, gpus_per_node=8, gpu_memory_gib=80, cores_per_node=96, memory_gib=1000)
    """

    num_nodes: int
    """How many hosts there are."""
    gpus_per_node: int
    """GPUs of each host."""
    gpu_memory_gib: float
    """Memory of each GPU; 0 where there is none."""
    cores_per_node: int
    """Cores of each host that this process may use."""
    memory_gib: float
    """Memory of each host."""

    @property
    def num_gpus(self) -> int:
        """Of all hosts."""
        return self.num_nodes * self.gpus_per_node

    def __str__(self) -> str:
        """As a line of a report."""
        gpus = f"{self.gpus_per_node} × GPU of {self.gpu_memory_gib:.1f} GiB" if self.gpus_per_node else "no GPU"
        hosts = f"{self.num_nodes} host" + ("s, each with" if self.num_nodes > 1 else " with")
        cores = f"{self.cores_per_node} core{'s' if self.cores_per_node > 1 else ''}"
        return f"{hosts} {gpus}, {cores}, {self.memory_gib:.0f} GiB memory"


def look() -> Hardware:
    """This machine, within the limits of this process's container and of CUDA_VISIBLE_DEVICES."""
    gpus = visible_gpus(_run(LIST_GPUS), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Hardware(
        num_nodes=1,
        gpus_per_node=len(gpus),
        gpu_memory_gib=min(gpus, default=0.0),
        cores_per_node=_cores(),
        memory_gib=_memory_bytes() / GIB,
    )


def joins(cluster: "ClusterConfig") -> bool:
    """Whether there is a Ray cluster to join, whose hosts may be other than this one."""
    return bool(cluster.address or os.environ.get("RAY_ADDRESS") or is_job())


def is_job() -> bool:
    """Whether this process is that of a job which was submitted to Ray."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def described(config: "Config") -> Hardware:
    """What `cluster.*` says there is."""
    cluster = config.cluster
    gpus = {"cpu": 0, "one_gpu": 1}.get(cluster.placement, cluster.gpus_per_node)
    return Hardware(
        num_nodes=cluster.num_nodes,
        gpus_per_node=gpus,
        gpu_memory_gib=cluster.gpu_memory_gib if gpus else 0.0,
        cores_per_node=cluster.cores_per_node,
        memory_gib=cluster.memory_gib_per_node,
    )


def of_nodes(nodes: Iterable[Mapping[str, Any]], gpu_memory_gib: float) -> Hardware:
    """The hosts that `ray.nodes()` lists: those with GPUs where any has one, and as much of each as all have.

    Ray knows no GPU's memory; give what `look` found, or what the configuration says.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    hosts = [host for host in alive if host.get("GPU")] or alive
    gpus = int(min(host.get("GPU", 0) for host in hosts))
    return Hardware(
        num_nodes=len(hosts),
        gpus_per_node=gpus,
        gpu_memory_gib=gpu_memory_gib if gpus else 0.0,
        cores_per_node=max(1, int(min(host.get("CPU", 0) for host in hosts))),
        memory_gib=min(host.get("memory", 0) + host.get("object_store_memory", 0) for host in hosts) / GIB,
    )


def of_cluster(config: "Config") -> Hardware:
    """What the Ray cluster has, and no more of this machine than Ray has of it."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1:
        return of_nodes(nodes, _asked_for_memory(nodes) or config.cluster.gpu_memory_gib)
    here, resources = look(), nodes[0]["Resources"]
    return replace(
        here,
        gpus_per_node=min(here.gpus_per_node, int(resources.get("GPU", 0))),
        cores_per_node=max(1, min(here.cores_per_node, int(resources.get("CPU", 0)))),
    )


def _asked_for_memory(nodes: Iterable[Mapping[str, Any]]) -> float:
    """The memory of the smallest GPU, as the hosts that have any say; 0 where none answers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = [
        ray.remote(_gpu_memory)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
        if node["Resources"].get("GPU")
    ]
    answered = ray.wait(asked, num_returns=len(asked), timeout=SECONDS_TO_ANSWER)[0] if asked else []
    found: list[float] = ray.get(answered)
    return min((memory for memory in found if memory), default=0.0)


def _gpu_memory() -> float:
    # Ray hides all GPUs from a task that takes none; they are there all the same.
    return min(visible_gpus(_run(LIST_GPUS), None), default=0.0)


def visible_gpus(listed: str, visible: str | None) -> list[float]:
    """The memory in GiB of each GPU that nvidia-smi lists and CUDA_VISIBLE_DEVICES, if set, does not hide.

    >>> visible_gpus("0, GPU-5f1d, 81559\\n1, GPU-77a0, 81559\\n", "1")
    [79.6474609375]
    """
    rows = [[part.strip() for part in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        rows = [row for row in rows if row[0] in names or any(row[1].startswith(name) for name in names)]
    return [float(row[2]) / 1024 for row in rows if row[2].replace(".", "", 1).isdigit()]


def _run(command: tuple[str, ...]) -> str:
    """What it prints; nothing where it is not installed or fails, as on a machine without the driver."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = _first_line("/sys/fs/cgroup/cpu.max").partition(" ")
    return max(1, min(allowed, int(quota) // int(period))) if quota.isdigit() else allowed


def _memory_bytes() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    return min(installed, int(limit)) if limit.isdigit() else installed


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
