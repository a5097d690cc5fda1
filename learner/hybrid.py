"""What playing and imitation count in an update, where a run does both: their weights, by schedule and by gate.

    weights_of(config, version, success, entropy)   →  Weights(play=1.0, imitation=0.3)
    Weights.count(parts)                            what is worth preparing: nothing that counts for nothing

What a gate goes by is measured over all ranks, so that all open it or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from learner.config import LearnerConfig
from learner.loss_config import ScheduleConfig
from learner.sequence import TrainingSequence

Parts = Sequence[Sequence[TrainingSequence]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of the losses in one update."""

    play: float
    imitation: float

    def count(self, parts: Parts, *, is_taught: bool) -> Parts:
        """Without what counts for nothing; what is played counts for a teacher too, whatever its own weight."""
        counts = {True: bool(self.imitation), False: bool(self.play) or is_taught}
        return [[each for each in part if counts[each.is_demonstration]] for part in parts]


def weights_of(config: LearnerConfig, version: int, success: float | None, entropy: float | None) -> Weights:
    """In the update that makes the policy of the next version."""
    measured = {"success": success, "entropy": entropy}

    def weight(highest: float, schedule: ScheduleConfig) -> float:
        return schedule.at(highest, version) if schedule.gate.is_open(measured[schedule.gate.by]) else 0.0

    return Weights(
        play=weight(config.rl_weight, config.rl_schedule), imitation=weight(config.sft_weight, config.sft_schedule)
    )


def entropy_of(parts: Parts, over_ranks: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """Of what was played, in nats a token, as the mean of −log p over the tokens drawn; None where nothing was."""
    sums = np.zeros(2)
    for sequence in (each for part in parts for each in part if not each.is_demonstration or each.imitates == "right"):
        drawn = sequence.sampled_logprobs[sequence.is_sampled].astype(np.float64)
        sums += -drawn.sum(), len(drawn)
    total, count = over_ranks(sums)
    return float(total / count) if count else None
