"""Room on a Ray cluster: on as many hosts as planned, and never on more because others have a part of each."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.config import load_words
from cluster.errors import RunError
from cluster.planning.hardware import of_cluster
from cluster.planning.placement import Placement, reserved


@pytest.fixture(scope="module")
def two_hosts() -> Iterator[None]:
    """A head without GPUs, and a host that Ray takes to have one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    cluster.add_node(num_cpus=2, num_gpus=1)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def placement(num_hosts: int, strategy: Any) -> Placement:
    hosts = tuple(bundle % num_hosts for bundle in range(2))
    return Placement(bundles=({"CPU": 1.0},) * 2, strategy=strategy, actors=(), hosts=hosts)


def test_the_hosts_of_a_cluster_are_those_with_gpus_whatever_this_one_has(two_hosts: None) -> None:
    found = of_cluster(load_words(["env.name=add_up", "cluster.placement=one_gpu", "cluster.gpu_memory_gib=40"]))
    assert (found.num_nodes, found.gpus_per_node, found.cores_per_node) == (1, 1, 2)
    assert found.gpu_memory_gib == 40, "no driver tells it here, so the configuration does"


def test_room_that_is_spread_over_partly_taken_hosts_is_waited_for(two_hosts: None) -> None:
    taken = [ray.util.placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")]
    ray.get(taken[0].ready())
    with reserved(placement(2, "PACK"), 20):
        pass
    with pytest.raises(RunError, match="room on 2 hosts only"), reserved(placement(1, "PACK"), 2):
        pass
    ray.util.remove_placement_group(taken[0])
    with reserved(placement(1, "PACK"), 20) as found:
        assert len(set(ray.util.placement_group_table(found.group)["bundles_to_node_id"].values())) == 1
