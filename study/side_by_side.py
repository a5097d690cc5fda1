"""Cells of a study at the same time, in actors that Ray places, which start the runs' own actors.

make_side_by_side(cells, stop, shown, width=4, make=make_cell)

A cell waits for those that it starts from or learns from. When one fails, or the study is asked to stop, the others
write a checkpoint and end; started again, the study goes on with them.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from pathlib import Path
from queue import LifoQueue
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.errors import RunError, Stopped
from cluster.groups.crew import CLOSE_SECONDS, Crew
from cluster.record.ticking import SECONDS_BETWEEN_LINES
from cluster.stopping import StopRequest
from study.cells import Cell
from study.progress import StudyProgress

CellRunner = Callable[[Cell, StopRequest], None]
"""Trains a cell until it ends or is asked to stop."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_CLOSE = 5 * CLOSE_SECONDS
"""How long a lane may take to end its engines and give its room back: Ray keeps the room of an actor that is killed for
as long as its driver lives."""
SHARE_OF_STOP = 0.8
"""How much of the time that a stop may take a cell has; the rest is for hearing of it and for closing."""


def make_side_by_side(
    cells: Sequence[Cell],
    stop: StopRequest,
    shown: StudyProgress,
    *,
    width: int,
    stays: bool,
    make: Callable[[Cell, StopRequest, StudyProgress, CellRunner], None],
) -> None:
    """All cells, at most `width` at a time; raises what the first that failed has raised. `stays`: whether the room of
    one is what any other needs, and nobody waits for it, so that processes may keep it from cell to cell."""
    made: dict[Path, Future[None]] = {}
    waiting = {cell.folder for cell in cells}
    # What was used last comes first: its processes are there.
    lanes: LifoQueue[_Lane] = LifoQueue()

    def make_one(cell: Cell) -> None:
        for needed in cell.needs:
            made[needed.folder].result()
        lane = lanes.get()
        waiting.discard(cell.folder)
        try:
            make(cell, stop, shown, lane.train)
        finally:
            if not stays or not waiting:
                lane.close()
            lanes.put(lane)

    with ExitStack() as cleaning, ThreadPoolExecutor(width) as pool:
        for number in range(width):
            lanes.put(cleaning.enter_context(closing(_Lane(number))))
        for cell in in_turn(cells):
            made[cell.folder] = pool.submit(make_one, cell)
        failure = _watch(made, shown)
        if failure is not None and not stop.is_made:
            stop.ask()
    if failure is not None:
        raise failure


def in_turn(cells: Sequence[Cell]) -> list[Cell]:
    """Starts first, so that one is under way when a cell waits for it; then seed after seed, and of each what plays
    first: it takes longest, and one long run at the end would have the machine to itself."""
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return sorted(cells, key=lambda cell: (_depth(cell), seeds.index(cell.seed), cell.command != "rl"))


def _depth(cell: Cell) -> int:
    return max((1 + _depth(needed) for needed in cell.needs), default=0)


def _watch(made: dict[Path, Future[None]], shown: StudyProgress) -> BaseException | None:
    """Say now and then how far each cell is, until all are made or one has failed; with what."""
    while True:
        done, running = wait(made.values(), timeout=SECONDS_BETWEEN_LINES, return_when=FIRST_EXCEPTION)
        failure = next((error for future in done if (error := future.exception()) is not None), None)
        if failure is not None or not running:
            return failure
        shown.say(shown.standing())
        for folder, making in made.items():
            log = folder / "log.txt"
            if making.running() and log.is_file():
                said = log.read_text(encoding="utf-8").splitlines()[-1:]
                print(f"{folder.name}: {''.join(said)}", file=sys.stderr, flush=True)


def train_here(cell: Cell, stop: StopRequest, crew: Crew) -> None:
    """Train in this process; engines and ranks that fit go from one cell to the next."""
    if cell.command == "sft":
        from cluster.train_sft import train_sft as train
    else:
        from cluster.train_rl import train_rl as train
    train(cell.config, at=cell.folder, stop=stop, crew=crew)


class _Lane:
    """Cells one after another in an actor, which starts with the first and stays for those that follow."""

    def __init__(self, number: int) -> None:
        self._number, self._actors, self._actor = number, 0, None

    def train(self, cell: Cell, stop: StopRequest) -> None:
        """Train a cell; a request to stop is passed on."""
        if self._actor is None:
            # A name is not free at once when its actor has ended.
            name = f"cells-{self._number}" + ("-again" * self._actors)
            making: Any = ray.remote(_Making).options(name=name, num_cpus=0, max_concurrency=2)
            self._actor = making.remote(cell.config.cluster.stop_timeout_seconds * SHARE_OF_STOP)
            self._actors += 1
        try:
            _passed_on(cell, stop, self._actor)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the actor and, before it, its engines and ranks."""
        if self._actor is not None:
            ray.wait([self._actor.close.remote()], timeout=SECONDS_TO_CLOSE)
            ray.kill(self._actor)
            self._actor = None


def _passed_on(cell: Cell, stop: StopRequest, actor: Any) -> None:
    from rollout.receivers import DEATHS

    running = actor.train.remote(cell)
    told: Any = None
    try:
        while not ray.wait([running], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            if stop.is_made and told is None:
                told = actor.stop.remote()  # one that has not begun hears it when it does, and is not waited for
            if stop.is_made and not stop.seconds_left:
                raise Stopped("stopped where its newest checkpoint is")
        ray.get(running)
    except RayTaskError as error:
        # What was raised there, without the traceback that Ray makes its words.
        raise error.cause if isinstance(error.cause, Stopped) else error.as_instanceof_cause() from None
    except DEATHS as error:
        raise RunError(
            f"{cell.folder}: the cell's process died; start the study again to go on. Ray says: {error}"
        ) from error


class _Making:
    """Runs, as a Ray actor that can be asked to stop."""

    def __init__(self, seconds: float) -> None:
        self._stop, self._crew = StopRequest(seconds), Crew()

    def train(self, cell: Cell) -> None:
        """Until it ends or is stopped."""
        train_here(cell, self._stop, self._crew)

    def stop(self) -> None:
        """As soon as it can be left."""
        self._stop.ask()

    def close(self) -> None:
        """End what the last cell has left."""
        self._crew.close()
