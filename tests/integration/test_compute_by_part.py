"""What the ledger charges is what PyTorch counts in a real forward and backward, part by part; and what a plan says."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cluster.planning.architecture import read_architecture
from cluster.planning.compute import size_of as size_of_architecture
from cluster.record.compute_ledger import ComputeLedger
from learner.batch import MicroBatch, micro_batches
from learner.config import LearnerConfig
from learner.learner import Learner, UpdateReport
from learner.policy_model import PolicyModel, load_policy, size_of
from learner.sequence import TrainingSequence, sequences_of
from rollout.episode import Episode
from rollout.scripted_engine import ScriptedEngine, Suboptimal
from rollout.traffic import total, traffic_of
from rollout.transcript import ChatTokens
from rollout.worker import Played
from tests.support.ranks import run_ranks
from tests.support.sequences import play, random_sequence
from tests.support.tiny_families import FAMILIES
from tests.support.tiny_models import (
    NUM_PICTURE_TOKENS,
    PATCH_SIZE,
    PICTURE_SIZE,
    make_picture_model,
    make_text_model,
)

TOLERANCE = 0.005
"""Rotary embeddings, and products that are no products of weights, are what is left out."""

pytestmark = pytest.mark.timeout(300)
MODELS = ("text", "text tied", "pictures", "pictures tied")
ALL_LEARN: dict[str, Any] = {}
LOW_RANK: dict[str, Any] = {"lora": {"rank": 4}}
WAYS: list[dict[str, Any]] = [
    ALL_LEARN,
    LOW_RANK,
    {"lora": {"rank": 4, "target_modules": ("o_proj", "down_proj")}},
    {"value_head": {"hidden_sizes": (32, 8)}},
    {"value_head": {"hidden_sizes": (32,), "stop_gradient": True}},
    {"deepspeed": {"gradient_checkpointing": True}},
    {**LOW_RANK, "deepspeed": {"gradient_checkpointing": True}},
]
FROZEN: list[dict[str, Any]] = [
    {"freeze": ("vision_tower",)},
    {"freeze": ("vision_tower", "projector")},
    {"freeze": ("projector",)},
    {"freeze": ("language_model",)},
    {"freeze": ("vision_tower", "language_model")},
    {"freeze": ("vision_tower",), "deepspeed": {"gradient_checkpointing": True}},
    {"freeze": ("language_model",), "deepspeed": {"gradient_checkpointing": True}},
    {"lora": {"rank": 4, "target_modules": ("q_proj", "v_proj", "proj")}},
]
CASES = [
    *((model, way) for model in MODELS for way in WAYS),
    *((model, way) for model in ("pictures", "pictures tied") for way in FROZEN),
    *((model, way) for model in ("qwen2_5_vl", "qwen3_vl") for way in (ALL_LEARN, LOW_RANK, *FROZEN[:4])),
    # Its pictures come in between its layers, so where these are frozen too much is charged, by up to a sixth.
    *(("mllama", way) for way in (ALL_LEARN, *FROZEN[:3])),
]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(model: str) -> Path:
        folder = tmp_path_factory.mktemp(model.replace(" ", "_"))
        if model in FAMILIES:
            return FAMILIES[model](folder)
        make_model = make_picture_model if model.startswith("pictures") else make_text_model
        return make_model(folder, tied=model.endswith("tied"))

    return cache(make)


def load(folder: Path, options: dict[str, Any]) -> tuple[PolicyModel, LearnerConfig]:
    """A policy that looks at pictures each time that it is asked."""
    config = LearnerConfig.model_validate({"model": str(folder), **options})
    policy = load_policy(folder, config, ChatTokens.load(folder))
    policy.keeps_pictures = False
    return policy, config


@cache
def sequences_for(folder: Path) -> list[TrainingSequence]:
    """Two hands, seen where the model has eyes, or a row of random tokens."""
    chat = ChatTokens.load(folder)
    if chat.image_token_id is None:
        return [random_sequence(Random(3), 200, num_turns=4)]
    return [sequence for episode in seen_episodes(chat) for sequence in sequences_of(episode, chat)]


def seen_episodes(chat: ChatTokens) -> list[Episode]:
    options: dict[str, Any] = {"modality": "pictures", "look": {"size": 112}, "max_attempts": 2}
    return play(chat, ScriptedEngine(chat, Suboptimal(1)), range(2), "general_points", **options)


@cache
def batches_of(folder: Path) -> list[MicroBatch]:
    """Each sequence alone, so that nothing is padded."""
    reader, batches, first = load(folder, {})[0].family, [], 0
    for sequence in sequences_for(folder):
        seen = reader.model_input(sequence, first)
        batches += micro_batches([seen], max_tokens=4096, layout="padded", family=reader)
        first += len(seen.sampled_at)
    return batches


def counted(policy: PolicyModel, batches: list[MicroBatch], *, learns: bool) -> float:
    """Products of matrices in a forward, and a backward of everything that the losses are made of."""
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(learns):
        for batch in batches:
            predictions = policy(batch, torch.ones(len(batch.numbers), dtype=torch.bool), 1.0)
            if learns:
                (predictions.logprobs.sum() + predictions.values.sum() + predictions.after.sum()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("model", "options"), CASES, ids=str)
def test_what_is_charged_is_what_is_multiplied(
    folder_of: Callable[[str], Path], model: str, options: dict[str, Any]
) -> None:
    folder = folder_of(model)
    policy, config = load(folder, options)
    size = size_of(policy, recomputes=config.deepspeed.gradient_checkpointing)
    assert size == size_of_architecture(read_architecture(folder), config), "a plan counts the same"
    batches = batches_of(folder)
    traffic = total(batch.traffic for batch in batches)
    # Tiles of four patches are filled up to eight behind what embeds them.
    tolerance = 2 * TOLERANCE if model == "mllama" else TOLERANCE
    assert size.look(traffic) == pytest.approx(counted(policy, batches, learns=False), rel=tolerance)
    assert size.learn(traffic) == pytest.approx(counted(policy, batches, learns=True), rel=tolerance)
    assert size.parameters == sum(parameter.numel() for parameter in policy.backbone.parameters())


@pytest.mark.parametrize("options", [ALL_LEARN, LOW_RANK, FROZEN[1], FROZEN[6]], ids=str)
@pytest.mark.parametrize("model", ["text", "pictures"])
def test_attention_is_what_is_multiplied_but_for_the_pairs_that_are_masked(
    folder_of: Callable[[str], Path], model: str, options: dict[str, Any]
) -> None:
    """Spelt out, attention multiplies the whole square of a dialogue; what is above its diagonal is not charged."""
    if model == "text" and "freeze" in options:
        pytest.skip("a model without eyes has no such parts")
    policy, config = load(folder_of(model), options)
    size, batches = size_of(policy, recomputes=config.deepspeed.gradient_checkpointing), batches_of(folder_of(model))
    squares = total(replace(batch.traffic, pairs=batch.num_tokens**2) for batch in batches)
    with sdpa_kernel(SDPBackend.MATH):
        looked, learned = (counted(policy, batches, learns=learns) for learns in (False, True))
    assert size.look(squares, attention=True) == pytest.approx(looked, rel=TOLERANCE)
    assert size.learn(squares, attention=True) == pytest.approx(learned, rel=TOLERANCE)
    once = total(batch.traffic for batch in batches)
    assert once.pairs == sum(batch.num_tokens * (batch.num_tokens + 1) // 2 for batch in batches)


def test_playing_and_learning_count_the_same_dialogues_alike(folder_of: Callable[[str], Path]) -> None:
    """The rollout worker knows a picture by its size alone; the learner has its pixels."""
    folder = folder_of("pictures")
    chat = ChatTokens.load(folder)
    played = [Played.of(episode, chat) for episode in seen_episodes(chat)]
    batches = batches_of(folder)
    learned = total(batch.traffic for batch in batches)
    assert total(one.traffic for one in played) == replace(learned, valued=0)
    pixels = [batch.inputs["pixel_values"].shape for batch in batches]
    assert {shape[-2:] for shape in pixels} == {(PICTURE_SIZE, PICTURE_SIZE)}
    patches = (PICTURE_SIZE // PATCH_SIZE) ** 2
    assert (learned.patches, learned.patch_pairs) == (2 * patches, 2 * patches**2)
    assert learned.picture_tokens == 2 * NUM_PICTURE_TOKENS
    record = sum(sequence.num_tokens for sequence in sequences_for(folder))
    assert learned.tokens == record + 2 * (len(chat.expanded((112, 112)).token_ids) - 1)
    first = seen_episodes(chat)[0]
    before = [traffic.tokens - traffic.scored for traffic in traffic_of(first, chat)]
    assert played[0].num_context_tokens == 2 * before[0] + len(first.turns[0].sampled_token_ids) + before[1]


def count_an_update(rank: int, num_ranks: int, model: str, options: dict[str, Any]) -> tuple[float, UpdateReport, Any]:
    """What PyTorch counts in a whole update, and what the learner says of it."""
    config = LearnerConfig.model_validate({"model": model, **options})
    learner = Learner(Path(model), config, temperature=0.9, chat=ChatTokens.load(Path(model)))
    sequences = [replace(each, is_demonstration=bool(options.get("sft"))) for each in sequences_for(Path(model))]
    counter = FlopCounterMode(display=False)
    with counter:
        report = learner.update([[each] for each in sequences], {each.trajectory: 0 for each in sequences})
    learner.engine.close()
    return counter.get_total_flops(), report, learner.size


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 2},
        {"epochs": 2, "freeze": ("vision_tower", "projector")},
        {"loss": {"kl_coefficient": 0.1}, "advantage": {"kind": "reinforce"}, "old_logprobs": "rollout"},
        {"sft": {"kl_coefficient": 0.1}, "freeze": ("vision_tower",)},
        {**LOW_RANK, "loss": {"kl_coefficient": 0.1}, "deepspeed": {"gradient_checkpointing": True}},
    ],
    ids=str,
)
def test_a_whole_update_is_charged_as_it_is_multiplied(
    folder_of: Callable[[str], Path], options: dict[str, Any]
) -> None:
    [(flops, report, size)] = run_ranks(1, count_an_update, str(folder_of("pictures")), options)
    ledger = ComputeLedger(size)
    ledger.charge_update(report, played_share=1.0)
    assert ledger.totals()["compute/flops"] == pytest.approx(flops, rel=0.01)
