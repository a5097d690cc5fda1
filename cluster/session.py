"""Ray for the time of a run: joined where there is a cluster, started here where there is none.

with ray_session(config.cluster): …          nothing that was started here outlives the block
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import current_thread, main_thread

import ray
from ray._private import services, utils

from cluster.errors import ConfigError, RunError
from cluster.options import NO_CLIENT, ClusterConfig, is_client
from cluster.planning.hardware import is_job, joins

STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
STOP_WAIT_SECONDS = 3.0
"""How long after SIGTERM `ray job stop` kills, unless the job's environment says otherwise."""


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Join the cluster at `cluster.address`, or that of the job which this process is of; else start one."""
    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address and is_client(address):
        raise ConfigError(f"RAY_ADDRESS={address}: {NO_CLIENT}")
    try:
        _init(config, address)
        yield
    finally:
        ray.shutdown()


def _init(config: ClusterConfig, address: str | None) -> None:
    folder = Path.cwd()
    try:
        with _signals_are_ours():
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


def stop_grace() -> float | None:
    """How many seconds after SIGTERM `ray job stop` kills this process; None where it is no job of Ray's."""
    return float(os.environ.get(STOP_WAIT, STOP_WAIT_SECONDS)) if is_job() else None


@contextmanager
def _signals_are_ours() -> Iterator[None]:
    """A signal reaches the run first, and Ray through it.

    Ray's own handler of SIGTERM ends the cluster and then waits a minute for its last words. And a signal to the
    process group, as a terminal and a batch system send it, would end Ray's processes before a checkpoint is written.
    """
    handler, popen = utils.set_sigterm_handler, services.ConsolePopen
    utils.set_sigterm_handler = lambda handler: None
    services.ConsolePopen = partial(popen, start_new_session=True)
    try:
        yield
    finally:
        utils.set_sigterm_handler, services.ConsolePopen = handler, popen
        if current_thread() is main_thread():
            # Ray's core has put a handler before Python's that prints where every thread is.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
