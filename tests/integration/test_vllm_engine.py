"""VllmEngine samples from the policy, says so exactly, and ends as it should."""

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from rollout.engine import EngineError, EngineState, Sampling
from rollout.probe import expected_logprobs, largest_gap
from tests.support.engines import Pair, gap, running, transformers_logprobs
from tests.support.tiny_models import make_text_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

TEXT = "<begin><user>Make 24 of 3, 8, 8 and 9.<end><assistant>"
SEEN = "<begin><user><image>Which cards?<image><end><assistant>"
RED, GREEN = Image.new("RGB", (90, 60), (200, 30, 30)), Image.new("RGB", (60, 60), (30, 160, 30))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_log_probabilities_are_those_of_the_distribution_that_was_sampled(tied: Pair, temperature: float) -> None:
    sampling = Sampling(max_tokens=80, temperature=temperature, seed=1)
    completion = await tied.engine.generate(tied.prompt(TEXT), sampling)
    expected = transformers_logprobs(tied.module, tied.tokenizer, TEXT, completion, temperature=temperature)
    assert gap(completion, expected) < 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_pictures_are_seen_as_the_learner_sees_them(picture: Pair, temperature: float) -> None:
    sampling = Sampling(max_tokens=40, temperature=temperature, seed=2)
    completion = await picture.engine.generate(picture.prompt(SEEN, RED, GREEN), sampling)
    forbidden = picture.forbidden_token_ids
    right, swapped = (
        transformers_logprobs(
            picture.module,
            picture.processor,
            SEEN,
            completion,
            images=images,
            temperature=temperature,
            forbidden_token_ids=forbidden,
        )
        for images in ((RED, GREEN), (GREEN, RED))
    )
    assert gap(completion, right) < 1e-5
    assert gap(completion, swapped) > 0.01


async def test_an_answer_keeps_its_end_token_and_stops_there(tied: Pair) -> None:
    answers = await asyncio.gather(
        *(tied.engine.generate(tied.prompt(TEXT), Sampling(max_tokens=900, seed=seed)) for seed in range(8))
    )
    stopped = [answer for answer in answers if answer.finish == "stop"]
    assert stopped
    for answer in stopped:
        assert answer.token_ids[-1] == tied.tokenizer.eos_token_id
        assert tied.tokenizer.eos_token_id not in answer.token_ids[:-1]
        assert len(answer.logprobs) == len(answer.token_ids)


async def test_an_answer_that_reaches_the_limit_says_so(tied: Pair) -> None:
    completion = await tied.engine.generate(tied.prompt(TEXT), Sampling(max_tokens=3, seed=0))
    assert completion.finish == "length"
    assert len(completion.token_ids) == 3
    assert [(span.start, span.end) for span in completion.versions] == [(0, 3)]


async def test_temperature_zero_and_equal_seeds_repeat_themselves(tied: Pair) -> None:
    for sampling in (Sampling(max_tokens=20, temperature=0), Sampling(max_tokens=20, seed=5)):
        first, second = [await tied.engine.generate(tied.prompt(TEXT), sampling) for _ in range(2)]
        assert first.token_ids == second.token_ids


async def test_forbidden_tokens_are_never_drawn_however_likely(picture: Pair) -> None:
    # At the highest temperature that vLLM takes, every token of this model comes up about ten times.
    answers = await asyncio.gather(
        *(
            picture.engine.generate(picture.prompt(TEXT), Sampling(max_tokens=100, temperature=2.0, seed=seed))
            for seed in range(30)
        )
    )
    drawn = {token for answer in answers for token in answer.token_ids}
    assert len(drawn) > 200
    assert drawn.isdisjoint(picture.forbidden_token_ids)


async def test_scores_are_the_log_probabilities_of_every_token_but_the_first(tied: Pair) -> None:
    prompts = [tied.prompt(TEXT), tied.prompt("<begin>" + "0123456789" * 30), tied.prompt("ab")]
    scores = await tied.engine.score(prompts)
    assert [len(row) for row in scores] == [len(prompt.token_ids) - 1 for prompt in prompts]
    assert largest_gap(scores, expected_logprobs(tied.module, prompts)) < 1e-5


async def test_scores_leave_out_what_stands_for_a_picture(picture: Pair) -> None:
    prompt = picture.prompt(SEEN, RED, GREEN)
    scores = await picture.engine.score([prompt])
    assert len(scores[0]) == len(prompt.token_ids) - 1 - 2
    assert largest_gap(scores, expected_logprobs(picture.module, [prompt], picture.processor)) < 1e-5


async def test_a_cancelled_answer_frees_its_place(tied: Pair) -> None:
    task = asyncio.create_task(tied.engine.generate(tied.prompt(TEXT), Sampling(max_tokens=900, seed=0)))
    await tied.drawing()
    assert tied.engine._llm.output_processor.has_unfinished_requests()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not tied.engine._llm.output_processor.has_unfinished_requests()


async def test_a_killed_engine_says_that_it_died(tmp_path: Path) -> None:
    async with running(make_text_model(tmp_path / "doomed", tied=False)) as doomed:
        answer = asyncio.create_task(doomed.engine.generate(doomed.prompt(TEXT), Sampling(max_tokens=900, seed=0)))
        await doomed.drawing()
        for process in doomed.processes:
            process.kill()
        with pytest.raises(EngineError, match=r"doomed died while it had requests .*exit code -9"):
            await answer
        assert doomed.engine.state is EngineState.STALE
        with pytest.raises(EngineError, match="died"):
            await doomed.engine.generate(doomed.prompt(TEXT), Sampling(max_tokens=1))
        with pytest.raises(EngineError, match="died"):
            await doomed.engine.start_weight_update()
