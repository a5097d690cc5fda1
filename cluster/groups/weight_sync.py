"""New weights for all rollout workers, and the proof that they arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.groups.learner_group import LearnerGroup
from rollout.engine import PolicyMismatch, Prompt
from rollout.probe import TOLERANCES, ProbeExpectation
from rollout.receivers import Receivers
from rollout.weight_digest import WHOLE
from rollout.weight_transfer import SyncReport

PERTURBATION = 2**-4
"""Seen in every dtype, whatever the value."""


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
        self._dtype, self._tolerance = dtype, TOLERANCES[dtype]
        self._connected: Receivers | None = None
        self._is_proven = self._is_exact = False
        self._num_attempts = 0

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
        if not self._is_proven:
            self._prove(workers, version)
        sync = self._send(workers, version)
        self._connected = workers
        expected = ProbeExpectation(
            prompts=self._probe,
            logprobs=self._learner.expected(self._probe),
            version=version,
            tolerance=self._tolerance,
            digest=sync.digest,
        )
        return PushReport(sync=sync, gap=workers.verify(expected))

    def _send(self, workers: Receivers, version: int, *, perturbation: float = 0.0) -> SyncReport:
        return self._learner.send_weights(
            workers,
            version,
            self._backend,
            held_as=self._dtype,
            perturbation=perturbation,
            with_digest=bool(perturbation) or self._is_exact,
            **self._options,
        )

    def _prove(self, workers: Receivers, version: int) -> None:
        """Before the first weights that count, send such that are all wrong: whatever they do not reach would stay as
        it was loaded, and hardly show while a policy has not moved far.

        Where engines hold exactly what they are sent, their digest tells so of each push to come.
        """
        before = workers.digests()
        # Another one at each attempt, since some may have got the last one's.
        self._num_attempts += 1
        sync = self._send(workers, version, perturbation=self._num_attempts * PERTURBATION)
        after = workers.digests()
        self._is_exact = all(sum(new.values()) % WHOLE == sync.digest for new in after)
        for old, new in zip(before, after, strict=True):
            if missed := [name for name, digest in new.items() if digest == old[name]]:
                raise PolicyMismatch(
                    f"{len(missed)} of {len(new)} weights of the rollout engines are not reached by a push: "
                    f"{', '.join(missed[:5])}{' …' if len(missed) > 5 else ''}. They would play an old policy."
                )
        self._is_proven = True
