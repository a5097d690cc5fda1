"""The policy's numbers are those of a plain Hugging Face forward, however sequences are put together."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner import packed_attention, token_scorer, vocabulary_tiles
from learner.backbone import ModelError, adapters_off
from learner.batch import BatchError, Layout, MicroBatch, micro_batches
from learner.config import LearnerConfig, LoraConfig, ValueHeadConfig
from learner.families import Family
from learner.packed_attention import Packing
from learner.policy_model import CRITIC, PolicyModel, Predictions, choose_layout, load_policy
from learner.sequence import TrainingSequence, sequences_of
from learner.token_scorer import Mode
from rollout.scripted_engine import ScriptedEngine, Suboptimal
from rollout.transcript import ChatTokens
from tests.support.sequences import play, random_sequence
from tests.support.tiny_families import FAMILIES, own_inputs
from tests.support.tiny_models import make_picture_model, make_text_model

LAYOUTS: tuple[Layout, ...] = ("padded", "packed")
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"), tied=False)


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_picture_model(tmp_path_factory.mktemp("pictures"))


def load(folder: Path, **options: Any) -> tuple[PolicyModel, Family, ChatTokens]:
    chat = ChatTokens.load(folder)
    config = LearnerConfig(model=str(folder), value_head=ValueHeadConfig(hidden_sizes=(8,)), **options)
    policy = load_policy(folder, config, chat)
    torch.manual_seed(1)
    torch.nn.init.normal_(policy.value_head[-1].weight)  # pyright: ignore
    return policy, policy.family, chat


@torch.no_grad()
def by_hand(policy: PolicyModel, chat: ChatTokens, sequence: TrainingSequence) -> tuple[Any, Any, Any]:
    """Log-probabilities, values before and the value behind, of one sequence by itself and the whole model."""
    seen = policy.family.model_input(sequence, 0)
    row = torch.from_numpy(seen.token_ids)[None]
    output: Any = policy.backbone(**own_inputs(chat, seen, policy.backbone), output_hidden_states=True)
    logits = output.logits[0].double()
    if not sequence.is_demonstration:
        logits = logits / TEMPERATURE
        logits[:, policy._forbidden] = float("-inf")
    at = torch.from_numpy(seen.sampled_at)
    logprobs = logits.log_softmax(-1)[at - 1].gather(1, row[0, at][:, None])[:, 0]
    values = policy.value_head(output.hidden_states[-1][0])[:, 0]
    return logprobs, values[at - 1], values[at[-1]]


@torch.no_grad()
def run(policy: PolicyModel, batch: MicroBatch, sequences: Sequence[TrainingSequence]) -> Predictions:
    is_drawn = torch.cat([torch.full((int(each.is_sampled.sum()),), not each.is_demonstration) for each in sequences])
    return policy(batch, is_drawn[batch.numbers], TEMPERATURE, Mode.ENTROPIES)


def check(policy: PolicyModel, chat: ChatTokens, sequences: Sequence[TrainingSequence], layout: Layout) -> None:
    first, inputs = 0, []
    for sequence in sequences:
        inputs.append(policy.family.model_input(sequence, first))
        first += int(sequence.is_sampled.sum())
    longest = max(each.num_tokens for each in inputs)
    batches = micro_batches(inputs, max_tokens=longest * 2 + 10, layout=layout, family=policy.family)
    assert len(batches) > 1
    logprobs, values, after = (torch.full((first,), float("nan")) for _ in range(3))
    for batch in batches:
        predictions = run(policy, batch, sequences)
        logprobs[batch.numbers], values[batch.numbers] = predictions.logprobs, predictions.values
        after[batch.end_numbers] = predictions.after
    expected = [by_hand(policy, chat, sequence) for sequence in sequences]
    assert torch.allclose(logprobs.double(), torch.cat([each[0] for each in expected]), atol=1e-5, rtol=0)
    assert torch.allclose(values, torch.cat([each[1] for each in expected]), atol=1e-5, rtol=0)
    ends = [each.first_number + len(each.sampled_at) - 1 for each in inputs]
    assert torch.allclose(after[ends], torch.stack([each[2] for each in expected]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("few_logits", [token_scorer.FEW_LOGITS, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_in_any_layout(monkeypatch: pytest.MonkeyPatch, text_model: Path, layout: Layout, few_logits: int) -> None:
    monkeypatch.setattr(token_scorer, "FEW_LOGITS", few_logits)
    monkeypatch.setattr(vocabulary_tiles, "TILE_LOGITS", {"cpu": few_logits})
    policy, _, chat = load(text_model)
    random = Random(3)
    sequences = [
        random_sequence(random, 200, seed=seed, num_turns=random.randint(1, 4), is_demonstration=seed % 3 == 0)
        for seed in range(12)
    ]
    check(policy, chat, sequences, layout)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda family: FAMILIES[family](tmp_path_factory.mktemp(family)))


def seen_sequences(chat: ChatTokens) -> list[TrainingSequence]:
    """Dialogues with a picture, with several of several sizes, and with none; each in more than one length."""
    engine = ScriptedEngine(chat, Suboptimal(1))
    cards = play(chat, engine, range(3), "general_points", modality="pictures", max_attempts=2, look={"size": 112})
    streets = play(chat, engine, range(2), "route_navigation", modality="pictures", image_size=112)
    text = play(chat, engine, range(3), "add_up", max_attempts=2)
    random = Random(5)
    sequences = [sequence for episode in [*cards, *streets, *text] for sequence in sequences_of(episode, chat)]
    seen = [dataclasses.replace(each, pictures={d: noise(random) for d in each.pictures}) for each in sequences]
    return [*seen, joined(seen[0], seen[-1], seen[3]), joined(seen[-2], seen[1], seen[2], seen[4])]


def joined(*parts: TrainingSequence) -> TrainingSequence:
    """One dialogue of several."""
    columns = [
        each.name for each in dataclasses.fields(parts[0]) if isinstance(getattr(parts[0], each.name), np.ndarray)
    ]
    return dataclasses.replace(
        parts[0],
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        images=tuple(image for part in parts for image in part.images),
        pictures={digest: picture for part in parts for digest, picture in part.pictures.items()},
    )


def noise(random: Random) -> bytes:
    """A PNG of any size and shape."""
    width, height = random.randint(30, 200), random.randint(30, 200)
    content = io.BytesIO()
    Image.frombytes("RGB", (width, height), random.randbytes(3 * width * height)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_every_family_in_any_layout(folder_of: Callable[[str], Path], family: str, layout: Layout) -> None:
    policy, _, chat = load(folder_of(family))
    sequences = seen_sequences(chat)
    shown = [len(sequence.images) for sequence in sequences]
    assert 0 in shown and 1 in shown and max(shown) > 1
    check(policy, chat, sequences, layout)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_every_family_matter(folder_of: Callable[[str], Path], family: str) -> None:
    """Another picture in the same place gives other log-probabilities."""
    policy, reader, chat = load(folder_of(family))
    [sequence, *_] = [each for each in seen_sequences(chat) if each.images]
    seen = reader.model_input(sequence, 0)
    other = dataclasses.replace(seen, images=tuple(image.rotate(90) for image in seen.images))
    found = []
    for each in (seen, other):
        [batch] = micro_batches([each], max_tokens=4096, layout="padded", family=reader)
        found.append(run(policy, batch, [sequence]).logprobs)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_model_that_cannot_be_packed_is_padded(monkeypatch: pytest.MonkeyPatch, text_model: Path) -> None:
    policy, _, _ = load(text_model)
    assert [choose_layout(wanted, policy) for wanted in ("auto", "packed", "padded")] == ["packed", "packed", "padded"]
    whole = packed_attention._attend

    def mixing(*args: Any, packing: Any = None, **options: Any) -> Any:
        return whole(*args, packing=packing and Packing.of([sum(packing.lengths)]), **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, packed_attention.NAME, mixing)
    assert choose_layout("auto", policy) == "padded"
    with pytest.raises(ModelError, match=r"learner\.layout=packed: .*\(states differ by .*\); set it to padded"):
        choose_layout("packed", policy)


def test_attention_across_sequences_would_show(text_model: Path) -> None:
    policy, reader, _ = load(text_model)
    sequences = [random_sequence(Random(seed), 200, seed=seed) for seed in range(2)]
    inputs = [reader.model_input(sequence, number * 100) for number, sequence in enumerate(sequences)]
    [batch] = micro_batches(inputs, max_tokens=4096, layout="packed")
    leaking = dataclasses.replace(batch, inputs={}, packing=None)
    drawn = torch.ones(len(batch.numbers), dtype=torch.bool)
    with torch.no_grad():
        gap = (policy(batch, drawn, 1.0).logprobs - policy(leaking, drawn, 1.0).logprobs).abs().max()
    assert gap > 1e-2


def test_what_does_not_fit_names_the_key(text_model: Path) -> None:
    _, reader, _ = load(text_model)
    inputs = [reader.model_input(random_sequence(Random(1), 200), 0)]
    with pytest.raises(BatchError, match=r"learner.micro_batch_tokens=16: a sequence of \d+ tokens"):
        micro_batches(inputs, max_tokens=16, layout="padded")


def test_pictures_and_placeholders_must_match(picture_model: Path, text_model: Path) -> None:
    _, reader, chat = load(picture_model)
    [episode] = play(chat, ScriptedEngine(chat, Suboptimal(0)), [1], "general_points", modality="pictures")
    [sequence] = sequences_of(episode, chat)
    sequence.token_ids[sequence.token_ids == chat.image_token_id] = 0
    with pytest.raises(BatchError, match="shows 1 pictures, but its tokens hold 0 placeholders"):
        reader.model_input(sequence, 0)
    with pytest.raises(BatchError, match=r"learner.model has no eyes"):
        load(text_model)[1].model_input(sequence, 0)


def test_freezing(picture_model: Path) -> None:
    policy, _, _ = load(picture_model, freeze=("vision_tower", "projector"))
    learning = {name for name, parameter in policy.backbone.named_parameters() if parameter.requires_grad}
    assert learning
    assert all("vision_model" not in name and "connector" not in name for name in learning)
    frozen_language, _, _ = load(picture_model, freeze=("language_model",))
    assert any(parameter.requires_grad for parameter in frozen_language.backbone.parameters())


def test_each_part_has_its_rate_and_the_critic_its_own(picture_model: Path) -> None:
    rates = {"vision_tower": 1e-7, "language_model": 1e-5}
    options: dict[str, Any] = {"optimizer": {"learning_rate": 1e-3, "part_learning_rates": rates}}
    for critic, in_group, rate in (({}, "model", 1e-3), ({"learning_rate": 1e-2}, CRITIC, 1e-2)):
        config = LearnerConfig.model_validate({"model": str(picture_model), "value_head": critic, **options})
        policy = load_policy(picture_model, config, ChatTokens.load(picture_model))
        groups = {group.name: group for group in policy.parameter_groups(config)}
        found = {name: group.learning_rate for name, group in groups.items()}
        assert found == {**rates, "model": 1e-3, in_group: rate}
        assert sum(len(group.parameters) for group in groups.values()) == len(list(policy.parameters()))
        heads = [id(parameter) for parameter in policy.value_head.parameters()]
        assert set(heads) <= {id(parameter) for parameter in groups[in_group].parameters}


def test_a_rate_for_a_part_that_does_not_learn_is_refused(picture_model: Path) -> None:
    optimizer = {"part_learning_rates": {"projector": 1e-5}}
    config = LearnerConfig.model_validate(
        {"model": str(picture_model), "freeze": ["projector"], "optimizer": optimizer}
    )
    with pytest.raises(ModelError, match=r"part_learning_rates.projector: no projector of .* is trained; leave it out"):
        load_policy(picture_model, config, ChatTokens.load(picture_model)).parameter_groups(config)


def test_the_critic_computes_in_float32_whatever_the_model_does(text_model: Path) -> None:
    policy, _, _ = load(text_model, dtype="bfloat16")
    hidden = torch.randn(50, policy.critic_widths[0]).bfloat16()
    found = policy.value_head(hidden)
    assert (next(policy.value_head.parameters()).dtype, found.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(found, policy.value_head.float()(hidden.float()))
    assert not torch.equal(found, found.bfloat16().float())


def test_freezing_what_is_not_there(text_model: Path) -> None:
    with pytest.raises(ModelError, match=r"learner.freeze: LlamaForCausalLM has no vision_tower"):
        load(text_model, freeze=("vision_tower",))


def test_low_rank_training_starts_from_the_model_and_can_be_switched_off(text_model: Path) -> None:
    whole, reader, _ = load(text_model)
    adapted, _, _ = load(text_model, lora=LoraConfig(rank=4))
    learning = [name for name, parameter in adapted.backbone.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    [batch] = micro_batches([reader.model_input(random_sequence(Random(1), 200), 0)], max_tokens=512, layout="padded")
    drawn = torch.ones(len(batch.numbers), dtype=torch.bool)
    with torch.no_grad():
        expected = whole(batch, drawn, 1.0).logprobs
        assert torch.allclose(adapted(batch, drawn, 1.0).logprobs, expected, atol=1e-6)
        for name, parameter in adapted.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        assert not torch.allclose(adapted(batch, drawn, 1.0).logprobs, expected, atol=1e-2)
        with adapters_off(adapted):
            assert torch.allclose(adapted(batch, drawn, 1.0).logprobs, expected, atol=1e-6)


def test_low_rank_training_of_the_output_layer_is_not_shared_by_stage_3(text_model: Path) -> None:
    options = {"lora": LoraConfig(rank=2, target_modules=("lm_head",))}
    load(text_model, **options)
    with pytest.raises(
        ModelError, match=r"learner.lora.target_modules=\['lm_head'\]: the output layer .* zero_stage=2"
    ):
        load(text_model, **options, deepspeed={"zero_stage": 3})


def test_a_model_that_bends_its_logits_is_refused(text_model: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from learner.backbone import _check_output_layer

    size: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    model = Gemma2ForCausalLM(Gemma2Config(**size, **heads, final_logit_softcapping=0.5))
    with pytest.raises(ModelError, match="changes its logits behind the output layer"):
        _check_output_layer(model)


def test_low_rank_additions_begin_as_the_seed_says_whatever_was_drawn_before(text_model: Path) -> None:
    begun = []
    for seed, drawn_before in ((3, 1), (3, 500), (4, 1)):
        torch.rand(drawn_before)
        policy, _, _ = load(text_model, lora=LoraConfig(rank=4), seed=seed)
        begun.append({name: weight for name, weight in policy.named_parameters() if "lora_A" in name})
    first, again, other = begun
    assert first and all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
