"""Engines and ranks that a run has left, in the next one: it comes to what it comes to by itself, bit for bit."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayActorError
from safetensors.torch import load_file

import cluster.groups.crew as crew_module
from cluster.config import Config, load_config
from cluster.errors import Stopped
from cluster.groups.crew import Crew, Left, shape_of
from cluster.planning.hardware import Hardware
from cluster.planning.placement import place
from cluster.record.run_directory import RunDirectory
from cluster.stopping import StopRequest
from cluster.train_rl import train_rl
from cluster.train_sft import train_sft
from study import side_by_side
from study.cells import Study
from study.side_by_side import _Making

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 400
CPUS = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
# With as many threads each, whether both are at work at once or not.
ONE = ("cluster.num_rollout_workers=1", "cluster.cores_per_run=1")
TWO = (
    "cluster.num_rollout_workers=2",
    "learner.num_ranks=2",
    "learner.deepspeed.zero_stage=2",
    "rollout.keep_cache=within_lag",
)
CELLS = {
    "sft": ("data.count=64",),
    # It ends by its budget, while more is played ahead.
    "ahead": (
        "rollout.max_policy_lag=1",
        "cluster.iterations=50",
        "cluster.ledger=compute/trained_tokens",
        "cluster.budget=4000",
    ),
    "rl": (),
    "low_rank": ("learner.lora={rank: 4, alpha: 8}", "learner.minibatches=1"),
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def config_of(name: str, folder: Path, *more: str) -> Config:
    shared = ("cluster.iterations=3", "cluster.episodes_per_iteration=16", "evaluation.episodes=16")
    named = (f"learner.model={ROOT / 'models/nano_add_up'}", f"cluster.folder={folder}", f"cluster.name={name}")
    return load_config([ROOT / "configs" / "smoke.yaml"], [*shared, *named, *CELLS[name], *more])


def trained(name: str, folder: Path, *more: str, crew: Crew | None = None) -> Path:
    train = train_sft if name == "sft" else train_rl
    return train(config_of(name, folder, *more), at=folder / name, crew=crew)


def outcome(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The policy that came of it, and what was measured, without what the clock says."""
    directory = RunDirectory.open(run)
    rows = [
        {key: value for key, value in row.items() if "second" not in key and "mfu" not in key and "memory" not in key}
        for row in (*directory.rows("metrics"), *directory.rows("evaluations"))
    ]
    return load_file(run / "policy" / "model.safetensors"), rows


def names_of(crew: Crew) -> set[str]:
    return {each.name for _, left in crew._left.values() for each in left}


def is_alive(actor: Any) -> bool:
    """One that has just been ended may take a moment."""
    for _ in range(20):
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=60)
        except RayActorError:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize(
    ("layout", "cells"),
    [
        pytest.param(ONE, ("ahead", "rl", "low_rank"), id="one_of_each"),
        pytest.param(TWO, ("sft", "rl"), id="two_of_each", marks=pytest.mark.nightly),
    ],
)
def test_what_follows_on_the_same_processes_comes_to_what_it_comes_to_alone(
    layout: tuple[str, ...], cells: tuple[str, ...], tmp_path: Path
) -> None:
    with Crew() as crew:
        shared = {}
        for name in cells:
            shared[name] = trained(name, tmp_path / "shared", *layout, crew=crew)
            # The first has started them all.
            assert all(each.startswith(f"{cells[0]}-") for each in names_of(crew))
            assert len(names_of(crew)) == (2 if layout is ONE else 4)
        actors = [each.actor for _, left in crew._left.values() for each in left]
    assert not any(is_alive(actor) for actor in actors)
    for name in cells[1:]:
        weights, rows = outcome(shared[name])
        expected_weights, expected_rows = outcome(trained(name, tmp_path / "alone", *layout))
        assert rows == expected_rows
        assert weights.keys() == expected_weights.keys()
        assert all(torch.equal(weights[key], expected_weights[key]) for key in weights)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    with Crew() as crew:
        stop = StopRequest(10.0)
        stop.ask()
        with pytest.raises(Stopped):
            train_sft(config_of("sft", tmp_path), at=tmp_path / "sft", stop=stop, crew=crew)
        assert names_of(crew) == set()


class Kept:
    """What was left, whatever it is."""

    def ready(self, how: str) -> None:
        if how == "raises":
            raise MemoryError("something of the last run is in the way")
        if how == "hangs":
            time.sleep(1000)

    def close(self) -> None: ...


def ready(actor: Any) -> Any:
    return actor.ready.remote("at once")


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_what_does_not_fit_is_ended_and_what_does_is_given_once() -> None:
    crew, actors = Crew(), [ray.remote(Kept).options(num_cpus=0).remote() for _ in range(3)]
    crew.leave("rollout", "one shape", [Left("a", actors[0])])
    crew.leave("learner", "two ranks", [Left("b", actors[1]), Left("c", actors[2])])
    assert [each.name for each in crew.take("learner", lambda: "two ranks", ready)] == ["b", "c"]
    assert crew.take("learner", lambda: "two ranks", ready) == ()
    assert crew.take("rollout", lambda: "another shape", ready) == ()
    assert not is_alive(actors[0])
    assert is_alive(actors[1]) and is_alive(actors[2])


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("how", ["raises", "hangs", "is dead"])
def test_what_does_not_get_ready_is_ended_with_the_others(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "READY_SECONDS", 3.0)
    crew = Crew()
    actors: list[Any] = [ray.remote(Kept).options(num_cpus=0).remote() for _ in range(2)]
    ray.get([ready(actor) for actor in actors])
    crew.leave("rollout", "one shape", [Left("a", actors[0]), Left("b", actors[1])])
    if how == "is dead":
        ray.kill(actors[1])
        assert not is_alive(actors[1])
    assert crew.take("rollout", lambda: "one shape", lambda actor: actor.ready.remote(how)) == ()
    assert not any(is_alive(actor) for actor in actors)


class SlowToEnd:
    """An engine that does not end before it is killed."""

    def close(self) -> None:
        time.sleep(1000)


class HoldsRoom(_Making):
    """Runs that have left an engine, and the room that it is in."""

    def train(self, cell: Any) -> None:
        self._crew.room(place(load_config([ROOT / "configs" / "smoke.yaml"], ["cluster.cores_per_run=2"]), CPUS), 60.0)
        actor: Any = ray.remote(SlowToEnd).options(num_cpus=0).remote()
        ray.get(actor.__ray_ready__.remote())
        self._crew.leave("rollout", "a shape", [Left("a", actor)])

    def close(self) -> None:
        time.sleep(0.5)  # a machine that has much to do
        super().close()


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_lane_gives_its_room_back_however_long_its_engines_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "_Making", HoldsRoom)
    study = Study.of(load_config([ROOT / "configs" / "smoke.yaml"], ["compare.arms={a: {command: sft}}"]), tmp_path)
    before, lane = ray.available_resources()["CPU"], side_by_side._Lane(0)
    lane.train(study.cells[0], StopRequest(10.0))
    held = ray.available_resources()["CPU"]
    lane.close()
    deadline = time.monotonic() + 30
    while ray.available_resources()["CPU"] < before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (held, ray.available_resources()["CPU"]) == (before - 2, before)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_ranks_are_not_left_where_deepspeed_keeps_what_they_had(tmp_path: Path) -> None:
    with Crew() as crew:
        trained("sft", tmp_path, *ONE, "learner.deepspeed.zero_stage=3", "cluster.iterations=1", crew=crew)
        assert names_of(crew) == {"sft-rollout-0"}


def test_policies_that_differ_by_weights_alone_have_one_shape(tmp_path: Path) -> None:
    for name, files in {
        "first": {"config.json": "{}", "model.safetensors": "1"},
        "second": {"config.json": "{}", "model.safetensors": "2", "model.safetensors.index.json": "{}"},
        "wider": {"config.json": "{1}", "model.safetensors": "1"},
        "worded": {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "1"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    shapes = [shape_of(tmp_path / name) for name in ("first", "second", "wider", "worded")]
    assert shapes[0] == shapes[1]
    assert len(set(shapes)) == 3
