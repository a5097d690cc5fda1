"""What can happen to a run, and to whom: each strike hits something, and tells what.

STRIKES["engine hangs"].hit(world, random)   →  "engine 4711 stopped"
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil

from cluster.record.disk import fill
from study.chaos.world import World

SLOW_SECONDS = (2.0, 9.0)
"""Shorter than what counts as death."""
AWAY_SECONDS = (5.0, 25.0)
FULL_SECONDS = (2.0, 8.0)
STOP_SECONDS = 30.0
"""How long a driver may take to end that is asked to; the bound on quiet machines is half of it."""

Hit = Callable[[World, Random], str]


@dataclass(frozen=True, slots=True)
class Strike:
    """One way in which something goes wrong."""

    hit: Hit
    """Makes it happen, and says to what; nothing where there was nothing to hit."""
    changes: bool = False
    """Whether what is learned may be something else then: an episode that fails is not learned from."""


def _signalled(find: Callable[[World], list[psutil.Process]], number: int, what: str) -> Hit:
    def hit(world: World, random: Random) -> str:
        found = find(world)
        if not found:
            return ""
        process = random.choice(found)
        process.send_signal(number)
        return f"{what} {process.pid}"

    return hit


def _slowed(find: Callable[[World], list[psutil.Process]], what: str) -> Hit:
    def hit(world: World, random: Random) -> str:
        found, seconds = find(world), random.uniform(*SLOW_SECONDS)
        if not found:
            return ""
        process = random.choice(found)
        process.suspend()
        time.sleep(seconds)
        with suppress(psutil.NoSuchProcess):  # it was given up meanwhile
            process.resume()
        return f"{what} {process.pid} for {seconds:.1f} s"

    return hit


def _driver(world: World) -> list[psutil.Process]:
    return [world.driver] if world.is_running else []


def _killed_driver(world: World, random: Random) -> str:
    world.driver.kill()
    world.wait(STOP_SECONDS)
    time.sleep(random.uniform(0, 3))
    world.start()
    return "driver, and started again"


def _stopped_driver(world: World, random: Random) -> str:
    began = time.monotonic()
    world.driver.terminate()
    if world.wait(STOP_SECONDS) is None:
        raise AssertionError(f"the driver has not ended {STOP_SECONDS:.0f} s after SIGTERM")
    seconds = time.monotonic() - began
    world.start()
    return f"driver, which ended after {seconds:.1f} s, and started again"


def _lost_host(world: World, random: Random) -> str:
    seconds = random.uniform(*AWAY_SECONDS)
    world.lose_host()
    time.sleep(seconds)
    world.regain_host()
    return f"the second host for {seconds:.0f} s"


def _full_disk(world: World, random: Random) -> str:
    ballast, seconds = fill(world.disk, 0), random.uniform(*FULL_SECONDS)
    world.had_full_disk = True
    time.sleep(seconds)
    ballast.unlink()
    return f"the disk for {seconds:.1f} s"


def _ordered(order: str) -> Hit:
    def hit(world: World, _random: Random) -> str:
        (world.folder / order).touch()
        return f"an episode is told to be {order}" if order == "slow" else "an episode is told to raise"

    return hit


DISK = "disk is full"
STRIKES = {
    "worker dies": Strike(_signalled(World.workers, signal.SIGKILL, "worker")),
    "worker hangs": Strike(_signalled(World.workers, signal.SIGSTOP, "worker")),
    "worker is slow": Strike(_slowed(World.workers, "worker")),
    "engine dies": Strike(_signalled(World.engines, signal.SIGKILL, "engine")),
    "engine hangs": Strike(_signalled(World.engines, signal.SIGSTOP, "engine")),
    "engine is slow": Strike(_slowed(World.engines, "engine")),
    "rank dies": Strike(_signalled(World.ranks, signal.SIGKILL, "rank")),
    "rank hangs": Strike(_signalled(World.ranks, signal.SIGSTOP, "rank")),
    "rank is slow": Strike(_slowed(World.ranks, "rank")),
    "host is lost": Strike(_lost_host),
    "driver dies": Strike(_killed_driver),
    "driver is stopped": Strike(_stopped_driver),
    "driver is slow": Strike(_slowed(_driver, "driver")),
    "environment is slow": Strike(_ordered("slow")),
    "environment raises": Strike(_ordered("raise"), changes=True),
    DISK: Strike(_full_disk),
}
PHASES = ("start", "rollout", "learn", "push", "checkpoint", "evaluate")
