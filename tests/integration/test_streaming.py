"""On two real raylets: episodes are on the learner's host before the learner asks for them."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import load_config
from cluster.groups.streaming import EpisodeStream, away
from cluster.planning.hardware import Hardware
from cluster.planning.placement import Placement, place, reserved
from rollout.episode import Episode
from tests.support.episodes import episode, right

pytestmark = pytest.mark.timeout(120)

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
LARGE = {"a picture": bytes(200_000)}


@pytest.fixture(scope="module")
def nodes() -> Iterator[None]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "dashboard_port": 0})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def placed(num_nodes: int) -> Placement:
    """A learner rank, and a worker on each host."""
    options = [f"cluster.num_nodes={num_nodes}", f"cluster.num_rollout_workers={num_nodes}"]
    hosts = Hardware(num_nodes=num_nodes, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
    return place(load_config([SMOKE], options), hosts)


@ray.remote(num_cpus=0)
def played(pictures: dict[str, bytes], count: int, sign: Path) -> Iterator[Episode]:
    """Episodes, of which the last does not end before the sign is there."""
    for seed in range(count):
        while seed == count - 1 and not sign.exists():
            time.sleep(0.05)
        yield replace(episode(right(), seed=seed), pictures=pictures)


def play(node: str, pictures: dict[str, bytes], *, count: int, sign: Path = SMOKE) -> Iterator[Any]:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    references: Any = played.options(num_returns="streaming", scheduling_strategy=strategy).remote(
        pictures, count, sign
    )
    return iter(references)


def hosts(reference: Any) -> set[str]:
    return set(get_object_locations([reference])[reference]["node_ids"])


def test_episodes_come_to_the_learners_host_while_others_still_play(nodes: None, tmp_path: Path) -> None:
    with reserved(placed(2), 60) as placement:
        [learner] = away(placement)
        [elsewhere] = {node["NodeID"] for node in ray.nodes()} - {learner}
        stream = EpisodeStream([learner])
        episodes = play(elsewhere, LARGE, count=20, sign=tmp_path / "go on")
        early = []
        for _ in range(19):
            early.append(next(episodes))
            stream.send(early[-1])
        stream.flush()
        while not all(hosts(reference) == {learner, elsewhere} for reference in early):
            time.sleep(0.05)
        (tmp_path / "go on").touch()
        last = next(episodes)
        stream.send(last)
        stream.flush()
        while hosts(last) != {learner, elsewhere}:
            time.sleep(0.05)


def test_what_is_there_already_or_small_is_not_sent(nodes: None) -> None:
    with reserved(placed(2), 60) as placement:
        [learner] = away(placement)
        [elsewhere] = {node["NodeID"] for node in ray.nodes()} - {learner}
        stream = EpisodeStream([learner])
        for reference in play(learner, LARGE, count=3):
            while not hosts(reference):
                time.sleep(0.01)
            stream.send(reference)
        for reference in play(elsewhere, {}, count=3):
            stream.send(reference)
        stream.flush()
        assert stream._fetching == {learner: None}


def test_nothing_is_sent_on_one_host(nodes: None) -> None:
    with reserved(placed(1), 60) as placement:
        assert away(placement) == set()
