"""What goes through a model, counted where it goes in: the measure that compute is charged by.

traffic_of(episode, chat)             →  Traffic of each turn
of_picture(inputs, token, patch)      →  Traffic of what a processor makes of pictures
total(traffic)                        →  Traffic of all
"""

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from rollout.episode import Episode
    from rollout.transcript import ChatTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How much of what passes a model.

    A dialogue of 20 tokens, of which 5 were drawn and 4 are a picture of 16 patches:
    `Traffic(tokens=20, scored=5, pairs=210, picture_tokens=4, patches=16, patch_pairs=256)`.
    """

    tokens: int = 0
    """Through the layers of the language model, those of pictures among them."""
    scored: int = 0
    """Of these, how many the output layer is asked for: what is drawn, or learned."""
    valued: int = 0
    """States that the critic is asked about."""
    pairs: int = 0
    """Of a token and one not behind it in the same dialogue: what attention goes over."""
    picture_tokens: int = 0
    """Through the projector."""
    patches: int = 0
    """Through the vision tower."""
    patch_pairs: int = 0
    """Of patches that are seen together: what the vision tower's attention goes over."""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    def without_pictures(self) -> "Traffic":
        """Where what tower and projector say of the pictures is known already."""
        return replace(self, picture_tokens=0, patches=0, patch_pairs=0)

    def times(self, numerator: int, denominator: int = 1) -> "Traffic":
        """As often, rounded down."""
        return Traffic(**{each.name: getattr(self, each.name) * numerator // denominator for each in fields(self)})


def total(traffic: Iterable[Traffic]) -> Traffic:
    """The sum."""
    return sum(traffic, Traffic())


def traffic_of(episode: "Episode", chat: "ChatTokens") -> Iterator[Traffic]:
    """What sampling takes, turn by turn: keys and values are kept, so that what was shown before is not read again."""
    length = 0
    for turn in episode.turns:
        length = 0 if turn.starts_new_context else length
        pictures = [chat.expanded(_size(episode.pictures[digest])) for digest in turn.images]
        added = turn.num_tokens + sum(len(picture.token_ids) - 1 for picture in pictures)
        pairs = added * length + added * (added + 1) // 2
        of_words = Traffic(tokens=added, scored=len(turn.sampled_token_ids), pairs=pairs)
        yield of_words + total(picture.traffic for picture in pictures)
        length += added


def of_picture(inputs: Mapping[str, Any], image_token_id: int, patch_size: int) -> Traffic:
    """Of what a processor makes of one picture; which may be cut into several, each seen by itself."""
    grid = inputs.get("image_grid_thw")
    picture_tokens = int((inputs["input_ids"] == image_token_id).sum())
    if grid is not None:
        patches = [math.prod(each) for each in grid.tolist()]
    else:
        *leading, _, height, width = inputs["pixel_values"].shape
        patches = [(height // patch_size) * (width // patch_size)] * math.prod(leading)
        if "aspect_ratio_ids" in inputs:
            # Llama-3.2-Vision looks across at the states of all tiles, each with one for the whole of it; its tower
            # takes them by eights, and all tiles of a picture together.
            picture_tokens = sum(count + 1 for count in patches)
            patches = [sum(-(-(count + 1) // 8) * 8 for count in patches)]
    return Traffic(
        picture_tokens=picture_tokens,
        patches=sum(patches),
        patch_pairs=sum(count**2 for count in patches),
    )


def _size(content: bytes) -> tuple[int, int]:
    """Width and height, from the head of a PNG."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return picture.size
