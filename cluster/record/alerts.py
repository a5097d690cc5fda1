"""What a run says when it begins to go wrong, before it does.

    Alerts(max_failed=0.1, tolerance=0.05).heard(row)   →  sentences: each once, when a number crosses its bound

A bound is told again only after its number has been down to half of it, or one that hovers there would fill the log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
OUT_OF_TIME = 0.05
"""The share of episodes out of time from which on it is told."""
STALE = 0.1
"""The share of episodes too old to learn from."""
OF_LIMIT = 0.5
"""The share of a limit that ends the run, from which on it is told that it comes near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    value: Callable[[Row], float | None]
    bound: float
    words: str
    """With `value` and `bound` to be put in."""


class Alerts:
    """Listens to the rows of a run's iterations."""

    def __init__(self, *, max_failed: float, tolerance: float) -> None:
        """`max_failed` is the share of failed episodes that ends the run, `tolerance` the gap at the probe."""
        self._told: set[str] = set()
        self._signals = {
            "out_of_time": _Signal(
                value=lambda row: row.get("rollout/out_of_time"),
                bound=OUT_OF_TIME,
                words="{value:.1%} of the episodes ran out of time (told from {bound:.0%} on): an engine is slow or "
                "hangs, or rollout.episode_timeout_seconds is too short",
            ),
            "stale": _Signal(
                value=_stale,
                bound=STALE,
                words="{value:.1%} of the episodes are too old to learn from (told from {bound:.0%} on): playing takes "
                "longer than learning allows; raise rollout.max_policy_lag or add rollout workers",
            ),
            "failed": _Signal(
                value=lambda row: row.get("rollout/failed"),
                bound=OF_LIMIT * max_failed,
                words=f"{{value:.1%}} of the episodes failed by a fault of the environment; above {max_failed:.1%} "
                "(rollout.max_failed_fraction) the run ends. Their transcripts are in episodes/",
            ),
            "gap": _Signal(
                value=lambda row: row.get("push/gap"),
                bound=OF_LIMIT * tolerance,
                words=f"engines and learner differ by {{value:.3g}} at the probe; above {tolerance:.3g} the run ends",
            ),
        }

    def heard(self, row: Row) -> list[str]:
        """What is to be said of an iteration."""
        said = []
        for name, signal in self._signals.items():
            value = signal.value(row)
            if value is None:
                continue
            if value > 0 and value >= signal.bound and name not in self._told:
                self._told.add(name)
                said.append(signal.words.format(value=value, bound=signal.bound))
            elif value <= signal.bound / 2:
                self._told.discard(name)
        return said


def _stale(row: Row) -> float | None:
    if not row.get("rollout/episodes") or "rollout/stale" not in row:
        return None
    return row["rollout/stale"] / row["rollout/episodes"]
