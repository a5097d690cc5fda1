"""What all rollout workers say of themselves, asked now and then while the run goes on.

    watch = EngineWatch(group.started, recorder.observe);  watch.stop()

Nobody waits for an answer: one that hangs is asked nothing more before it has answered, and that a worker is no more is
for its owner to find (rollout_group.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.groups.worker_states import Worker
from cluster.record.ticking import Ticking
from rollout.engine_stats import WorkerStats

SECONDS_BETWEEN_QUESTIONS = 5.0

Observe = Callable[[str, Mapping[str, float]], None]
"""Takes the numbers of a worker, by its name."""


class EngineWatch:
    """Asks the workers in a thread of its own."""

    def __init__(
        self, workers: Callable[[], Sequence[Worker]], observe: Observe, seconds: float = SECONDS_BETWEEN_QUESTIONS
    ) -> None:
        self._workers, self._observe = workers, observe
        self._asked: dict[str, Any] = {}
        self._before: dict[str, tuple[float, WorkerStats]] = {}
        self._tick()
        self._ticking = Ticking(self._tick, seconds)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._ticking.stop()

    def _tick(self) -> None:
        workers = {worker.name: worker for worker in self._workers()}
        for name, call in list(self._asked.items()):
            if name not in workers or ray.wait([call], timeout=0)[0]:
                del self._asked[name]
                self._hear(name, call)
        for name in workers.keys() - self._asked.keys():
            self._asked[name] = workers[name].actor.stats.remote()

    def _hear(self, name: str, call: Any) -> None:
        try:
            stats: WorkerStats = ray.get(call, timeout=0)
        except (RayError, TimeoutError):
            self._before.pop(name, None)
            return
        now, before = time.monotonic(), self._before.get(name)
        self._before[name] = now, stats
        seconds, then = (now - before[0], before[1]) if before else (0.0, None)
        self._observe(name, stats.numbers(then, seconds))
