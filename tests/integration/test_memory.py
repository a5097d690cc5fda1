"""Playing does not fill the memory, pictures included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from cluster.config import load_config
from rollout.config import EngineConfig, RolloutConfig
from rollout.play import Task
from rollout.worker import start_worker, stream
from tests.support.tiny_models import make_picture_model

pytestmark = pytest.mark.timeout(600)

CONFIG = Path(__file__).parents[2] / "configs" / "envs" / "general_points_pictures.yaml"
NUM_EPISODES = 2_000
NUM_WARM_UP = 800
ROLLOUT = RolloutConfig(
    max_answer_tokens=4,
    episodes_in_flight=64,
    # Small enough that the warm-up has used all of the cache; memory that is reserved and used later is no leak.
    engine=EngineConfig(max_context_tokens=1024, max_sequences=64, cpu_cache_gib=0.08),
)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Any]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    worker = start_worker("rollout-memory", make_picture_model(tmp_path / "model"), ROLLOUT)
    ray.get(worker.start.remote())
    yield worker
    ray.get(worker.close.remote())
    ray.shutdown()


def test_two_thousand_picture_episodes_leave_the_memory_as_it_was(worker: Any) -> None:
    process = psutil.Process(ray.get(worker.process_id.remote()))
    _play(worker, range(NUM_WARM_UP))
    before = _private_bytes(process)
    _play(worker, range(NUM_WARM_UP, NUM_WARM_UP + NUM_EPISODES))
    after = _private_bytes(process)
    assert after < 1.05 * before, f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after"


def _play(worker: Any, seeds: range) -> None:
    loaded = load_config([CONFIG], ["env.look.size=112", "env.max_attempts=1"])
    tasks = [Task(seed=seed) for seed in seeds]
    played = [summary for summary, _ in stream("rollout-memory", worker, loaded.env, loaded.verifier, tasks, ROLLOUT)]
    assert len(played) == len(tasks)


def _private_bytes(process: psutil.Process) -> int:
    """Of the worker and its engine; what they share with Ray's object store is not theirs."""
    return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)])
