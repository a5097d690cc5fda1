"""The driver of a run that is to be struck: `ruleshift`, which tells its phase, with environments that can be slowed.

    python -m study.chaos.hooks rl CONFIG …     with FOLDER and ADDRESS in the environment

The folder holds `phase`, which it writes, and now and then `slow` or `raise`, which the next episode that opens obeys.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from rollout.play import _Player  # pyright: ignore[reportPrivateUsage]

FOLDER, ADDRESS = "RULESHIFT_CHAOS_FOLDER", "RULESHIFT_CHAOS_ADDRESS"
SLOW_SECONDS = 8.0


class Chaos(RuntimeError):
    """What an environment raises because it was told to."""


def obey() -> None:
    """In each process of Ray's: every episode that opens looks whether it is to be slow, or to fail."""
    folder, opened = Path(os.environ[FOLDER]), _Player._open  # pyright: ignore[reportPrivateUsage]

    def open_obediently(player: _Player, *arguments: Any) -> Any:
        if _is_taken(folder / "slow"):
            time.sleep(SLOW_SECONDS)
        if _is_taken(folder / "raise"):
            raise Chaos("the environment was told to raise")
        return opened(player, *arguments)

    _Player._open = open_obediently  # pyright: ignore


def _is_taken(order: Path) -> bool:
    """Whether it was there; whoever removes it obeys it."""
    try:
        order.unlink()
    except FileNotFoundError:
        return False
    return True


def main() -> int:
    """One command of `ruleshift`."""
    from cluster.training import Training
    from study.cli import main as command

    told, phase = Path(os.environ[FOLDER]) / "phase", Training.phase

    @contextmanager
    def telling(run: Training, name: str) -> Iterator[None]:
        told.write_text(name)
        with phase(run, name):
            yield
        told.write_text("between")

    told.write_text("start")
    Training.phase = telling  # pyright: ignore
    ray.init(
        os.environ[ADDRESS],
        runtime_env={"worker_process_setup_hook": obey, "env_vars": {FOLDER: os.environ[FOLDER]}},
        log_to_driver=False,
        configure_logging=False,
    )
    return command()


if __name__ == "__main__":
    sys.exit(main())
