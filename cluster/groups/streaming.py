"""Brings episodes to the learner's hosts while others are still played, so that an update finds them there.

    EpisodeStream(away(placement))
      .send(reference)     an episode has ended
      .flush()             so have all of its iteration

Where everything is on one host, nothing is sent. Nor are small episodes: Ray keeps them with their references, on no
host in particular, and hands them to whoever asks.
"""

import time
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import ray
from ray.experimental import get_local_object_locations
from ray.util import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.planning.placement import Placement

SMALL_BYTES = 100 * 1024
"""Up to here, Ray keeps an object with its reference."""
ASK_SECONDS = 0.2
"""How often at most it is asked where episodes are, and what hosts still fetch."""
FETCH_SECONDS = 300.0
"""How long one batch may take; whatever has not come by then, the update asks for."""


def away(placement: Placement) -> set[str]:
    """Ray's names of the hosts on which learner ranks are; none where all actors are on one."""
    nodes = placement_group_table(placement.group)["bundles_to_node_id"]
    if len(set(nodes.values())) == 1:
        return set()
    return {nodes[actor.bundle] for actor in placement.actors if actor.role == "learner"}


class EpisodeStream:
    """What is on its way to each host, and what goes there next; any thread may use it."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._waiting: dict[str, list[Any]] = {node: [] for node in nodes}
        self._fetching: dict[str, Any] = dict.fromkeys(self._waiting)
        self._lock = Lock()
        self._new: list[Any] = []
        self._asked_at = 0.0

    def send(self, reference: Any) -> None:
        """Bring an episode to every learner's host that does not have it; those that end meanwhile go together."""
        if not self._waiting:
            return
        with self._lock:
            self._new.append(reference)
            if time.monotonic() - self._asked_at >= ASK_SECONDS:
                self._sort()
                for node, waiting in self._waiting.items():
                    if waiting and self._is_idle(node):
                        self._fetch(node)

    def flush(self) -> None:
        """Bring the last ones too."""
        with self._lock:
            self._sort()
            for node, waiting in self._waiting.items():
                if waiting:
                    self._fetch(node)

    def _sort(self) -> None:
        """Ask where the new ones are; those that are large wait for each host that lacks them."""
        for reference, known in get_local_object_locations(self._new).items():
            if (known["object_size"] or 0) > SMALL_BYTES:
                for node, waiting in self._waiting.items():
                    # Where it is may become known a moment after it has come; then it is asked for, wherever it is.
                    if node not in known["node_ids"]:
                        waiting.append(reference)
        self._new, self._asked_at = [], time.monotonic()

    def _is_idle(self, node: str) -> bool:
        before = self._fetching[node]
        return before is None or bool(ray.wait([before], timeout=0, fetch_local=False)[0])

    def _fetch(self, node: str) -> None:
        # One batch after the other, since each that runs is a process there; one that went wrong holds nothing up.
        before = None if self._is_idle(node) else self._fetching[node]
        affinity = NodeAffinitySchedulingStrategy(node, soft=False)
        self._fetching[node] = _fetched.options(scheduling_strategy=affinity).remote(before, self._waiting[node])
        self._waiting[node] = []


@ray.remote(num_cpus=0)
def _fetched(before: None, references: Sequence[Any]) -> None:
    """Have the episodes on this host."""
    ray.wait(list(references), num_returns=len(references), timeout=FETCH_SECONDS, fetch_local=True)
