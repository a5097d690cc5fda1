"""What happens when a part of a run dies or goes wrong.

A rollout worker dies        the others take its tasks, another one its place    (groups/worker_lives.py)
Its engine dies or hangs     the same; the learner is left alone                 (groups/health.py)
A learner rank dies, hangs   all ranks start anew from the newest checkpoint
A host is lost               the same for who was on it; episodes that only it had are played again
The host comes back          workers take their places again, with the newest weights
Weights do not arrive        whoever does not answer is replaced, and they are sent again
A loss is not finite         nothing was stepped; the episodes are kept in `failures/`, the run stops
An environment fails         its episode is dropped; too many stop the run       (iteration/played.py)
Learner and worker differ    sent once more; then the run stops                  (groups/weight_sync.py)
SIGTERM, Ctrl-C              a checkpoint is written, everything is released     (leaving.py, stopping.py)

A deadline stands on every wait, and what runs into it says who, in what phase, and what was last heard.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ray

from cluster.errors import RunError
from cluster.groups.learner_group import LearnerDied, LearnerGroup
from cluster.groups.restarts import RestartBudget
from cluster.record.episode_log import append_episodes
from cluster.record.run_directory import RunDirectory
from learner.deepspeed_engine import NonFinite
from learner.learner import UpdateReport
from learner.worker import Item


class Supervisor:
    """Decides what is tried again and what ends the run."""

    def __init__(self, restart_learner: Callable[[], None], max_restarts: int, say: Callable[[str], None]) -> None:
        self._restart_learner, self._say = restart_learner, say
        self._budget = RestartBudget(max_restarts)

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """One iteration; where a learner rank dies in it, the run is back at its newest checkpoint behind the block."""
        try:
            yield
        except LearnerDied as error:
            self._begin_again(error)

    def repeat(self, call: Callable[[], None]) -> None:
        """Call until no learner rank dies in it; what the newest checkpoint has is done again."""
        while True:
            with self.iteration():
                call()
                return

    def _begin_again(self, error: LearnerDied | None) -> None:
        while error is not None:
            # Where the rank was and how its log ends is of no use to whoever looks on while the run goes on.
            first, _, rest = str(error).partition("\n")
            first = first.rstrip(". ")
            if not self._budget.take():
                limit = f"cluster.max_learner_restarts={self._budget.limit}"
                told = f"{first}. They are not started again: {limit} is used up within the hour. Go on with --resume."
                raise RunError(f"{told}\n{rest}".rstrip()) from error
            self._say(f"{first}. All learner ranks start anew from the newest checkpoint.")
            if rest:
                logging.getLogger(__name__).warning(rest)
            try:
                self._restart_learner()
                error = None
            except LearnerDied as another:
                error = another


def learn(
    learner: LearnerGroup, items: Sequence[Item], success: float | None, directory: RunDirectory, iteration: int
) -> UpdateReport:
    """One update; episodes whose loss is not finite are kept for whoever looks into it."""
    try:
        return learner.update(items, success)
    except NonFinite as error:
        kept = directory.failures / f"iteration_{iteration:06d}.jsonl"
        append_episodes(kept, ray.get([item.episode for item in items]), iteration=iteration, temperature=float("nan"))
        raise RunError(
            f"iteration {iteration}: {error} The optimizer has stepped on nothing of it; the episodes are in {kept}. "
            "Lower learner.optimizer.learning_rate, or look at what they hold, and go on with --resume"
        ) from error
