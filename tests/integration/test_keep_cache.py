"""Where an update leaves keys and values as they are, dialogues go on with theirs, new ones find none of them, and
every answer says how old the oldest is that it was drawn by."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import torch

from rollout.engine import Completion, EngineState, Prompt, Sampling
from rollout.episode import VersionSpan
from tests.integration.test_weight_transfer import learn, straddling
from tests.support.engines import CONFIG, Pair, gap, running, transformers_logprobs
from tests.support.tiny_models import make_text_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

LONG = "<begin><user>" + "Make 24 of 3, 8, 8 and 9. " * 4 + "<end><assistant>"
MORE = "<end><user>That was not right. " + "Try again. " * 6 + "<end><assistant>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keeping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """An engine that keeps keys and values, with room for 16 answers at once."""
    folder = make_text_model(tmp_path_factory.mktemp("keeping"), tied=False)
    config = CONFIG.model_copy(update={"max_sequences": 16})
    async with running(folder, config=config, keeps_cache=True) as pair:
        yield pair


@pytest.fixture
def cached(keeping: Pair, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens of each prompt were not read again."""
    found: list[int] = []
    run = keeping.engine._run

    async def tell(*arguments: object) -> object:
        output = await run(*arguments)  # pyright: ignore[reportArgumentType]
        found.append(output.num_cached_tokens or 0)
        return output

    monkeypatch.setattr(keeping.engine, "_run", tell)
    return found


async def new_weights(pair: Pair) -> None:
    learn(pair.module, 50 + pair.version)
    await pair.send()
    await pair.verify()


async def test_an_answer_goes_on_with_the_keys_and_values_that_older_weights_made(keeping: Pair) -> None:
    straddled, old = await straddling(keeping)
    text = "<begin><user>Make 24 of 3, 8, 8 and 9.<end><assistant>"
    prompt = keeping.tokenizer(text, return_tensors="pt")["input_ids"]
    for completion in straddled:
        start = completion.versions[1].start
        whole = torch.cat([prompt, torch.tensor([completion.token_ids])], dim=1)
        # The last token that the old weights drew was read by the new ones.
        turn = prompt.shape[1] + start - 1
        with torch.no_grad():
            past = old(input_ids=whole[:, :turn], use_cache=True).past_key_values
            logits = keeping.module(input_ids=whole[:, turn:-1], past_key_values=past).logits[0]
        drawn = whole[0, turn + 1 :]
        mixed = logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
        assert (torch.tensor(completion.logprobs[start:]) - mixed).abs().max() < 1e-5


async def test_a_dialogue_finds_its_own_and_a_new_one_finds_none_that_older_weights_made(
    keeping: Pair, cached: list[int]
) -> None:
    sampling = Sampling(max_tokens=8, seed=1)
    first = await keeping.engine.generate(keeping.prompt(LONG), sampling)
    [began] = {span.version for span in first.versions}
    await new_weights(keeping)
    cached.clear()
    follow_up = [*keeping.prompt(LONG).token_ids, *first.token_ids, *keeping.prompt(MORE).token_ids]
    await keeping.engine.generate(Prompt(token_ids=follow_up, began_with=began), sampling)
    assert cached[0] > len(keeping.prompt(LONG).token_ids) // 2
    anew = await keeping.engine.generate(keeping.prompt(LONG), sampling)
    assert cached[1] == 0
    assert gap(anew, transformers_logprobs(keeping.module, keeping.tokenizer, LONG, anew)) < 1e-5
    again = await keeping.engine.generate(keeping.prompt(LONG), sampling)
    assert cached[2] > 0 and again.token_ids == anew.token_ids


async def test_nothing_that_another_learner_s_weights_made_is_left_under_the_versions_of_the_next(
    keeping: Pair, cached: list[int]
) -> None:
    sampling = Sampling(max_tokens=8, seed=1)
    await keeping.engine.generate(keeping.prompt(LONG), sampling)
    await keeping.engine.begin_anew()
    assert keeping.engine.state is EngineState.STALE
    waiting = asyncio.create_task(keeping.engine.generate(keeping.prompt(LONG), sampling))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    keeping.version -= 1  # the next push bears the version that the last one bore
    learn(keeping.module, 99)
    await keeping.send()
    assert await keeping.verify() < 1e-5
    cached.clear()
    answer = await waiting
    assert cached[0] == 0
    assert gap(answer, transformers_logprobs(keeping.module, keeping.tokenizer, LONG, answer)) < 1e-5


async def test_an_answer_that_waited_through_an_update_says_what_it_may_have_read(keeping: Pair) -> None:
    asked = [
        asyncio.create_task(keeping.engine.generate(keeping.prompt(LONG), Sampling(max_tokens=400, seed=seed)))
        for seed in range(48)
    ]
    await keeping.drawing()
    await new_weights(keeping)
    answers: list[Completion] = await asyncio.gather(*asked)
    waited = [answer for answer in answers if answer.versions[0] == VersionSpan(keeping.version - 1, 0, 0)]
    assert waited
    assert {min(span.version for span in answer.versions) for answer in answers} == {keeping.version - 1}
    for answer in waited:
        assert [span.version for span in answer.versions[1:]] == [keeping.version]
