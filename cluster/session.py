"""Ray for the time of a run: joined where there is a cluster, started here where there is none.

with ray_session(config.cluster): …          nothing that was started here outlives the block
with stop_signals() as stop: …               SIGTERM and Ctrl-C ask the run to end at the next phase
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import ray

from cluster.errors import ConfigError, RunError
from cluster.options import NO_CLIENT, ClusterConfig, is_client
from cluster.planning.hardware import joins


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Join the cluster at `cluster.address`, or that of the job which this process is of; else start one."""
    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address and is_client(address):
        raise ConfigError(f"RAY_ADDRESS={address}: {NO_CLIENT}")
    folder = Path.cwd()
    try:
        if joins(config):
            ray.init(address=address or "auto", log_to_driver=False, configure_logging=False)
        else:
            # Without `local`, Ray would join whatever cluster was last started on this machine.
            ray.init("local", include_dashboard=config.dashboard, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as error:
        raise RunError(
            f"cluster.address={address}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            "leave the address out to have one started here"
        ) from error
    os.chdir(folder)  # joining as a job moves this process, and what a command names is named from where it began
    try:
        yield
    finally:
        ray.shutdown()


class StopRequest:
    """Whether the run has been asked to end."""

    def __init__(self) -> None:
        self.is_made = False

    def make(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks; a second one insists."""
        if self.is_made:
            raise KeyboardInterrupt
        self.is_made = True


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Take SIGTERM and SIGINT as requests while the block runs."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.make) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
