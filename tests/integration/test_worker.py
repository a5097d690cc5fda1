"""Rollout workers: real Ray actors with real engines play real environments; the record is exact."""

import io
import itertools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from PIL import Image
from ray.exceptions import RayTaskError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from cluster.config import load_config
from rollout.config import EngineConfig, RolloutConfig
from rollout.engine import EngineState, PolicyMismatch, Prompt
from rollout.episode import Episode, EpisodeEnd
from rollout.play import Task
from rollout.probe import TOLERANCES, ProbeExpectation, expand_pictures, expected_logprobs, make_probe
from rollout.receivers import Receivers, WorkerDied
from rollout.transcript import ChatTokens
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import make_sender
from rollout.worker import Played, start_worker, stream
from tests.support.tiny_models import make_picture_model, make_text_model

pytestmark = pytest.mark.timeout(300)

CONFIGS = Path(__file__).parents[2] / "configs" / "envs"
CONFIG = RolloutConfig(
    max_answer_tokens=24, episodes_in_flight=16, engine=EngineConfig(max_context_tokens=2048, max_sequences=16)
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=False)


@pytest.fixture(scope="module")
def worker(cluster: None, text_model: Path) -> Iterator[Any]:
    worker = start_worker("rollout-text", text_model, CONFIG)
    ray.get(worker.start.remote())
    yield worker
    ray.get(worker.close.remote())


def play(
    model: Path, worker: Any, file: str, *overrides: str, tasks: list[Task], config: RolloutConfig = CONFIG
) -> list[Episode]:
    loaded = load_config([CONFIGS / f"{file}.yaml"], overrides)
    played = list(stream(model.name, worker, loaded.env, loaded.verifier, tasks, config))
    episodes = ray.get([reference for _, reference in played])
    chat = ChatTokens.load(model)
    assert [Played.of(episode, chat) for episode in episodes] == [summary for summary, _ in played]
    return episodes


def recomputed(
    episode: Episode, module: Any, processor: Any = None, forbidden: Sequence[int] = ()
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(recorded, by a plain forward of the recorded tokens and pictures) for the answer of each turn."""
    context: list[int] = []
    images: list[Image.Image] = []
    for turn in episode.turns:
        if turn.starts_new_context:
            context, images = [], []
        context += turn.shown_token_ids.tolist()
        images += [_picture(episode, digest) for digest in turn.images]
        sampled = turn.sampled_token_ids.tolist()
        prompt = Prompt(token_ids=context + sampled, images=tuple(images))
        token_ids, _, inputs = expand_pictures(prompt, processor)
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([token_ids]), **inputs).logits[0]
        # What can never be drawn has no share in the distribution that was drawn from.
        logits[:, list(forbidden)] = float("-inf")
        logprobs = logits.log_softmax(-1)[-len(sampled) - 1 : -1].gather(1, torch.tensor(sampled)[:, None])[:, 0]
        yield turn.sampled_logprobs, logprobs.numpy()
        context += sampled


def _picture(episode: Episode, digest: str) -> Image.Image:
    return Image.open(io.BytesIO(episode.pictures[digest])).convert("RGB")


@pytest.mark.parametrize("file", ["add_up", "general_points", "route_navigation"])
def test_recorded_logprobs_are_those_of_a_plain_forward_over_whole_dialogues(
    file: str, worker: Any, text_model: Path
) -> None:
    overrides = ["env.max_attempts=3"]
    if file == "route_navigation":
        overrides = ["env.teacher_forced=true"]
    module = AutoModelForCausalLM.from_pretrained(text_model).eval()
    episodes = play(text_model, worker, file, *overrides, tasks=[Task(seed=seed) for seed in range(6)])
    assert sorted(episode.seed for episode in episodes) == list(range(6))
    assert all(len(episode.turns) >= 3 for episode in episodes)
    for episode in episodes:
        for recorded, plain in recomputed(episode, module):
            assert np.abs(recorded - plain).max() < 1e-5


def test_the_temperature_is_in_the_recorded_logprobs(worker: Any, text_model: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(text_model).eval()
    config = CONFIG.model_copy(update={"temperature": 0.5})
    [episode] = play(text_model, worker, "add_up", tasks=[Task(seed=1)], config=config)
    turn = episode.turns[0]
    token_ids = [*turn.shown_token_ids.tolist(), *turn.sampled_token_ids.tolist()]
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([token_ids])).logits[0] / 0.5
    plain = logits.log_softmax(-1)[len(turn.shown_token_ids) - 1 : -1].gather(
        1, torch.tensor(turn.sampled_token_ids.tolist())[:, None]
    )[:, 0]
    assert np.abs(turn.sampled_logprobs - plain.numpy()).max() < 1e-5


def test_episodes_stream_out_while_others_still_play(worker: Any, text_model: Path) -> None:
    loaded = load_config([CONFIGS / "add_up.yaml"], ["env.max_attempts=3"])
    tasks = [Task(seed=seed) for seed in range(64)]
    play(text_model, worker, "add_up", tasks=tasks[:1])  # the first call of all loads the environments
    started = time.monotonic()
    arrivals = [time.monotonic() - started for _ in stream("text", worker, loaded.env, loaded.verifier, tasks, CONFIG)]
    assert len(arrivals) == 64
    assert arrivals[0] < 0.6 * arrivals[-1]


def test_an_update_reaches_the_worker_and_its_tokens_say_so(worker: Any, text_model: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(text_model).eval()
    client = Receivers.of([worker])
    sender = make_sender("shared_memory", client=client, source=HuggingFaceSource(module, text_model))
    prompts = make_probe(module.config.vocab_size)
    torch.manual_seed(1)
    for version in (1, 2):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
        report = sender.send(version)
        assert report.version == version
        assert ray.get(worker.state.remote()) is EngineState.STALE
        logprobs = expected_logprobs(module, prompts)
        tolerance = TOLERANCES["float32"]
        client.verify(ProbeExpectation(prompts=prompts, logprobs=logprobs, version=version, tolerance=tolerance))
        assert ray.get(worker.state.remote()) is EngineState.READY
        for episode in play(text_model, worker, "add_up", tasks=[Task(seed=seed) for seed in range(4)]):
            for turn, (recorded, plain) in zip(episode.turns, recomputed(episode, module), strict=True):
                assert np.abs(recorded - plain).max() < 1e-5
                assert {span.version for span in turn.policy_versions} == {version}
    wrong = [[logprob + 0.01 for logprob in row] for row in logprobs]
    with pytest.raises(RayTaskError) as fault:
        client.verify(ProbeExpectation(prompts=prompts, logprobs=wrong, version=2, tolerance=tolerance))
    assert isinstance(fault.value.cause, PolicyMismatch)
    assert ray.get(worker.state.remote()) is EngineState.STALE
    client.verify(ProbeExpectation(prompts=prompts, logprobs=logprobs, version=2, tolerance=tolerance))


def test_pictures_are_seen_recorded_by_digest_and_recomputed_exactly(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = make_picture_model(tmp_path_factory.mktemp("pictures"))
    worker = start_worker("rollout-pictures", folder, CONFIG)
    ray.get(worker.start.remote())
    module = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    forbidden = ChatTokens.load(folder).forbidden_token_ids
    tasks = [Task(seed=seed) for seed in range(4)]
    overrides = ("env.look.size=112", "env.max_attempts=3")
    episodes = play(folder, worker, "general_points_pictures", *overrides, tasks=tasks)
    for episode in episodes:
        assert episode.end is EpisodeEnd.OUT_OF_ATTEMPTS, episode.error
        assert [len(turn.images) for turn in episode.turns] == [1, 0, 0]
        assert set(episode.pictures) == set(episode.turns[0].images)
        assert list(episode.turns[0].shown_token_ids).count(processor.image_token_id) == 1
        plain_turns = recomputed(episode, module, processor, forbidden)
        for turn, (recorded, plain) in zip(episode.turns, plain_turns, strict=True):
            assert np.abs(recorded - plain).max() < 1e-5
            assert processor.image_token_id not in turn.sampled_token_ids
    ray.get(worker.close.remote())


def test_a_killed_worker_is_named_and_no_episode_is_counted_twice(cluster: None, text_model: Path) -> None:
    worker = start_worker("rollout-doomed", text_model, CONFIG)
    ray.get(worker.start.remote())
    process = psutil.Process(ray.get(worker.process_id.remote()))
    children = process.children(recursive=True)
    loaded = load_config([CONFIGS / "general_points.yaml"])
    tasks = [Task(seed=seed) for seed in range(200)]
    finished: list[Episode] = []

    def play_until_killed() -> None:
        for _, reference in stream("rollout-doomed", worker, loaded.env, loaded.verifier, tasks, CONFIG):
            finished.append(ray.get(reference))
            if len(finished) == 5:
                os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(WorkerDied, match=r"rollout worker rollout-doomed died after \d+ of 200 episodes"):
        play_until_killed()
    seeds = [episode.seed for episode in finished]
    assert len(seeds) == len(set(seeds))
    assert 5 <= len(seeds) < 200
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "the engine's processes end with their worker"


def test_consecutive_turns_are_deltas_of_one_dialogue(worker: Any, text_model: Path) -> None:
    [episode] = play(text_model, worker, "general_points", "env.max_attempts=3", tasks=[Task(seed=5)])
    for turn, following in itertools.pairwise(episode.turns):
        assert turn.verdict.feedback in following.question_text
        assert not following.starts_new_context
