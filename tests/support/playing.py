"""Rollout workers with a policy for them, as a run has them but for the learner."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
from transformers import AutoModelForCausalLM

from cluster.config import load_config
from cluster.groups.health import Health
from cluster.groups.rollout_group import RolloutGroup
from cluster.groups.worker_lives import WorkerLives
from cluster.groups.worker_states import Launcher, Limits
from rollout.config import EngineConfig, RolloutConfig
from rollout.play import Task
from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
from rollout.receivers import Receivers
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import make_sender
from rollout.worker import Played

ROOT = Path(__file__).parents[2]


class Playing:
    """Two workers, a policy for them, and what was said of them."""

    def __init__(self, model: Path, *, restarts: int = 3, health_seconds: float = 20.0) -> None:
        self.config = RolloutConfig(
            max_answer_tokens=24, episodes_in_flight=16, engine=EngineConfig(max_context_tokens=1024, max_sequences=16)
        )
        self.loaded = load_config([ROOT / "configs" / "envs" / "add_up.yaml"], ["env.max_attempts=3"])
        self.module = AutoModelForCausalLM.from_pretrained(model).eval()
        self.source = HuggingFaceSource(self.module, model)
        self.said: list[str] = []
        self.num_adopted = 0
        self.health = Health(health_seconds, self.said.append)
        self.lives = WorkerLives(
            Launcher(model=model, config=self.config, resources=lambda number: {"num_cpus": 0}, prefix="rollout"),
            Limits(base=2, least=1, most=2, restarts=restarts, start_seconds=200, step_seconds=200),
            adopt=self.adopt,
            health=self.health,
            say=self.said.append,
        )
        self.group = RolloutGroup(self.lives, self.said.append)
        self.lives.begin()
        self.lives.wait()

    def close(self) -> None:
        self.health.close()
        self.lives.close()

    @property
    def actors(self) -> list[Any]:
        return [worker.actor for worker in self.lives.started]

    def engine(self, number: int) -> psutil.Process:
        """The process that has the model of a worker."""
        sign: Any = ray.get(self.actors[number].alive.remote())
        children = psutil.Process(sign.process_id).children(recursive=True)
        [child] = [each for each in children if "EngineCore" in " ".join(each.cmdline())]
        return child

    def until(self, words: str, seconds: float = 200) -> float:
        """How long it took until that was said."""
        started = time.monotonic()
        while not any(words in line for line in self.said):
            assert time.monotonic() - started < seconds, self.said
            time.sleep(0.05)
        return time.monotonic() - started

    def settled(self) -> None:
        """Wait until all can play."""
        ends = time.monotonic() + 200
        while len(self.lives.ready) < len(self.lives.workers):
            self.lives.raise_trouble()
            assert time.monotonic() < ends, self.said
            time.sleep(0.05)

    def kill(self, number: int) -> None:
        [process_id] = ray.get([self.actors[number].process_id.remote()])
        os.kill(process_id, signal.SIGKILL)

    def adopt(self, client: Receivers) -> None:
        """Give them the same weights under another version, which tells who played what."""
        make_sender("shared_memory", client=client, source=self.source).send(version=7)
        prompts = make_probe(self.module.config.vocab_size)
        client.verify(
            ProbeExpectation(
                prompts=prompts,
                logprobs=expected_logprobs(self.module, prompts),
                version=7,
                tolerance=TOLERANCES["float32"],
            )
        )
        self.num_adopted += 1

    def play(self, count: int) -> Iterator[Played]:
        tasks = [Task(seed=seed) for seed in range(count)]
        for one, _ in self.group.play(tasks, self.loaded.env, self.loaded.verifier, self.config):
            yield one
