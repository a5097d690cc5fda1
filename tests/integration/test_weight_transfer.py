"""After an update the engine is the learner's policy exactly, and where it is not, it says so and plays nothing."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from rollout.engine import Completion, EngineError, EngineState, PolicyMismatch, Sampling
from rollout.weight_source import checkpoint_names
from tests.support.engines import Pair, gap, transformers_logprobs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

TEXT = "<begin><user>Make 24 of 3, 8, 8 and 9.<end><assistant>"
SEEN = "<begin><user><image>Which cards?<end><assistant>"
PICTURE = Image.effect_mandelbrot((56, 56), (-2, -1.5, 1, 1.5), 60).convert("RGB")


def learn(module: PreTrainedModel, seed: int) -> None:
    """Move every weight, by about a third of its size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.03)


def question(pair: Pair) -> tuple[str, tuple[Any, ...]]:
    return (SEEN, (PICTURE,)) if pair.forbidden_token_ids else (TEXT, ())


def expected(pair: Pair, module: PreTrainedModel, completion: Completion) -> torch.Tensor:
    text, images = question(pair)
    return transformers_logprobs(
        module, pair.processor, text, completion, images=images, forbidden_token_ids=pair.forbidden_token_ids
    )


async def answer(pair: Pair, max_tokens: int = 40, seed: int = 0) -> Completion:
    text, images = question(pair)
    return await pair.engine.generate(pair.prompt(text, *images), Sampling(max_tokens=max_tokens, seed=seed))


@pytest.fixture(params=["tied", "untied", "picture"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


async def test_the_engine_plays_the_learners_weights_after_each_of_two_updates(pair: Pair) -> None:
    for seed in (1, 2):
        await answer(pair)  # fills the caches with what the old weights made
        learn(pair.module, seed)
        report = await pair.send()
        assert pair.engine.state is EngineState.STALE
        assert await pair.verify() < 1e-5
        assert pair.engine.state is EngineState.READY
        assert report.version == pair.version
        assert report.num_calls > 1
        assert report.num_bytes == sum(parameter.nbytes for parameter in pair.module.parameters())
        completion = await answer(pair)
        assert [span.version for span in completion.versions] == [pair.version]
        assert gap(completion, expected(pair, pair.module, completion)) < 1e-5


async def straddling(pair: Pair) -> tuple[list[Completion], PreTrainedModel]:
    """Long answers with an update in their midst, and the module as it was before."""
    old = copy.deepcopy(pair.module)
    answers = [asyncio.create_task(answer(pair, max_tokens=600, seed=seed)) for seed in range(12)]
    await pair.drawing()
    learn(pair.module, 100 + pair.version)
    await pair.send()
    await pair.verify()
    completions = await asyncio.gather(*answers)
    straddled = [completion for completion in completions if len(completion.versions) == 2]
    assert len(straddled) >= 3
    return straddled, old


async def test_an_answer_that_straddles_an_update_knows_which_version_drew_which_token(pair: Pair) -> None:
    straddled, old = await straddling(pair)
    for completion in straddled:
        before, after = completion.versions
        assert (before.version, after.version) == (pair.version - 1, pair.version)
        assert (before.start, before.end, after.end) == (0, after.start, len(completion.token_ids))
        assert gap(completion, expected(pair, old, completion), before.start, before.end) < 1e-5
        assert gap(completion, expected(pair, pair.module, completion), after.start, after.end) < 1e-5


async def test_without_dropping_keys_and_values_answers_would_go_on_with_old_ones(
    tied: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tied.engine._llm, "reset_prefix_cache", nothing)
    straddled, _ = await straddling(tied)
    spans = [(completion, completion.versions[1]) for completion in straddled]
    worst = max(gap(one, expected(tied, tied.module, one), span.start, span.end) for one, span in spans)
    assert worst > 0.01
    print(f"measured without reset_prefix_cache: {worst:.2f} nats")


async def test_without_dropping_encoded_pictures_the_probe_does_not_pass(
    picture: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await picture.verify()
    with monkeypatch.context() as patch:
        patch.setattr(picture.engine._llm, "reset_encoder_cache", nothing)
        learn(picture.module, 3)
        await picture.send()
        with pytest.raises(PolicyMismatch) as mismatch:
            await picture.verify()
    print(f"measured without reset_encoder_cache: {mismatch.value}")
    await picture.send()
    assert await picture.verify() < 1e-5


async def test_without_packing_a_tied_output_layer_anew_the_probe_does_not_pass(tied: Pair) -> None:
    learn(tied.module, 4)
    await tied.send(refresh_output_layer=False)
    with pytest.raises(PolicyMismatch) as mismatch:
        await tied.verify()
    print(f"measured without packing anew: {mismatch.value}")
    await tied.send()
    assert await tied.verify() < 1e-5


class Perturbed:
    """A source that gets one tensor wrong."""

    def __init__(self, pair: Pair, name: str) -> None:
        self._source = pair.source()
        self._name = name
        self.metadata: Callable[[], Any] = self._source.metadata

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._source:
            yield name, tensor + 0.05 if name == self._name else tensor


async def test_one_wrong_tensor_stops_all_play_until_the_right_one_is_sent(untied: Pair) -> None:
    running = asyncio.create_task(answer(untied, max_tokens=900))
    await untied.drawing()
    await untied.send(Perturbed(untied, "model.layers.1.post_attention_layernorm.weight"))
    waiting = asyncio.create_task(answer(untied))
    with pytest.raises(PolicyMismatch, match=r"are 0\.\d+ nats off version \d+; up to 0.0001 is tolerated"):
        await untied.verify()
    for attempt in (running, waiting, answer(untied)):
        with pytest.raises(PolicyMismatch, match="nats off"):
            await attempt
    assert untied.engine.state is EngineState.STALE
    await untied.send()
    assert await untied.verify() < 1e-5
    completion = await answer(untied)
    assert gap(completion, expected(untied, untied.module, completion)) < 1e-5


class BreaksOff(Perturbed):
    """A source that fails in the midst of a layer."""

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._source:
            if name == self._name:
                raise OSError("the learner is gone")
            yield name, tensor


async def test_an_update_that_broke_off_within_a_layer_does_not_harm_the_next(tied: Pair) -> None:
    await tied.verify()
    learn(tied.module, 5)
    with pytest.raises(OSError, match="the learner is gone"):
        await tied.send(BreaksOff(tied, "model.layers.1.self_attn.v_proj.weight"))
    waiting = asyncio.create_task(answer(tied))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await tied.send()
    assert await tied.verify() < 1e-5
    completion = await waiting
    assert gap(completion, expected(tied, tied.module, completion)) < 1e-5


async def test_weights_that_do_not_fit_are_refused_and_the_right_ones_still_arrive(tied: Pair) -> None:
    class Misshapen(Perturbed):
        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in self._source:
                yield name, tensor[:-1] if name == self._name else tensor

    with pytest.raises(EngineError, match=r"did not take model.layers.0.self_attn.v_proj.weight: RuntimeError"):
        await tied.send(Misshapen(tied, "model.layers.0.self_attn.v_proj.weight"))
    assert tied.engine.state is EngineState.STALE
    await tied.send()
    assert await tied.verify() < 1e-5


async def test_parameters_that_the_checkpoint_lacks_are_named(tied: Pair, untied: Pair) -> None:
    with pytest.raises(ValueError, match=r"1 of 21 parameters of LlamaForCausalLM are not in .*lm_head.weight"):
        checkpoint_names(untied.module, tied.folder)


async def nothing(*_arguments: Any, **_options: Any) -> None:
    """In the place of a cure."""
