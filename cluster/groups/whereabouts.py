"""Where an actor runs, or ran before it died, and the end of what it printed: for whoever has to look into it.

    print(where(actor))          host 10.0.0.4, process 4711, log …/logs/worker-…-4711.err
    last_lines(where(actor))     what stands at the end of that log
    named(why, where(actor))     why it is given up, in one line that says of which process
    end_of_log(where(actor))     what belongs behind that line, and `log_end` puts into the run's log alone

They ask Ray's own books, not the actor, so they answer for one that hangs or is no more; none ever raises: an error
that is being told must not be hidden by another.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray._private import state
from ray._private import worker as driver
from ray.exceptions import RayError
from ray.util.state import get_log
from ray.util.state.exception import RayStateApiException

SECONDS_FOR_A_LOG = 5
"""How long another host may take to send the end of a log."""
TAIL_BYTES = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """The process of an actor: `Whereabouts(host="10.0.0.4", process_id=4711, node_id="3f…", logs=())`."""

    host: str = ""
    """The address of its host; empty where Ray does not know."""
    process_id: int = 0
    """Which process of that host; 0 where Ray does not know."""
    node_id: str = ""
    """What Ray calls the host."""
    logs: tuple[Path, ...] = ()
    """What it printed, that which it wrote to last first, where that lies on this host."""

    def __str__(self) -> str:
        """As a part of a line."""
        if not self.process_id:
            return "a process that Ray knows nothing of"
        log = self.logs[0] if self.logs else f"worker-*-{self.process_id}.err in Ray's logs there"
        return f"host {self.host}, process {self.process_id}, log {log}"


def where(actor: Any) -> Whereabouts:
    """Of an actor's handle."""
    try:
        told = state.actors(actor._actor_id.hex())
        if not told or not told["Pid"]:
            return Whereabouts()
        address, process_id = told["Address"], told["Pid"]
        here = address["NodeID"] == ray.get_runtime_context().get_node_id()
        return Whereabouts(
            host=address["IPAddress"],
            process_id=process_id,
            node_id=address["NodeID"],
            logs=_logs(process_id) if here else (),
        )
    except (RayError, RuntimeError, OSError):  # Ray itself is gone, or going
        return Whereabouts()


def named(why: str, whereabouts: Whereabouts) -> str:
    """The first line of why an actor is given up, with its host and process unless they are in it.

    >>> named("rank 1 died.", Whereabouts(host="10.0.0.4", process_id=4711))
    'rank 1 died; host 10.0.0.4, process 4711'
    """
    first, process = why.partition("\n")[0].rstrip(". "), f"process {whereabouts.process_id}"
    is_known = whereabouts.process_id and process not in first
    return f"{first}; host {whereabouts.host}, {process}" if is_known else first


def end_of_log(whereabouts: Whereabouts) -> str:
    """Where the log of the process is, and its last lines."""
    return f"{whereabouts}\n{last_lines(whereabouts)}".rstrip()


def log_end(name: str, whereabouts: Whereabouts) -> None:
    """Put that into the run's log, in the background: another host may take its time to send it."""

    def log() -> None:
        logging.getLogger(__name__).warning("%s was %s", name, end_of_log(whereabouts))

    Thread(target=log, daemon=True, name=f"log-of-{name}").start()


def last_lines(whereabouts: Whereabouts, count: int = 20) -> str:
    """The last lines that the process printed, as far as they can be read from here; empty where they cannot."""
    found = (_tail(log, count) for log in whereabouts.logs) if whereabouts.logs else _sent(whereabouts, count)
    return next((lines for lines in found if lines), "")


def _logs(process_id: int) -> tuple[Path, ...]:
    """The files of a process of this host; those of the newest, where two have had one number."""
    if driver._global_node is None:
        return ()
    folder = Path(driver._global_node.get_logs_dir_path())
    errors = sorted(folder.glob(f"worker-*-{process_id}.err"), key=lambda file: file.stat().st_mtime)
    found = [errors[-1].with_suffix(suffix) for suffix in (".out", ".err")] if errors else []
    # Libraries warn on stderr as they are loaded, and vLLM tells of its troubles on stdout.
    told = [(bool(status.st_size), status.st_mtime_ns, log) for log in found if (status := log.stat())]
    return tuple(log for _, _, log in sorted(told, reverse=True))


def _tail(log: Path, count: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return _joined(text.splitlines(), count)


def _sent(whereabouts: Whereabouts, count: int) -> Iterator[str]:
    """From another host, through Ray's dashboard, where that is there and lets us."""
    if not whereabouts.process_id:
        return
    asked = {"node_id": whereabouts.node_id, "pid": whereabouts.process_id, "tail": count}
    for suffix in ("err", "out"):
        try:
            sent = "".join(get_log(**asked, suffix=suffix, timeout=SECONDS_FOR_A_LOG, errors="replace"))
        except (RayStateApiException, RayError, OSError, RuntimeError, ValueError):
            return
        yield _joined(sent.splitlines(), count)


def _joined(lines: Sequence[str], count: int) -> str:
    """Without Ray's marks of which class and task the lines are of, which are for its own reader."""
    return "\n".join([line for line in lines if not line.startswith(":") and line.strip()][-count:])
