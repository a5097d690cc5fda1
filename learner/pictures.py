"""Pictures as a model's processor makes them: each once, however many sequences show it, and ahead of who looks.

Pictures(processor).of(digest, png)      →  a picture, the same one as long as somebody holds it
                   .prepared(images)     →  what the processor makes of them together, from each made alone
Ahead(family)                               tells rows what the family does, from a thread that is ahead
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary, finalize

import torch
from PIL import Image

from learner.batch import Layout, Rows, Teller
from learner.own_thread import own_thread

OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""What a processor makes of its text: as long as that, and not as a micro-batch's rows."""

Prepared = dict[str, torch.Tensor]


class Pictures:
    """Of one model. `of` may be called while one other thread is at `prepared`."""

    def __init__(self, processor: Any) -> None:
        # Its tokenizer cannot be asked by two threads at once.
        self._processor = deepcopy(processor)
        self._held: WeakValueDictionary[str, Image.Image] = WeakValueDictionary()
        self._made: dict[int, Prepared] = {}

    def of(self, digest: str, png: bytes) -> Image.Image:
        """Read when it is prepared; until then its size is known."""
        picture = self._held.get(digest)
        if picture is None:
            opened = Image.open(io.BytesIO(png))
            picture = opened if opened.mode == "RGB" else opened.convert("RGB")
            self._held[digest] = picture
        return picture

    def prepared(self, images: Sequence[Image.Image]) -> Prepared:
        """As the model's tower takes them."""
        if len(images) == 1:
            return dict(self._alone(images[0]))
        axes = self._axes
        parts = [self._alone(image) for image in images] if axes else []
        return (_joined(parts, axes) if axes else None) or self._together(images)

    def _alone(self, image: Image.Image) -> Prepared:
        made = self._made.get(id(image))
        if made is None:
            made = self._made[id(image)] = self._together([image])
            finalize(image, self._made.pop, id(image), None).atexit = False
        return made

    def _together(self, images: Sequence[Image.Image]) -> Prepared:
        text = self._processor.image_token * len(images)
        made = self._processor(text=text, images=list(images), add_special_tokens=False, return_tensors="pt")
        return {name: value for name, value in made.items() if name not in OF_TEXT}

    @cached_property
    def _axes(self) -> dict[str, int]:
        """Along which axis what it makes of two pictures is what it makes of each; nothing where it is along none."""
        pair = [Image.linear_gradient("L").resize((64, 48)).convert("RGB"), Image.new("RGB", (64, 48), (9, 99, 199))]
        alone, both = [self._together([image]) for image in pair], self._together(pair)
        found = {
            name: axis
            for name, whole in both.items()
            if isinstance(whole, torch.Tensor)
            for axis in (1, 0)
            if (joined := _joined([{name: one[name]} for one in alone], {name: axis})) is not None
            and torch.equal(joined[name], whole)
        }
        return found if found.keys() == both.keys() else {}


def _joined(parts: Sequence[Prepared], axes: Mapping[str, int]) -> Prepared | None:
    """None where they are of several sizes, which a processor makes one by what it adds."""
    joined: Prepared = {}
    for name, axis in axes.items():
        tensors = [part[name] for part in parts]
        # Patches that stand in a row are as many as a picture has, and each is as large as the next.
        shapes = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in tensors if tensor.dim() > axis}
        if len(shapes) != 1 or any(tensor.dim() <= axis for tensor in tensors):
            return None
        joined[name] = torch.cat(tensors, axis)
    return joined


class Ahead:
    """A family, asked in a thread of its own: whoever wants its answer waits for it, and not before."""

    def __init__(self, family: Teller) -> None:
        self._family = family
        self._thread = own_thread("pictures")

    def inputs(self, rows: Rows, width: int, layout: Layout) -> Mapping[str, torch.Tensor]:
        """What the family tells of the rows."""
        if not any(each.images for row in rows for each in row):
            return self._family.inputs(rows, width, layout)
        return _Awaited(self._thread.submit(self._family.inputs, rows, width, layout).result)


class _Awaited(Mapping[str, torch.Tensor]):
    """Tensors by name that are there when they are asked for."""

    def __init__(self, result: Callable[[], Mapping[str, torch.Tensor]]) -> None:
        self._result = result

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._result()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result())

    def __len__(self) -> int:
        return len(self._result())
