"""A picture is prepared once for all turns that show it, and what is said of it is the same, bit for bit."""

import asyncio
import gc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rollout.engine import Prompt, Sampling
from tests.support.engines import Pair

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

TURNS = (
    "<begin><user><image>Which cards?<end><assistant>",
    "<begin><user><image>Which cards?<end><assistant>a 3<end><user>No, look again.<end><assistant>",
    "<begin><user><image>Which cards?<end><assistant>a 3<end><user>And here?<image><end><assistant>",
)


def picture_of(seed: int, size: tuple[int, int] = (60, 90)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def shown(pair: Pair, seed: int, *, named: bool) -> list[Prompt]:
    """The turns of a dialogue about the pictures of a seed; `named` if their digests are told."""
    first, second = picture_of(seed), picture_of(seed + 1000, (60, 60))
    digests = (f"first of {seed}", f"second of {seed}") if named else ()
    prompts = [pair.prompt(text, *(first, second)[: text.count("<image>")]) for text in TURNS]
    return [replace(prompt, digests=digests[: len(prompt.images)]) for prompt in prompts]


def prepared(pair: Pair) -> set[str]:
    """What is kept, after whatever has been let go of was noticed."""
    gc.collect()
    pictures = pair.engine._render.pictures
    pictures.release_sender_touches()
    return set(pictures._prepared)


async def test_scores_and_draws_of_prepared_pictures_are_those_of_pictures_prepared_anew(picture: Pair) -> None:
    sampling = Sampling(max_tokens=20, seed=3)
    anew, kept = shown(picture, 0, named=False), shown(picture, 0, named=True)
    before = picture.engine._render.pictures.make_stats()
    expected = [(await picture.engine.score([one]), await picture.engine.generate(one, sampling)) for one in anew]
    assert picture.engine._render.pictures.make_stats().hits == before.hits, "nothing was known of them"
    found = [(await picture.engine.score([one]), await picture.engine.generate(one, sampling)) for one in kept]
    assert found == expected
    # Eight pictures were shown in six prompts; the first time of each it was prepared.
    now = picture.engine._render.pictures.make_stats()
    assert (now.hits - before.hits, now.total - before.total) == (8 - 2, 16)


async def test_what_is_prepared_lasts_as_long_as_someone_holds_the_picture(picture: Pair) -> None:
    ours, theirs = shown(picture, 1, named=True), shown(picture, 1, named=True)
    await picture.engine.score([*ours, *theirs])
    assert {"first of 1", "second of 1"} <= prepared(picture)
    del ours
    assert {"first of 1", "second of 1"} <= prepared(picture), "an equal picture is still held"
    del theirs
    assert prepared(picture).isdisjoint({"first of 1", "second of 1"})


async def test_cancelled_answers_leave_nothing_behind_and_nothing_in_disorder(picture: Pair) -> None:
    sampling = Sampling(max_tokens=200, seed=3)
    for seed in range(2, 12):
        prompts = shown(picture, seed, named=True)
        asked = [asyncio.create_task(picture.engine.generate(one, sampling)) for one in prompts]
        await asyncio.sleep(0.003 * seed)
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        del prompts, asked, one
    [scores] = await picture.engine.score(shown(picture, 5, named=True)[:1])
    assert [scores] == await picture.engine.score(shown(picture, 5, named=False)[:1])
    assert prepared(picture) == set()


async def test_more_than_there_is_room_for_is_prepared_again(picture: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.vllm_pictures.ROOM_BYTES", 1)
    kept = shown(picture, 20, named=True)
    assert await picture.engine.score(kept) == await picture.engine.score(shown(picture, 20, named=False))
    assert prepared(picture) == set()
