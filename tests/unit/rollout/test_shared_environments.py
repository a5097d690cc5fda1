"""An environment that takes its time to be made is made once in a process, and holds nobody up who needs it not."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envs.catalog import find_environment, make_environment, shared_environment
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.play import Task
from rollout.scripted_engine import ScriptedEngine, expert
from rollout.worker import Played, RolloutWorker
from tests.support.more_environments import add_environments, remove_environments
from tests.support.tiny_models import make_text_model
from verifier.config import VerifierConfig

VERIFIER = VerifierConfig()


@pytest.fixture
def late() -> Iterator[Any]:
    """The environment that is late, and its module."""
    add_environments()
    yield find_environment("unreliable")
    remove_environments()


def config(module: Any, seconds: float, **options: Any) -> EnvConfig:
    return module.Config(name="unreliable", seconds_to_make=seconds, **options)


def test_it_is_made_once_however_many_ask_at_once_and_other_options_make_another(late: Any) -> None:
    before = late.Environment.num_made
    with ThreadPoolExecutor(8) as threads:
        equal = [config(late, 0.2) for _ in range(8)]
        found = list(threads.map(shared_environment, equal, [VERIFIER] * 8))
    assert len(set(map(id, found))) == 1
    assert late.Environment.num_made == before + 1
    assert shared_environment(config(late, 0.2, raises=(3,)), VERIFIER) is not found[0]
    assert shared_environment(equal[0], VerifierConfig(preset="paper")) is not found[0]


def test_a_worker_plays_on_while_an_environment_is_made(late: Any, tmp_path: Path) -> None:
    worker = RolloutWorker("rollout-0", str(make_text_model(tmp_path, tied=False)), RolloutConfig())
    worker._engine = ScriptedEngine(worker._chat, expert)  # pyright: ignore[reportAttributeAccessIssue]
    plain = make_environment(find_environment("add_up").Config(name="add_up"), VERIFIER).config
    options = RolloutConfig(max_answer_tokens=200)
    before = late.Environment.num_made
    ended: list[tuple[str, int]] = []

    async def play(env: EnvConfig) -> None:
        async for one in worker.play(env, VERIFIER, [Task(seed=seed) for seed in range(4)], options):
            if isinstance(one, Played):
                ended.append((env.name, late.Environment.num_made - before))

    async def both() -> None:
        await asyncio.gather(play(config(late, 1.5, hangs=(9,))), play(plain))

    asyncio.run(both())
    assert ended == [("add_up", 0)] * 4 + [("unreliable", 1)] * 4
