"""What there is to run on: looked up without torch, or as the configuration describes it.

look()              this machine
described(config)   the machines that `cluster.*` names, for a plan made elsewhere
of_nodes(nodes)     those of a running Ray cluster
"""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.config import Config

GIB = 2**30
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
