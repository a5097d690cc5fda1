"""The receiving side of a weight update: every call goes to all rollout workers that take part, at once.

    Receivers(actors, places)     as vLLM's senders want it (`VLLMWeightSyncClient`), in whichever process sends
      .among(numbers)             some of them, for a rank that serves no more
      .verify(expected)        →  the largest gap of all

It knows what differs between workers, their ranks in a group and the hosts that they are on, but nothing of their
lives: who takes part, and what becomes of one that fails, is for their owner to say (cluster/groups/rollout_group.py).
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import ray
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from rollout.engine import EngineError
from rollout.probe import ProbeExpectation
from rollout.weight_files import contents_of
from rollout.weight_transfer import Place, rank_offsets

DEATHS = (
    *(RayActorError, OutOfMemoryError, NodeDiedError),
    *(ActorUnschedulableError, ActorPlacementGroupRemoved, RuntimeEnvSetupError),
)
"""What Ray raises in the place of an actor's answer where the actor is no more; not all of it is a RayActorError."""
LOSSES = (ObjectLostError, *DEATHS)
"""What Ray raises in the place of an object that nobody has any more."""
LEAST_SECONDS = 120.0
SLOWEST_BYTES_PER_SECOND = 50e6
"""Weights that move slower than this do not move any more."""


def transfer_seconds(num_bytes: int) -> float:
    """How long weights of so many bytes may be on their way."""
    return LEAST_SECONDS + num_bytes / SLOWEST_BYTES_PER_SECOND


class WorkerDied(EngineError):
    """A rollout worker's process ended while it was needed."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Workers that take part in an update, and where each of them is."""

    actors: tuple[Any, ...]
    places: tuple[Place, ...]
    seconds: float = LEAST_SECONDS
    """How long each step of an update may take on any of them."""

    @classmethod
    def of(cls, actors: Sequence[Any]) -> Self:
        """These workers, which are asked where they are; raises WorkerDied if one is no more."""
        return cls(tuple(actors), tuple(_each(actors, "place", [()] * len(actors), LEAST_SECONDS)))

    def among(self, numbers: Sequence[int]) -> Self:
        """Those with the numbers alone."""
        return replace(
            self,
            actors=tuple(self.actors[number] for number in numbers),
            places=tuple(self.places[number] for number in numbers),
        )

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """How weights will arrive."""
        if "rank_offset" not in init_info:
            self._all("init_weight_transfer", init_info)
            return
        # vLLM means one engine, whose ranks follow its own; they all wait here until the group is complete.
        offsets = rank_offsets(self.places)
        given = [({**init_info, "rank_offset": offset},) for offset in offsets]
        _each(self.actors, "init_weight_transfer", given, self.seconds, together=True)

    def start_weight_update(self) -> None:
        """An update begins."""
        self._all("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        """One bucket; what lies in a file of this host's memory goes to others through Ray, once to each."""
        if "path" not in update_info:
            # Without a handle either, weights come by broadcast, in which the others wait for one that has failed.
            together = "ipc_handles_pickled" not in update_info
            _each(self.actors, "update_weights", [(update_info,)] * len(self.actors), self.seconds, together=together)
            return
        here = own_place().host
        is_far = [place.host != here for place in self.places]
        contents = ray.put(contents_of(update_info["path"])) if any(is_far) else None
        given = [(update_info, contents) if far else (update_info,) for far in is_far]
        _each(self.actors, "update_weights", given, self.seconds)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """All buckets are sent."""
        self._all("finish_weight_update", int(weight_version or 0))

    def digests(self) -> list[dict[str, int]]:
        """The digest of each weight, of every worker."""
        return self._all("digests")

    def verify(self, expected: ProbeExpectation) -> float:
        """The largest gap of all workers; raises PolicyMismatch where one is above the tolerance."""
        return max(self._all("verify", expected))

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return _each(self.actors, method, [arguments] * len(self.actors), self.seconds)


def _each(
    actors: Sequence[Any],
    method: str,
    arguments: Sequence[tuple[Any, ...]],
    seconds: float,
    *,
    together: bool = False,
) -> list[Any]:
    """What each answers to its arguments, in order; `together` they do it or not at all."""
    calls = [getattr(actor, method).remote(*given) for actor, given in zip(actors, arguments, strict=True)]
    waiting, ends = list(calls), time.monotonic() + seconds
    try:
        while waiting:
            done, waiting = ray.wait(waiting, timeout=max(0.0, ends - time.monotonic()))
            if waiting:  # whatever has come besides: each question costs as much as there are calls
                besides, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
                done += besides
            if not done:
                late = [calls.index(call) for call in waiting]
                raise EngineError(f"rollout workers {late} have not ended {method} after {seconds:.0f} s")
            # What one raises is told when all have ended, lest a second try meets those still at the first.
            with nullcontext() if together else suppress(RayTaskError):
                ray.get(done)
        return ray.get(calls)
    except DEATHS as error:
        raise WorkerDied(f"a rollout worker died in {method}. Ray says: {error}") from error


def own_place(num_ranks: int = 1) -> Place:
    """Where the actor or driver is that calls it."""
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    return Place(host=context.get_node_id(), gpus=tuple(gpus), num_ranks=num_ranks)
