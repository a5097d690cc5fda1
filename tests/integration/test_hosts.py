"""A run on two hosts, of which one is lost and comes back: fewer engines play, then all, and nothing is missing."""

import time
from pathlib import Path

import pytest

from study.chaos.judge import faults
from study.chaos.world import World

SECONDS = 400
ROOT = Path(__file__).parents[2]
ALL = "has joined: 2 of 2 rollout workers can play"
REPLACED = "Another takes the place of chaos-rollout-1"


def until(world: World, words: str, times: int = 1) -> None:
    """Wait until the run has said so, that often."""
    ends = time.monotonic() + SECONDS
    while world.log.read_text().count(words) < times:
        assert world.is_running and time.monotonic() < ends, world.log.read_text()
        time.sleep(0.1)


@pytest.mark.nightly
@pytest.mark.timeout(3 * SECONDS)
def test_a_run_loses_a_host_and_gets_it_back(tmp_path: Path) -> None:
    layout = (
        "cluster.num_rollout_workers={min: 1, max: 2}",
        "cluster.max_worker_restarts=1000",
        "cluster.dashboard=false",
        "cluster.iterations=90",
        "cluster.episodes_per_iteration=48",
        "evaluation.episodes=40",
    )
    with World([str(ROOT / "configs" / "smoke.yaml")], tmp_path / "world", layout) as world:
        world.lose_host()
        world.start()
        until(world, "| iteration 2/90")
        assert ALL not in world.log.read_text(), "one plays, and one waits for room"
        world.regain_host()
        until(world, ALL)
        until(world, "| iteration 12/90")
        replaced = world.log.read_text().count(REPLACED)
        world.lose_host()
        until(world, REPLACED, replaced + 1)
        told = world.log.read_text().count("| iteration ")
        until(world, "| iteration ", told + 4)
        assert world.log.read_text().count(ALL) == 1, "one plays on"
        world.regain_host()
        until(world, ALL, 2)
        assert world.wait(SECONDS) == 0, world.log.read_text()
        assert faults(world, None, may_differ=False) == []
        assert "start anew" not in world.log.read_text(), "the learner was left alone"
