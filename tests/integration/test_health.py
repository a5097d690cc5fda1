"""Engines that die or hang at any moment, in processes of their own: found soon, replaced, and nothing is lost."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch

from cluster.groups.learner_group import LearnerDied, LearnerGroup
from cluster.groups.weight_sync import PushReport, WeightSync
from cluster.groups.worker_states import State
from learner.config import LearnerConfig
from rollout.engine import PolicyMismatch
from rollout.probe import make_probe
from rollout.receivers import Receivers
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import SyncReport, make_sender
from tests.support.playing import ROOT, Playing
from tests.support.runs import TIMEOUT_SECONDS
from tests.support.tiny_models import make_text_model

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

FOUND_SECONDS = 30.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("model"), tied=False)


@pytest.fixture(scope="module")
def playing(model: Path) -> Iterator[Playing]:
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    playing = Playing(model, restarts=100)
    yield playing
    playing.close()


@pytest.fixture(scope="module")
def learner(playing: Playing, model: Path) -> Iterator[LearnerGroup]:
    learner = LearnerGroup.start(LearnerConfig(model=str(model)), temperature=1.0, health=playing.health)
    yield learner
    learner.close()


def sync(playing: Playing, learner: LearnerGroup) -> WeightSync:
    probe = make_probe(playing.module.config.vocab_size)
    return WeightSync(learner, probe, backend="shared_memory", dtype="float32")


def settled(playing: Playing) -> None:
    """Both can play, and it is forgotten what was said."""
    playing.settled()
    playing.said.clear()


def is_gone(process: psutil.Process) -> bool:
    try:
        process.wait(10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_ends_while_nobody_needs_it_is_replaced(
    playing: Playing, learner: LearnerGroup, how: int
) -> None:
    settled(playing)
    engine = playing.engine(0)
    engine.send_signal(how)
    assert playing.until("Another takes the place of rollout-0") < FOUND_SECONDS
    assert playing.group.give(sync(playing, learner).push).gap < 1e-4
    playing.settled()
    assert is_gone(engine), "a process that hangs keeps its memory"
    assert learner.version() == 0, "the learner was left alone"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_ends_just_before_a_push_does_not_end_the_run(
    playing: Playing, learner: LearnerGroup, how: int
) -> None:
    settled(playing)
    playing.engine(1).send_signal(how)
    started = time.monotonic()
    assert playing.group.give(sync(playing, learner).push).gap < 1e-4
    assert time.monotonic() - started < FOUND_SECONDS
    assert any("Another takes the place of rollout-1" in line for line in playing.said)
    assert learner.version() == 0


@pytest.mark.nightly
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_ends_while_it_takes_weights_is_replaced_and_they_are_sent_again(
    playing: Playing, learner: LearnerGroup, how: int
) -> None:
    settled(playing)

    class Deadly(WeightSync):
        """Ends an engine between the check before an update and the update."""

        num_ended = 0

        def push(self, workers: Receivers) -> PushReport:
            if not self.num_ended:
                self.num_ended += 1
                playing.engine(0).send_signal(how)
            return super().push(workers)

    probe = make_probe(playing.module.config.vocab_size)
    deadly = Deadly(learner, probe, backend="shared_memory", dtype="float32")
    started = time.monotonic()
    assert playing.group.give(deadly.push).gap < 1e-4
    assert time.monotonic() - started < 2 * FOUND_SECONDS
    assert learner.version() == 0, "the learner was left alone"


@pytest.mark.nightly
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_ends_while_it_plays_leaves_its_tasks_to_the_other(playing: Playing, how: int) -> None:
    settled(playing)
    heard = playing.play(96)
    seeds = [next(heard).task.seed for _ in range(5)]
    playing.engine(0).send_signal(how)
    started = time.monotonic()
    seeds += [one.task.seed for one in heard]
    assert time.monotonic() - started < FOUND_SECONDS + 20
    assert Counter(seeds) == Counter(range(96))


def test_an_engine_that_stood_still_for_a_while_is_only_suspected(playing: Playing) -> None:
    settled(playing)
    engine, worker = playing.engine(1), playing.lives.workers[1]
    engine.suspend()
    playing.until(f"{worker.name} has not answered for")
    while worker.state is not State.SUSPECT:
        time.sleep(0.01)
    assert worker not in playing.lives.ready
    engine.resume()
    playing.until(f"{worker.name} answers again")
    while worker.state is State.SUSPECT:
        time.sleep(0.01)
    assert len(playing.lives.ready) == 2
    assert Counter(one.task.seed for one in playing.play(32)) == Counter(range(32))
    assert not any("Another takes the place" in line for line in playing.said)


@pytest.mark.nightly
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_ends_is_told_and_nobody_waits_for_it_for_long(playing: Playing, model: Path, how: int) -> None:
    settled(playing)
    ranks = LearnerGroup.start(LearnerConfig(model=str(model)), temperature=1.0, prefix="ending", health=playing.health)
    sign: Any = ray.get(ranks._ranks[0].alive.options(concurrency_group="health").remote())
    psutil.Process(sign.process_id).send_signal(how)
    started = time.monotonic()
    with pytest.raises(LearnerDied, match="learner rank 0 died in version"):
        ranks.version()
    assert time.monotonic() - started < FOUND_SECONDS
    assert len(playing.lives.ready) == 2
    ranks.close()


def test_a_tensor_that_a_push_does_not_reach_is_named(playing: Playing, model: Path) -> None:
    settled(playing)

    class AllButOne(HuggingFaceSource):
        off = 0.0

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in super().__iter__():
                yield name, tensor if name == "model.norm.weight" else tensor + self.off

    class Forgetful(LearnerGroup):
        def send_weights(self, workers: Receivers, version: int, backend: str, **options: Any) -> SyncReport:
            source = AllButOne(playing.module, model)
            source.off = options["perturbation"]
            return make_sender(backend, client=workers, source=source).send(version)

    learner = Forgetful.start(LearnerConfig(model=str(model)), temperature=1.0, prefix="forgetful")
    with pytest.raises(PolicyMismatch, match=r"1 of \d+ weights .* are not reached by a push: model\.norm\.weight\."):
        playing.group.give(sync(playing, learner).push)
    learner.close()
