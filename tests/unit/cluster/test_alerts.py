"""What goes wrong slowly is told once, before it ends the run."""

from collections.abc import Sequence
from typing import Any

import pytest

from cluster.record.alerts import Alerts


def said(name: str, values: Sequence[float | None], **more: Any) -> list[int]:
    """At which of the rows something was said."""
    alerts = Alerts(max_failed=0.1, tolerance=0.05)
    rows = [{**more, **({} if value is None else {name: value})} for value in values]
    return [number for number, row in enumerate(rows) for _ in alerts.heard(row)]


@pytest.mark.parametrize(
    ("name", "bound", "more"),
    [
        ("rollout/out_of_time", 0.05, {}),
        ("rollout/failed", 0.05, {}),
        ("push/gap", 0.025, {}),
        ("rollout/stale", 10, {"rollout/episodes": 100}),
    ],
)
def test_a_number_that_crosses_its_bound_is_told_once_and_again_only_after_it_was_well_below(
    name: str, bound: float, more: dict[str, Any]
) -> None:
    low, near, high = 0.4 * bound, 0.9 * bound, 1.5 * bound
    assert said(name, [0, low, near], **more) == []
    assert said(name, [bound], **more) == [0]
    assert said(name, [near, high, high, near, high, None, high], **more) == [1]
    assert said(name, [high, low, high], **more) == [0, 2]


def test_a_sentence_says_how_much_it_is_and_what_to_do() -> None:
    alerts = Alerts(max_failed=0.1, tolerance=0.05)
    row = {"rollout/out_of_time": 0.125, "push/gap": 0.03, "rollout/failed": 0.0, "rollout/success": 1.0}
    late, gap = alerts.heard(row)
    assert late.startswith("12.5% of the episodes ran out of time (told from 5% on)")
    assert "rollout.episode_timeout_seconds" in late
    assert gap == "engines and learner differ by 0.03 at the probe; above 0.05 the run ends"


def test_where_no_failure_is_allowed_none_is_no_reason_to_speak_and_one_is() -> None:
    alerts = Alerts(max_failed=0.0, tolerance=0.05)
    assert alerts.heard({"rollout/failed": 0.0}) == []
    assert len(alerts.heard({"rollout/failed": 0.01})) == 1


def test_imitation_has_no_episodes_and_no_alerts() -> None:
    assert Alerts(max_failed=0.1, tolerance=0.05).heard({"learner/sft_loss": 0.5, "rollout/episodes": 0}) == []
