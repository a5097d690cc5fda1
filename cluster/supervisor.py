"""What happens when a part of a run dies or goes wrong.

A rollout worker dies        the others take its tasks, another one its place    (groups/rollout_group.py)
A learner rank dies          all ranks start anew from the newest checkpoint
A loss is not finite         nothing was stepped; the episodes are kept in `failures/`, the run stops
An environment fails         its episode is dropped; too many stop the run       (iteration/played.py)
Learner and worker differ    sent once more; then the run stops                  (groups/weight_sync.py)
SIGTERM, Ctrl-C              a checkpoint is written, everything is released     (leaving.py, stopping.py)

A deadline stands on every wait, and what runs into it says who, in what phase, and what was last heard.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ray

from cluster.errors import RunError
from cluster.groups.learner_group import LearnerDied, LearnerGroup
from cluster.record.episode_log import append_episodes
from cluster.record.run_directory import RunDirectory
from learner.deepspeed_engine import NonFinite
from learner.learner import UpdateReport
from learner.worker import Item


class Supervisor:
    """Decides what is tried again and what ends the run."""

    def __init__(self, restart_learner: Callable[[], None], max_restarts: int, say: Callable[[str], None]) -> None:
        self._restart_learner, self._max_restarts, self._say = restart_learner, max_restarts, say
        self.num_restarts = 0

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """One iteration; where a learner rank dies in it, the run is back at its newest checkpoint behind the block."""
        try:
            yield
        except LearnerDied as error:
            if self.num_restarts == self._max_restarts:
                raise RunError(
                    f"{error} They are not started again: cluster.max_learner_restarts={self._max_restarts} is used up."
                ) from error
            self.num_restarts += 1
            self._say(f"{error} All learner ranks start anew from the newest checkpoint.")
            self._restart_learner()


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
