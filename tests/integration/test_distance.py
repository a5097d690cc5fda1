"""How far a policy has moved from its start, against sums over whole distributions by plain Transformers."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from cluster.measuring.distance import Start, moved
from learner.backbone import load_backbone
from learner.config import LearnerConfig, ValueHeadConfig
from learner.policy_model import PolicyModel
from rollout.episode import Episode, EpisodeEnd, VersionSpan
from rollout.scripted_engine import ScriptedEngine, Suboptimal
from rollout.transcript import ChatTokens
from tests.support.episodes import episode, turn
from tests.support.sequences import play
from tests.support.tiny_models import make_picture_model, make_text_model

TEMPERATURE = 0.7
SHOWN = (1, 3, 40, 41, 4)
ALLOWED = (2, 70, 71, 72)
"""A vocabulary small enough to go through every answer of two tokens."""


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("now"), tied=False, seed=0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("start"), tied=False, seed=1)


@torch.no_grad()
def distribution(folder: Path, prefix: Sequence[int]) -> np.ndarray:
    """Over the allowed tokens, behind the prefix."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    logits = model(torch.tensor([list(prefix)])).logits[0, -1, list(ALLOWED)].double()
    return (logits / TEMPERATURE).softmax(-1).numpy()


def answer_of(tokens: Sequence[int], logprobs: Sequence[float], **options: Any) -> Episode:
    said = replace(
        turn("wrong_value", num_shown=len(SHOWN), num_sampled=len(tokens), **options),
        shown_token_ids=np.array(SHOWN, np.int32),
        sampled_token_ids=np.array(tokens, np.int32),
        sampled_logprobs=np.array(logprobs, np.float32),
        policy_versions=(VersionSpan(0, 0, len(tokens)),),
    )
    return episode(said, end=EpisodeEnd.OUT_OF_ATTEMPTS)


def opened(folder: Path, max_tokens: int = 4096) -> Start:
    """The start, which may only draw the allowed tokens."""
    chat = ChatTokens.load(folder)
    forbidden = sorted(set(range(len(chat.tokenizer))) - set(ALLOWED))
    model = PolicyModel(load_backbone(folder, LearnerConfig()), ValueHeadConfig(), chat)
    model._forbidden = forbidden
    return Start(model, chat, max_tokens)


def test_the_estimates_have_the_mean_that_sums_over_all_answers_give(now: Path, start: Path) -> None:
    first = {folder: distribution(folder, SHOWN) for folder in (now, start)}
    second = {
        (folder, place): distribution(folder, (*SHOWN, token))
        for folder in (now, start)
        for place, token in enumerate(ALLOWED)
    }
    divergence = (first[now] * np.log(first[now] / first[start])).sum()
    for place, chance in enumerate(first[now]):
        p, q = second[now, place], second[start, place]
        divergence += chance * (p * np.log(p / q)).sum()
    answers, chances = [], []
    for one, other in product(range(len(ALLOWED)), repeat=2):
        chance = first[now][one], second[now, one][other]
        answers.append(answer_of((ALLOWED[one], ALLOWED[other]), np.log(chance).tolist()))
        chances.append(chance[0] * chance[1])
    ratios = opened(start).log_ratios(answers, TEMPERATURE)
    assert divergence > 0.3, "the models differ"
    assert sum(chances) == pytest.approx(1)
    k1 = sum(chance * ratio.sum() for chance, ratio in zip(chances, ratios, strict=True))
    k3 = sum(chance * (np.expm1(-ratio) + ratio).sum() for chance, ratio in zip(chances, ratios, strict=True))
    assert k1 == pytest.approx(divergence, abs=1e-5) and k3 == pytest.approx(divergence, abs=1e-5)


def test_a_policy_that_has_not_moved_is_nowhere_else(now: Path) -> None:
    tokens = (70, 71, 2)
    logprobs = [np.log(distribution(now, (*SHOWN, *tokens[:at]))[ALLOWED.index(tokens[at])]) for at in range(3)]
    # One dialogue at a time or all at once, and those that failed say nothing.
    failed = episode(end=EpisodeEnd.FAILED)
    episodes = [answer_of(tokens, logprobs), failed, answer_of(tokens[:1], logprobs[:1])]
    for max_tokens in (1, 4096):
        found = opened(now, max_tokens).log_ratios(episodes, TEMPERATURE)
        assert [len(ratios) for ratios in found] == [3, 0, 1]
        assert max(np.abs(ratios).max(initial=0) for ratios in found) < 1e-5
        assert moved(found) == {"kl_to_start": pytest.approx(0, abs=1e-5), "kl_to_start_k3": pytest.approx(0, abs=1e-9)}
    assert moved([]) == moved([np.zeros(0)]) == {}


def test_a_mean_over_tokens_and_not_over_answers() -> None:
    told = moved([np.array([0.1, 0.3]), np.array([0.8])])
    assert told["kl_to_start"] == pytest.approx(0.4)
    assert told["kl_to_start_k3"] == pytest.approx(np.mean([np.exp(-x) - 1 + x for x in (0.1, 0.3, 0.8)]))


def test_pictures_are_seen(tmp_path: Path) -> None:
    folder = make_picture_model(tmp_path / "model")
    chat, start = ChatTokens.load(folder), Start.load(folder, LearnerConfig())
    seen = play(chat, ScriptedEngine(chat, Suboptimal(1)), [1, 2], "general_points", modality="pictures")
    blank = io.BytesIO()
    Image.new("RGB", (300, 200)).save(blank, "PNG")
    unseen = [replace(each, pictures=dict.fromkeys(each.pictures, blank.getvalue())) for each in seen]
    pairs = zip(start.log_ratios(seen, 1.0), start.log_ratios(unseen, 1.0), strict=True)
    for (one, other), played in zip(pairs, seen, strict=True):
        assert len(one) == len(other) == played.num_sampled_tokens and np.abs(one - other).max() > 1e-3
