"""Run after run, each struck again and again, until the time is over.

Rounds(words, folder, strikes, random, ends).play()   →  what went wrong
"""

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import psutil

from study.chaos.judge import faults, same_draws
from study.chaos.strikes import PHASES, Strike
from study.chaos.world import World

PHASE_SECONDS = 30.0
"""How long one waits for a phase before another strike is chosen."""
INTO_SECONDS = {"start": 20.0, "rollout": 2.0, "learn": 2.0, "push": 0.3, "checkpoint": 0.3, "evaluate": 2.0}
"""How far into a phase a strike may come."""
PAUSE_SECONDS = (1.0, 15.0)
RUN_SECONDS = 1800.0
"""How long a run may take with all that happens to it."""


class Rounds:
    """What is played, what was hit, and what came of it."""

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        disk: Path,
        strikes: Mapping[str, Strike],
        random: Random,
        *,
        ends: float,
    ) -> None:
        """What is said of runs goes to `folder`, the runs themselves to the `disk`, which may be filled."""
        self._words, self._strikes, self._random, self._ends = words, strikes, random, ends
        self._folder, self._disk = folder, disk
        self.last = "undisturbed"
        """The name of the run that was played last, in both."""
        self.hits = Counter[tuple[str, str]]()
        self.num_runs = 0

    def play(self) -> list[str]:
        """Until the time is over, or something is wrong."""
        undisturbed = self._folder / self.last
        with World(self._words, undisturbed, disk=self._disk / undisturbed.name) as world:
            world.start()
            world.wait(RUN_SECONDS)
            found = faults(world, None, may_differ=False)
            print(f"undisturbed: {'; '.join(found) or 'as it should be'}", flush=True)
            reference = world.run
        while not found and time.monotonic() < self._ends:
            self.num_runs += 1
            self.last = f"run_{self.num_runs}"
            folder = self._folder / self.last
            with World(self._words, folder, disk=self._disk / folder.name) as world:
                may_differ = self._struck(world)
                found = faults(world, reference, may_differ=may_differ)
                same = same_draws(reference, world.run) if world.status == 0 else 0
            told = "; ".join(found) or f"as it should be, the same draws in its first {same} iterations"
            print(f"run {self.num_runs}: {told}", flush=True)
            if not found:
                shutil.rmtree(world.disk)
        return found

    def _struck(self, world: World) -> bool:
        """Play one run to its end; whether something happened by which it may differ from an undisturbed one."""
        may_differ, began = False, time.monotonic()
        world.start()
        while world.is_running or world.ended_by_a_full_disk:
            if not world.is_running:
                print("  the run has ended for want of room, and is started again", flush=True)
                world.start()
            elif time.monotonic() < self._ends:
                name = self._random.choice(sorted(self._strikes))
                may_differ |= self._strike(world, name) and self._strikes[name].changes
            pause = time.monotonic() + self._random.uniform(*PAUSE_SECONDS)
            while world.is_running and time.monotonic() < pause:
                time.sleep(0.1)
            if time.monotonic() - began > RUN_SECONDS:
                world.driver.kill()
                print(f"the run has not ended after {RUN_SECONDS:.0f} s", flush=True)
        return may_differ

    def _strike(self, world: World, name: str) -> bool:
        """Wait for a phase and strike in it; whether there was something to hit."""
        wanted, ends = self._random.choice(PHASES), time.monotonic() + PHASE_SECONDS
        while world.phase != wanted:
            if not world.is_running or time.monotonic() > ends:
                return False
            time.sleep(0.005)
        time.sleep(self._random.uniform(0, INTO_SECONDS[wanted]))
        if not world.is_running:
            return False
        phase = world.phase
        try:
            told = self._strikes[name].hit(world, self._random)
        except psutil.NoSuchProcess:  # it has ended by itself
            told = ""
        if told:
            self.hits[name, phase] += 1
            print(f"  {time.strftime('%H:%M:%S')} {phase}: {name}: {told}", flush=True)
        return bool(told)
