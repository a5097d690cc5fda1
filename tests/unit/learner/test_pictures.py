"""A picture is prepared once, however many sequences show it, and what the model is told is the same, bit for bit."""

import gc
import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from learner.batch import Layout, ModelInput, Rows
from learner.pictures import OF_TEXT, Ahead, Pictures
from rollout.processors import load_processor
from tests.support.tiny_families import FAMILIES, make_model

SIZES = ((64, 48), (64, 48), (150, 90), (30, 200))


def png(seed: int) -> bytes:
    width, height = SIZES[seed % len(SIZES)]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def counting(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the processor made."""
    calls: list[int] = []
    together: Callable[..., Any] = pictures._together

    def count(images: Sequence[Image.Image]) -> Any:
        calls.append(len(images))
        return together(images)

    monkeypatch.setattr(pictures, "_together", count)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shown", [(0,), (0, 1), (1, 0, 1), (0, 2), (2, 3, 0, 2)], ids=str)
def test_what_is_made_of_each_is_what_is_made_of_all(family: str, shown: tuple[int, ...], tmp_path: Path) -> None:
    processor = load_processor(make_model(family, tmp_path))
    pictures = Pictures(processor)
    held = [pictures.of(f"{number}", png(number)) for number in shown]
    read = [Image.open(io.BytesIO(png(number))).convert("RGB") for number in shown]
    made = processor(text=processor.image_token * len(read), images=read, add_special_tokens=False, return_tensors="pt")
    expected = {name: value for name, value in made.items() if name not in OF_TEXT}
    for _ in range(2):
        found = pictures.prepared(held)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_is_prepared_once_as_long_as_somebody_holds_it(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Pictures(load_processor(make_model(family, tmp_path)))
    assert pictures._axes
    calls = counting(pictures, monkeypatch)
    held = [pictures.of(f"{number}", png(number)) for number in (0, 1)]
    again = [pictures.of(f"{number}", png(number)) for number in (0, 1)]
    for images in (held, again, held[:1], [*again, *held]):
        pictures.prepared(images)
    assert calls == [1, 1]
    del held, again, images
    gc.collect()
    assert not pictures._made and not pictures._held
    pictures.prepared([pictures.of("0", png(0))])
    assert calls == [1, 1, 1]


class Slow:
    """A family that begins when it is let, and says where it is asked."""

    def __init__(self) -> None:
        self.may_begin = threading.Event()

    def inputs(self, rows: Rows, width: int, layout: Layout) -> dict[str, torch.Tensor]:
        assert self.may_begin.wait(10)
        if width == 13:
            raise ValueError("no such width")
        return {"thread": torch.tensor(threading.get_ident()), "width": torch.tensor(width)}


def test_whoever_asks_ahead_waits_only_for_what_he_takes() -> None:
    nothing = np.zeros(2, np.int64)
    row = ModelInput(token_ids=nothing, sampled_at=nothing, first_number=0, images=(Image.new("RGB", (8, 8)),))
    family = Slow()
    ahead = Ahead(family)
    told = [ahead.inputs([[row]], width, "padded") for width in (5, 13, 7)]
    family.may_begin.set()
    assert {name: int(value) for name, value in told[0].items()}.keys() == {"thread", "width"}
    assert [int(each["width"]) for each in (told[0], told[2])] == [5, 7]
    assert int(told[0]["thread"]) == int(told[2]["thread"]) != threading.get_ident()
    with pytest.raises(ValueError, match="no such width"):
        len(told[1])
    words = ModelInput(token_ids=nothing, sampled_at=nothing, first_number=0)
    assert int(ahead.inputs([[words]], 5, "padded")["thread"]) == threading.get_ident(), "words need no thread"
