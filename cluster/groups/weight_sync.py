"""New weights for all rollout workers, and the proof that they arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.groups.learner_group import LearnerGroup
from rollout.engine import PolicyMismatch, Prompt
from rollout.probe import TOLERANCES, ProbeExpectation
from rollout.receivers import Receivers
from rollout.weight_transfer import SyncReport


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push took and showed."""

    sync: SyncReport
    """Seconds, bytes and calls of the transfer."""
    gap: float
    """The largest difference between the log-probabilities of learner and workers at the probe."""


class WeightSync:
    """From the learner group to rollout workers; they play nothing until the probe has passed."""

    def __init__(
        self, learner: LearnerGroup, probe: Sequence[Prompt], *, backend: str, dtype: str, **options: Any
    ) -> None:
        """`options` are those of the backend's sender."""
        self._learner, self._probe, self._backend, self._options = learner, probe, backend, options
        self._tolerance = TOLERANCES[dtype]
        self._connected: Receivers | None = None

    def push(self, workers: Receivers) -> PushReport:
        """Send and verify; a mismatch is tried once more, since a worker may have been replaced meanwhile."""
        try:
            return self._push(workers)
        except PolicyMismatch:
            return self._push(workers)

    def _push(self, workers: Receivers) -> PushReport:
        if self._connected != workers:
            self._learner.forget_workers()
        self._connected = None  # a connection on which sending fails is not used again
        version = self._learner.version()
        sync = self._learner.send_weights(workers, version, self._backend, **self._options)
        self._connected = workers
        expected = ProbeExpectation(
            prompts=self._probe,
            logprobs=self._learner.expected(self._probe),
            version=version,
            tolerance=self._tolerance,
        )
        return PushReport(sync=sync, gap=workers.verify(expected))
