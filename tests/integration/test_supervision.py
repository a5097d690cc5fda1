"""What dies, raises, hangs or goes wrong in a run: real Ray, vLLM and DeepSpeed show what becomes of it."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch

from cluster.config import Config, load_config
from cluster.errors import RunError
from cluster.groups.learner_group import LearnerGroup
from cluster.groups.weight_sync import WeightSync
from cluster.iteration.played import choose
from cluster.train_rl import train_rl
from learner.config import LearnerConfig
from rollout.engine import EngineState, PolicyMismatch
from rollout.episode import EpisodeEnd
from rollout.play import Round, Task
from rollout.probe import make_probe
from rollout.receivers import Receivers
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import SyncReport, make_sender
from rollout.worker import Played
from tests.support.chat import chat_tokens
from tests.support.episodes import episode, right
from tests.support.more_environments import add_environments, remove_environments
from tests.support.playing import Playing
from tests.support.runs import TIMEOUT_SECONDS, Run, actors, rows
from tests.support.tiny_models import make_text_model

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "configs" / "smoke.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray, in which every process finds the environments of tests too."""
    add_environments()
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"worker_process_setup_hook": add_environments, "env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()
    remove_environments()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("model"), tied=False)


@pytest.fixture(scope="module")
def playing(cluster: None, model: Path) -> Iterator[Playing]:
    playing = Playing(model)
    yield playing
    playing.close()


class Meddler(LearnerGroup):
    """A learner behind which somebody sends one wrong tensor."""

    meddle: Callable[[Receivers, int], Any]
    num_wrong = 0
    num_sent = 0

    def send_weights(self, workers: Receivers, version: int, backend: str, **options: Any) -> SyncReport:
        report = super().send_weights(workers, version, backend, **options)
        if options["perturbation"]:
            return report  # the one before the first that counts
        self.num_sent += 1
        if self.num_wrong:
            self.num_wrong -= 1
            self.meddle(workers, version)
        return report


def test_a_push_that_does_not_match_is_tried_once_more_and_then_stops(playing: Playing, model: Path) -> None:
    class Wrong(HuggingFaceSource):
        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in super().__iter__():
                yield name, tensor + 0.05 if name == "model.norm.weight" else tensor

    wrong = Wrong(playing.module, model)
    learner = Meddler.start(LearnerConfig(model=str(model)), temperature=1.0)
    assert isinstance(learner, Meddler)
    learner.meddle = lambda workers, version: make_sender("shared_memory", client=workers, source=wrong).send(version)
    probe = make_probe(playing.module.config.vocab_size)
    sync = WeightSync(learner, probe, backend="shared_memory", dtype="float32")
    learner.num_wrong = 1
    assert playing.group.give(sync.push).gap < 1e-4
    assert learner.num_sent == 2
    learner.num_wrong = 2
    with pytest.raises(PolicyMismatch, match=r"are 0\.\d+ .*off version 0; up to 0.0001 is tolerated"):
        playing.group.give(sync.push)
    assert learner.num_sent == 4
    assert ray.get(playing.actors[0].state.remote()) is EngineState.STALE
    assert playing.group.give(sync.push).gap < 1e-4
    assert ray.get(playing.actors[0].state.remote()) is EngineState.READY
    learner.close()


def test_rounds_in_flight_at_once_are_each_what_they_are_alone(playing: Playing) -> None:
    """As the suites of an evaluation are: other environments, other temperatures, equal seeds."""
    cards = load_config([ROOT / "configs" / "envs" / "general_points.yaml"], ["env.max_attempts=2"])
    rounds = {
        "sums": Round(env=playing.loaded.env, verifier=playing.loaded.verifier, temperature=1.0),
        "greedy sums": Round(env=playing.loaded.env, verifier=playing.loaded.verifier, temperature=0.0),
        "cards": Round(env=cards.env, verifier=cards.verifier, temperature=0.7),
    }
    tasks = [Task(seed=seed, draw=name, round=name) for name in rounds for seed in range(20)]

    def told(tasks: Sequence[Task]) -> dict[Task, Any]:
        nobody: Any = None
        played = list(playing.group.play(tasks, nobody, nobody, playing.config, rounds))
        assert Counter(one.task for one, _ in played) == Counter(replace(task, draw=None) for task in tasks)
        episodes = zip((one.task for one, _ in played), ray.get([reference for _, reference in played]), strict=True)
        return {
            task: [(turn.question_text, turn.sampled_token_ids.tolist(), turn.verdict) for turn in episode.turns]
            for task, episode in episodes
        }

    together = told(tasks)
    for name in rounds:
        alone = told([task for task in tasks if task.round == name])
        assert {task: turns for task, turns in together.items() if task.round == name} == alone


def test_another_worker_plays_what_a_dead_one_had_and_its_successor_a_share_of_what_comes(playing: Playing) -> None:
    heard = playing.play(64)
    seeds = [next(heard).task.seed for _ in range(5)]
    playing.kill(0)
    seeds += [one.task.seed for one in heard]
    assert Counter(seeds) == Counter(range(64))
    assert "rollout-0 died" in playing.said[-1] and "Another takes the place of rollout-0." in playing.said[-1]
    assert len(playing.lives.ready) == 1, "nobody waited for the successor"
    assert playing.num_adopted == 0
    heard = playing.play(200)
    found = [next(heard) for _ in range(5)]
    deadline = time.monotonic() + 200
    while playing.num_adopted == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found += list(heard)
    assert Counter(one.task.seed for one in found) == Counter(range(200))
    by_version = Counter(one.oldest_version for one in found)
    assert set(by_version) == {0, 7}
    assert min(by_version.values()) > 20


def test_a_place_stays_empty_when_too_many_died_in_it_and_the_run_ends_with_the_last(playing: Playing) -> None:
    playing.settled()
    for budget in playing.lives._budgets:
        budget.limit = 0
    heard = playing.play(100)
    seeds = [next(heard).task.seed]
    playing.kill(1)
    seeds += [next(heard).task.seed for _ in range(40)]
    assert len(playing.lives.ready) == 1, "the other one plays on"
    playing.kill(0)
    with pytest.raises(
        RunError, match=r"not replaced: cluster\.max_worker_restarts=\d is used up within the hour, and 0"
    ):
        list(heard)


def workers() -> set[psutil.Process]:
    """The processes of all actors of runs in this process."""
    return {process for kind in ("RolloutWorker", "LearnerWorker") for process in actors(os.getpid(), kind)}


def small(folder: Path, *options: str) -> Config:
    return load_config(
        [SMOKE],
        [
            "cluster.episodes_per_iteration=24",
            "cluster.evaluate_at_start=false",
            "cluster.evaluate_at_end=false",
            "evaluation.regurgitation=false",
            f"cluster.folder={folder}",
            *options,
        ],
    )


def test_environments_that_raise_or_hang_are_counted_until_they_are_too_many(cluster: None, tmp_path: Path) -> None:
    before = workers()
    config = small(
        tmp_path,
        "env.name=unreliable",
        "env.raises=[3,48,49,50,51]",
        "env.hangs=[5]",
        "rollout.episode_timeout_seconds=8",
    )
    words = r"(?s)4 of 24 episodes failed .*; the first, seed 48, with\nTraceback .*the sum of seed 48 is lost"
    with pytest.raises(RunError, match=words):
        train_rl(config)
    [run] = tmp_path.iterdir()
    first, second = rows(run, "metrics")
    assert (first["rollout/failed"], first["rollout/out_of_time"]) == (1 / 24, 1 / 24)
    assert first["rollout/learned_from"] == 22  # one failed, and one was never asked
    assert (second["rollout/failed"], second["rollout/learned_from"]) == (0, 24)
    assert [path.name for path in sorted((run / "episodes").iterdir())] == ["train_000001.md", "train_000003.md"]
    assert "the sum of seed 3 is lost" in (run / "episodes" / "train_000001.md").read_text()
    assert (run / "episodes" / "train_000003.md").read_text().count("LookupError: the sum") == 4
    _, alive = psutil.wait_procs(workers() - before, timeout=20)
    assert not alive, "the run is over, whatever hangs in its workers"


def test_a_loss_that_is_not_finite_stops_the_run_which_goes_on_otherwise(tmp_path: Path) -> None:
    options = ("cluster.dashboard=false", "cluster.iterations=4", "evaluation.episodes=40")
    broken = Run(tmp_path, str(SMOKE), *options, "learner.optimizer.learning_rate=1e30")
    said = broken.ended()
    assert broken.process.returncode == 2
    assert "iteration 0: " in said and "The optimizer has stepped on nothing of it" in said
    [run] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len((run / "failures" / "iteration_000000.jsonl").read_text().splitlines()) == 128
    lagging = ("rollout.max_policy_lag=1", "learner.loss.importance_cap=2.0", "learner.optimizer.learning_rate=1e-3")
    assert Run(tmp_path, "--resume", str(run), *lagging).result() == run
    found = rows(run, "metrics")
    assert [row["iteration"] for row in found] == [1, 2, 3, 4]
    assert [row["rollout/policy_lag"] for row in found] == [0, 1, 1, 1]
    assert all((row["rollout/stale"], row["rollout/learned_from"]) == (0, 128) for row in found)
    assert all(row["push/gap"] < 1e-4 for row in found)


def test_episodes_of_a_policy_that_is_too_old_are_dropped() -> None:
    config = small(ROOT, "rollout.max_policy_lag=1")
    chat = chat_tokens()
    played = [(Played.of(episode(right(version=version), seed=version), chat), None) for version in range(6)]
    failed = (Played.of(episode(end=EpisodeEnd.FAILED), chat), None)
    chosen = choose([*played, failed, *played], version=5, config=config)
    assert [one.oldest_version for one, _ in chosen] == [4, 5, 4, 5]
    with pytest.raises(RunError, match="only 0 of 6 episodes can be learned from"):
        choose(played, version=9, config=config)
