"""The emblems of kinds: one filled shape for each, told apart from all others at twelve pixels.

    emblem_mask("Bakery", 96) ─▶ Image      96 × 96, white where the shape is

A shape is outlines in a square of 100 × 100, filled (+) or cut out (-) one after the other. A point is how far right
and how far down it lies.
"""

import math
from functools import lru_cache

from PIL import Image, ImageDraw

_Outline = tuple[tuple[float, float], ...]
_Shape = tuple[tuple[str, _Outline], ...]

DRAWN_SIZE = 480
"""In pixels; smaller masks are shrunk from it, so that their edges are smooth."""


def _box(left: float, top: float, right: float, bottom: float) -> _Outline:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _disc(right: float, down: float, radius: float) -> _Outline:
    angles = (math.tau * step / 90 for step in range(90))
    return tuple((right + radius * math.cos(angle), down + radius * math.sin(angle)) for angle in angles)


_PLATE = ("+", _disc(50, 50, 50))

EMBLEMS: dict[str, _Shape] = {
    # A croissant, which opens to the upper right.
    "Bakery": (_PLATE, ("-", _disc(74, 30, 42))),
    # A coin with a hole.
    "Bank": (_PLATE, ("-", _disc(50, 50, 28))),
    # An open book seen from its end.
    "Books": (("+", ((0, 0), (32, 0), (50, 56), (68, 0), (100, 0), (66, 100), (34, 100))),),
    # A cup seen from its side.
    "Cafe": (("+", _disc(50, 24, 50)), ("-", _box(0, -30, 100, 22))),
    # The sign for "play".
    "Cinema": (("+", ((8, 0), (100, 50), (8, 100))),),
    "Clinic": (("+", _box(34, 0, 66, 100)), ("+", _box(0, 34, 100, 66))),
    # A sausage.
    "Deli": (
        ("+", _disc(18, 82, 18)),
        ("+", _disc(82, 18, 18)),
        ("+", ((5, 69), (69, 5), (95, 31), (31, 95))),
    ),
    # A plate.
    "Diner": (_PLATE,),
    # Four petals.
    "Flowers": tuple(("+", _disc(x, y, 22)) for x in (22, 78) for y in (22, 78)),
    # A picture frame.
    "Gallery": (("+", _box(0, 0, 100, 100)), ("-", _box(25, 25, 75, 75))),
    # Two weights, corner to corner.
    "Gym": (("+", _box(0, 0, 52, 52)), ("+", _box(48, 48, 100, 100))),
    # A house with a steep roof.
    "Hotel": (("+", ((50, 0), (100, 50), (78, 50), (78, 100), (22, 100), (22, 50), (0, 50))),),
    # Two books, one on the other.
    "Library": tuple(("+", _box(0, top, 100, top + 32)) for top in (4, 64)),
    # The stripes of an awning.
    "Market": tuple(("+", _box(left, 0, left + 32, 100)) for left in (4, 64)),
    # An hourglass.
    "Museum": (("+", ((0, 0), (100, 0), (56, 50), (100, 100), (0, 100), (44, 50))),),
    # A heart.
    "Pharmacy": (
        ("+", _disc(27, 29, 27)),
        ("+", _disc(73, 29, 27)),
        ("+", ((4, 43), (50, 20), (96, 43), (50, 98))),
    ),
    # A star.
    "School": (
        (
            "+",
            ((50, 0), (63, 36), (100, 38), (71, 61), (81, 98), (50, 77), (19, 98), (29, 61), (0, 38), (37, 36)),
        ),
    ),
    # A pair of open scissors.
    "Tailor": (("+", ((0, 0), (28, 0), (100, 100), (72, 100))), ("+", ((72, 0), (100, 0), (28, 100), (0, 100)))),
}
"""By the last word of a name."""


@lru_cache(maxsize=64)
def emblem_mask(kind: str, size: int) -> Image.Image:
    """The shape of a kind, filling a square of `size` pixels."""
    scale = DRAWN_SIZE / 100
    mask = Image.new("L", (DRAWN_SIZE, DRAWN_SIZE))
    draw = ImageDraw.Draw(mask)
    for sign, outline in EMBLEMS[kind]:
        draw.polygon([(right * scale, down * scale) for right, down in outline], fill=255 if sign == "+" else 0)
    return mask.resize((size, size), Image.Resampling.LANCZOS)
