"""Strike runs at random moments, and see what comes of them.

Two hosts of Ray's, two engines and two learner ranks, all of them processes of this machine, play the configuration to
its end again and again, until the minutes are over. Meanwhile a worker, an engine, a rank, a host, the driver, the disk
or an environment is killed, stopped, slowed, lost or filled, whichever the seed says. Each run has to end by itself and
to have every task of every iteration exactly once, rows without gap or repeat, and the weights of an undisturbed run
wherever it drew the same tokens. The exit status is 1 where something was lost, doubled or wrong.

    ruleshift chaos configs/smoke.yaml --minutes 30 --seed 0
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from cluster.record.disk import of_its_own
from study.commands import add_configuration

if TYPE_CHECKING:
    from study.chaos.rounds import Rounds

DISK = "RULESHIFT_CHAOS_DISK"
"""Where the runs of a chaos are whose disk is its own."""
DISK_BYTES = 400 * 2**20
DEFAULTS = (
    "cluster.iterations=8",
    "cluster.checkpoint_every=2",
    "cluster.evaluate_every=3",
    "evaluation.episodes=60",
    "learner.loss.importance_cap=null",
)
"""Before the words of the command, which may say otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30); the last run is played to its end")
    parser.add_argument("--seed", type=int, default=0, help="what is struck, and when (0)")
    parser.add_argument("--only", metavar="WORDS", help="only strikes whose names have these words, as 'engine'")


def run(arguments: argparse.Namespace) -> int:
    if DISK not in os.environ and (status := _on_a_disk_of_its_own()) is not None:
        return status
    from study.chaos.rounds import Rounds
    from study.chaos.strikes import DISK as DISK_STRIKE
    from study.chaos.strikes import STRIKES

    strikes = {name: strike for name, strike in STRIKES.items() if (arguments.only or "") in name}
    if DISK not in os.environ:
        print("no disk can be mounted here, so none is filled", flush=True)
        strikes.pop(DISK_STRIKE, None)
    words, ends = _words(arguments.overrides), time.monotonic() + 60 * arguments.minutes
    kept = Path("runs") / f"chaos_{time.strftime('%Y-%m-%d-%H%M%S')}_seed{arguments.seed}"
    with tempfile.TemporaryDirectory(dir=os.environ.get(DISK)) as disk:
        rounds = Rounds(words, kept.resolve(), Path(disk), strikes, Random(arguments.seed), ends=ends)
        found = rounds.play()
        if found:
            shutil.copytree(Path(disk) / rounds.last, kept / rounds.last / "run")
    _tell(rounds, found)
    if found:
        print(f"what was wrong is kept in {kept / rounds.last}", file=sys.stderr)
        return 1
    shutil.rmtree(kept)
    return 0


def _tell(rounds: "Rounds", found: list[str]) -> None:
    """What was hit, and what came of it."""
    print(f"\n{rounds.num_runs} runs, {sum(rounds.hits.values())} strikes", flush=True)
    for (name, phase), count in sorted(rounds.hits.items()):
        print(f"  {count:3d} × {name} in {phase}")
    for fault in found:
        print(f"WRONG: {fault}", file=sys.stderr)
    if not found:
        print("nothing was lost, doubled or wrong")


def _words(given: list[str]) -> list[str]:
    files = [word for word in given if os.path.isfile(word)]
    return [*(str(Path(file).resolve()) for file in files), *DEFAULTS, *(word for word in given if word not in files)]


def _on_a_disk_of_its_own() -> int | None:
    """Do it all where the runs have a small disk that no other process sees; None where this user may mount none."""
    with tempfile.TemporaryDirectory(prefix="ruleshift-chaos-") as folder:
        mounted = of_its_own(Path(folder), DISK_BYTES)
        if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False).returncode:
            return None
        again = [*mounted, sys.executable, "-m", "study.cli", *sys.argv[1:]]
        return subprocess.run(again, check=False, env={**os.environ, DISK: folder}).returncode
