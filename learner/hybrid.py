"""What playing and imitation count in an update, where a run does both: their weights, by schedule and by gate.

    Mixing(config, over_ranks).weights(parts, version)   →  Weights(play=1.0, imitation=0.3)
    Weights.count(parts)                                 what is worth preparing: nothing that counts for nothing

What a gate goes by is measured over all ranks, so that all open it or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from learner.config import LearnerConfig
from learner.loss_config import ScheduleConfig
from learner.sequence import TrainingSequence, Trajectory

Parts = Sequence[Sequence[TrainingSequence]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of the losses in one update."""

    play: float
    imitation: float

    def count(self, parts: Parts) -> Parts:
        """Without demonstrations where these count for nothing."""
        if self.imitation:
            return parts
        return [[each for each in part if not each.is_demonstration] for part in parts]


class Mixing:
    """Decides them anew for each update; remembers what the next gate goes by."""

    def __init__(self, config: LearnerConfig, over_ranks: Callable[[np.ndarray], np.ndarray]) -> None:
        self._config, self._over_ranks = config, over_ranks
        self.entropy: float | None = None
        """Of what the last update was played with."""

    def weights(self, parts: Parts, version: int) -> Weights:
        """In the update that makes the policy of the next version."""
        config = self._config
        measured = {
            "success": self._success(parts) if "success" in config.gates else None,
            "entropy": self.entropy,
        }

        def weight(highest: float, schedule: ScheduleConfig) -> float:
            return schedule.at(highest, version) if schedule.gate.is_open(measured[schedule.gate.by]) else 0.0

        return Weights(
            play=weight(config.rl_weight, config.rl_schedule), imitation=weight(config.sft_weight, config.sft_schedule)
        )

    def _success(self, parts: Parts) -> float | None:
        """The share of played episodes whose last answer was right; None where none was played."""
        ends: dict[Trajectory, tuple[int, bool]] = {}
        for sequence in (each for part in parts for each in part if not each.is_demonstration):
            last = sequence.context, bool(sequence.is_right[np.flatnonzero(sequence.is_sampled)[-1]])
            ends[sequence.trajectory] = max(ends.get(sequence.trajectory, last), last)
        solved, count = self._over_ranks(np.array([sum(right for _, right in ends.values()), len(ends)], np.float64))
        return float(solved / count) if count else None
