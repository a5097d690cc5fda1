"""What there is to run on is looked up without torch, or taken from the configuration."""

import doctest

from cluster.config import load_config
from cluster.planning import hardware
from cluster.planning.hardware import Hardware, described, look, of_nodes, visible_gpus

LISTED = "0, GPU-aaaa, 81559\n1, GPU-bbbb, 81559\n2, GPU-cccc, 40960\n"


def node(*, alive: bool = True, **resources: float) -> dict[str, object]:
    return {"Alive": alive, "Resources": resources}


def test_this_machine_has_cores_and_memory() -> None:
    here = look()
    assert here.num_nodes == 1
    assert here.cores_per_node >= 1
    assert 0.5 < here.memory_gib < 100_000


def test_gpus_that_are_hidden_do_not_count() -> None:
    assert visible_gpus(LISTED, None) == [81559 / 1024, 81559 / 1024, 40.0]
    assert visible_gpus(LISTED, "2") == [40.0]
    assert visible_gpus(LISTED, "GPU-bbbb,0") == [81559 / 1024, 81559 / 1024]
    assert visible_gpus(LISTED, "") == []


def test_a_machine_without_a_driver_has_no_gpu() -> None:
    assert visible_gpus("", None) == []
    assert visible_gpus("NVIDIA-SMI has failed, because it, could not\n", None) == []


def test_the_configuration_describes_machines_that_are_not_here() -> None:
    options = ["env.name=add_up", "cluster.num_nodes=2", "cluster.cores_per_node=64", "cluster.memory_gib_per_node=500"]
    assert described(load_config([], [*options, "cluster.placement=split", "cluster.gpus_per_node=4"])) == Hardware(
        num_nodes=2, gpus_per_node=4, gpu_memory_gib=79.6, cores_per_node=64, memory_gib=500
    )
    assert described(load_config([], options)).num_gpus == 0
    assert described(load_config([], [*options, "cluster.placement=one_gpu"])).gpus_per_node == 1


def test_a_ray_cluster_is_as_strong_as_its_weakest_host_with_gpus() -> None:
    nodes = [
        node(CPU=4.0, memory=2.0**33),
        node(CPU=96.0, GPU=8.0, memory=2.0**39, object_store_memory=2.0**38),
        node(CPU=64.0, GPU=8.0, memory=2.0**39),
        node(CPU=96.0, GPU=2.0, alive=False),
    ]
    assert of_nodes(nodes, 79.6) == Hardware(
        num_nodes=2, gpus_per_node=8, gpu_memory_gib=79.6, cores_per_node=64, memory_gib=512
    )
    assert of_nodes(nodes[:1], 79.6) == Hardware(
        num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=4, memory_gib=8
    )


def test_hardware_is_told_in_a_line() -> None:
    assert (
        str(Hardware(num_nodes=2, gpus_per_node=8, gpu_memory_gib=79.6, cores_per_node=96, memory_gib=900))
        == "2 hosts, each with 8 × GPU of 79.6 GiB, 96 cores, 900 GiB memory"
    )


def test_the_examples_in_the_docstrings_hold() -> None:
    ran = doctest.testmod(hardware)
    assert ran.attempted > 0
    assert ran.failed == 0
