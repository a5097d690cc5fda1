"""Who sits where follows from the configuration alone, and never takes more than its bundle has."""

from pathlib import Path

import pytest

from cluster.config import Config, load_config
from cluster.planning.hardware import Hardware
from cluster.planning.placement import Placement, Role, place, rooms

LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
HOST = Hardware(num_nodes=1, gpus_per_node=8, gpu_memory_gib=79.6, cores_per_node=96, memory_gib=900)
TWO_HOSTS = Hardware(num_nodes=2, gpus_per_node=8, gpu_memory_gib=79.6, cores_per_node=96, memory_gib=900)


def config(placement: str, ranks: int = 1, workers: int = 1, *options: str) -> Config:
    sizes = [f"learner.num_ranks={ranks}", f"cluster.num_rollout_workers={workers}"]
    return load_config([], ["env.name=add_up", f"cluster.placement={placement}", *sizes, *options])


def seats(placement: Placement, role: Role) -> list[tuple[int, float]]:
    return [(actor.bundle, actor.num_gpus) for actor in placement.actors if actor.role == role]


def test_on_two_cores_learner_and_rollouts_share_them_by_turns() -> None:
    placed = place(config("cpu"), LAPTOP)
    assert placed.bundles == ({"CPU": 2.0},)
    assert placed.strategy == "STRICT_PACK"
    assert [(actor.role, actor.num_cpus, actor.threads) for actor in placed.actors] == [
        ("learner", 1.0, 2),
        ("rollout", 1.0, 1),
    ]
    assert placed.learner_threads == 2


def test_who_computes_at_the_same_time_divides_the_cores() -> None:
    cores = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=8, memory_gib=8)
    placed = place(config("cpu", 1, 1, "rollout.max_policy_lag=1"), cores)
    assert [actor.threads for actor in placed.actors] == [4, 3]
    assert [actor.threads for actor in place(config("cpu", 1, 1, "rollout.max_policy_lag=1"), LAPTOP).actors] == [1, 1]


def test_runs_that_take_few_cores_have_room_side_by_side() -> None:
    cores = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=8, memory_gib=8)
    few = config("cpu", 1, 1, "cluster.cores_per_run=3")
    placed = place(few, cores)
    assert placed.bundles == ({"CPU": 3.0},)
    assert [actor.threads for actor in placed.actors] == [3, 2]
    assert (rooms(few, cores), rooms(few, LAPTOP), rooms(config("cpu"), cores)) == (2, 1, 1)
    assert place(few, LAPTOP).bundles == ({"CPU": 2.0},)


def test_more_processes_than_cores_still_fit() -> None:
    placed = place(config("cpu", 3, 2), LAPTOP)
    assert [bundle["CPU"] for bundle in placed.bundles] == [0.66, 0.66, 0.66]
    assert all(actor.threads == 1 for actor in placed.actors)


def test_several_nodes_without_gpus_are_all_used() -> None:
    two = Hardware(num_nodes=2, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=1, memory_gib=8)
    placed = place(config("cpu", 2, 2, "cluster.num_nodes=2"), two)
    assert (placed.strategy, placed.hosts) == ("SPREAD", (0, 1))
    assert [bundle["CPU"] for bundle in placed.bundles] == [1.0, 1.0]


def test_one_gpu_is_shared_in_halves() -> None:
    placed = place(config("one_gpu"), HOST)
    assert placed.bundles == ({"CPU": 2.0, "GPU": 1},)
    assert seats(placed, "learner") == seats(placed, "rollout") == [(0, 0.5)]


def test_colocated_ranks_and_workers_of_one_number_share_a_gpu() -> None:
    placed = place(config("colocated", 8, 8), HOST)
    assert placed.num_gpus == 8
    assert seats(placed, "learner") == seats(placed, "rollout") == [(number, 0.5) for number in range(8)]
    assert placed.hosts == (0,) * 8
    assert {actor.threads for actor in placed.actors} == {12}


def test_split_gives_whole_gpus_and_an_engine_as_many_as_it_takes() -> None:
    placed = place(config("split", 4, 2, "rollout.engine.tensor_parallel_size=2"), HOST)
    assert [bundle["GPU"] for bundle in placed.bundles] == [1, 1, 1, 1, 2, 2]
    assert seats(placed, "learner") == [(number, 1) for number in range(4)]
    assert seats(placed, "rollout") == [(4, 2), (5, 2)]
    assert placed.strategy == "STRICT_PACK"


def test_split_over_two_hosts_fills_the_first_and_cuts_no_engine() -> None:
    options = ("rollout.engine.tensor_parallel_size=4", "cluster.num_nodes=2")
    placed = place(config("split", 6, 2, *options), TWO_HOSTS)
    assert placed.strategy == "PACK"
    assert placed.hosts == (0, 0, 0, 0, 0, 0, 1, 1)


def test_a_phase_is_charged_for_the_devices_that_hold_it() -> None:
    """GPUs, or hosts where there are none: all of them while weights go from the ones to the others."""
    split = place(config("split", 4, 2, "rollout.engine.tensor_parallel_size=2"), HOST)
    assert (split.num_devices("learner"), split.num_devices("rollout"), split.num_devices()) == (4, 4, 8)
    shared = place(config("colocated", 8, 8), HOST)
    assert (shared.num_devices("learner"), shared.num_devices("rollout"), shared.num_devices()) == (8, 8, 8)
    assert place(config("one_gpu"), HOST).num_devices("learner") == 1
    assert place(config("cpu", 2, 1), LAPTOP).num_devices("learner") == 1
    two = Hardware(num_nodes=2, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=1, memory_gib=8)
    spread = place(config("cpu", 2, 1, "cluster.num_nodes=2"), two)
    assert (spread.num_devices("learner"), spread.num_devices("rollout")) == (2, 1)


def test_what_has_no_room_has_no_host() -> None:
    assert place(config("colocated", 2, 2), LAPTOP).hosts == (None, None)


@pytest.mark.parametrize("kind", ["cpu", "one_gpu", "colocated", "split"])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (3, 2), (2, 5), (8, 8)])
@pytest.mark.parametrize("hardware", [LAPTOP, HOST, TWO_HOSTS])
def test_no_bundle_is_overdrawn_and_everyone_has_a_seat(
    kind: str, ranks: int, workers: int, hardware: Hardware
) -> None:
    placed = place(config(kind, ranks, workers), hardware)
    assert len(placed.actors) == ranks + workers
    for number, bundle in enumerate(placed.bundles):
        present = [actor for actor in placed.actors if actor.bundle == number]
        assert sum(actor.num_cpus for actor in present) <= bundle["CPU"] + 1e-9
        assert sum(actor.num_gpus for actor in present) <= bundle.get("GPU", 0) + 1e-9
        assert present


def test_ray_is_told_the_share_and_the_engine_its_threads() -> None:
    placed = place(config("colocated", 2, 2), HOST)
    assert placed.learner_options(1) == {"num_cpus": 1.0, "num_gpus": 0.5}
    assert placed.rollout_options(1) == {
        "num_cpus": 1.0,
        "num_gpus": 0.5,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "48"}},
    }


def test_a_cache_folder_holds_what_every_library_compiles_on_ranks_and_workers_alike(tmp_path: Path) -> None:
    placed = place(config("cpu", 1, 1, f"cluster.cache_folder={tmp_path}"), LAPTOP)
    of_rank = placed.learner_options(0)["runtime_env"]["env_vars"]
    of_worker = placed.rollout_options(0)["runtime_env"]["env_vars"]
    assert of_rank == {
        "VLLM_CACHE_ROOT": f"{tmp_path}/vllm",
        "TRITON_CACHE_DIR": f"{tmp_path}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{tmp_path}/inductor",
    }
    assert of_worker == {**of_rank, "OMP_NUM_THREADS": "1"}
    assert "runtime_env" not in place(config("cpu"), LAPTOP).learner_options(0)
