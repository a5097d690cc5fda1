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

from study.commands import add_configuration

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

    folder = Path(os.environ.get(DISK) or tempfile.mkdtemp(prefix="ruleshift-chaos-"))
    strikes = {name: strike for name, strike in STRIKES.items() if (arguments.only or "") in name}
    if DISK not in os.environ:
        print("no disk can be mounted here, so none is filled", flush=True)
        strikes.pop(DISK_STRIKE, None)
    words = _words(arguments.overrides)
    rounds = Rounds(words, folder, strikes, Random(arguments.seed), ends=time.monotonic() + 60 * arguments.minutes)
    found = rounds.play()
    print(f"\n{rounds.num_runs} runs, {sum(rounds.hits.values())} strikes", flush=True)
    for (name, phase), count in sorted(rounds.hits.items()):
        print(f"  {count:3d} × {name} in {phase}")
    for fault in found:
        print(f"WRONG: {fault}", file=sys.stderr)
    if not found:
        print("nothing was lost, doubled or wrong")
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0


def _words(given: list[str]) -> list[str]:
    files = [word for word in given if Path(word).is_file()]
    return [*(str(Path(file).resolve()) for file in files), *DEFAULTS, *(word for word in given if word not in files)]


def _on_a_disk_of_its_own() -> int | None:
    """Do it all where a small disk is mounted that no other process sees; None where this user may not."""
    folder = tempfile.mkdtemp(prefix="ruleshift-chaos-")
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    mount = f"mount -t tmpfs -o size={DISK_BYTES} tmpfs {folder}"
    may_mount = shutil.which("unshare") and not subprocess.run([*unshare, "sh", "-c", mount], check=False).returncode
    if not may_mount:
        return None
    again = [*unshare, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-m", "study.cli", *sys.argv[1:]]
    return subprocess.run(again, check=False, env={**os.environ, DISK: folder}).returncode
