"""Whether checkpoints find room on the disk of `cluster.folder`; told before anything starts."""

from collections.abc import Iterator
from pathlib import Path

from cluster.config import Config
from cluster.faults import Finding, note
from cluster.planning.architecture import Architecture
from cluster.planning.memory import checkpoint_bytes
from cluster.planning.model_checks import architecture_of
from cluster.record.disk import free_bytes, in_bytes


def expected_checkpoint_bytes(config: Config) -> int:
    """What a checkpoint will take; 0 where the model cannot be read."""
    architecture = architecture_of(config)
    return 0 if architecture is None else checkpoint_bytes(config.learner, architecture)


def disk_findings(config: Config, architecture: Architecture) -> Iterator[Finding]:
    """Room for what is kept, and for the one that is written before an older one goes."""
    cluster = config.cluster
    one, free = checkpoint_bytes(config.learner, architecture), free_bytes(Path(cluster.folder))
    if free < (wanted := (cluster.keep_checkpoints + 1) * one):
        yield note(
            "cluster.keep_checkpoints",
            cluster.keep_checkpoints,
            f"these and the one that is being written take {in_bytes(wanted)}, {in_bytes(one)} each, and "
            f"{in_bytes(free)} are free in cluster.folder={cluster.folder}; the run stops where not even one fits",
            "lower it, make room there, or set cluster.folder to another disk",
        )
