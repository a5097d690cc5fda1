"""How a run is left that was asked to stop: with a checkpoint of what it has done, where there can be one in time.

again("rl", folder)     how to go on
short_grace(config)     that the job's Ray would not wait for it
leave(run, stop)    →   where it stands
"""

import math
import time
from pathlib import Path
from threading import Thread

from cluster.options import ClusterConfig
from cluster.planning.placement import Command
from cluster.session import STOP_WAIT, stop_grace
from cluster.stopping import CLOSE_SECONDS, StopRequest
from cluster.training import Training


def again(kind: Command, folder: Path) -> str:
    """What to type to go on."""
    return "start it again" if kind == "evaluate" else f"go on with `ruleshift {kind} --resume {folder}`"


def short_grace(config: ClusterConfig) -> str | None:
    """What to say where `ray job stop` would kill this job before it has stopped by itself."""
    grace, needed = stop_grace(), math.ceil(config.stop_timeout_seconds + CLOSE_SECONDS)
    if grace is None or grace >= needed:
        return None
    return (
        f"`ray job stop` kills this job {grace:g} s after it was asked to stop, and stopping takes up to {needed} s "
        f"(cluster.stop_timeout_seconds); submit it with --runtime-env-json "
        f'\'{{"env_vars": {{"{STOP_WAIT}": "{needed}"}}}}\', or it goes on from an older checkpoint'
    )


def leave(run: Training, stop: StopRequest) -> str:
    """Keep what can be kept, and say what that is."""
    started = time.monotonic()
    told = f"in phase {run.present}"
    if run.kind != "evaluate":
        told += "" if run.present == "start" else f", after iteration {run.iteration}"
        told += f"; {_kept(run, stop)}"
    run.progress.say(f"stopped {told} ({time.monotonic() - started:.1f} s)")
    run.progress.close()
    return told


def _kept(run: Training, stop: StopRequest) -> str:
    """Have a checkpoint of what was done, unless there is one or the learner has gone on from there."""
    why = ""
    if run.is_unsaved and not stop.is_patient and stop.seconds_left:
        run.actors.end_play()
        why = _saved_within(run, stop.seconds_left)
    found = run.directory.checkpoints()
    newest = f"the newest checkpoint is that of iteration {found[-1][0]}" if found else "there is no checkpoint yet"
    return f"{why}{newest}"


def _saved_within(run: Training, seconds: float) -> str:
    """Why there is no checkpoint; nothing where there is one. What takes longer is not waited for, whatever it does."""
    errors: list[BaseException] = []

    def save() -> None:
        try:
            run.save(wait=True)
        except BaseException as error:
            errors.append(error)

    saving = Thread(target=save, daemon=True, name="save")
    saving.start()
    saving.join(seconds)
    if errors:
        return f"none could be written ({(str(errors[0]) or repr(errors[0])).splitlines()[0]}); "
    key = f"cluster.stop_timeout_seconds={run.config.cluster.stop_timeout_seconds:g}"
    return f"none was written within {key}; " if saving.is_alive() else ""
