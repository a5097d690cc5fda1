"""Draws a hand of playing cards: a pure function of the cards, the look and a random generator.

    Card, CardLook              which cards are on the table; everything else about the picture
    place_cards → Placement     where each card lies: inside the picture, no two cards touching
    draw_hand                   the table, then one card face per placement, turned and pasted

    _card_face                  one card with its shadow, cached; drawn far too large, then averaged down
      _draw_large_design        corner indices and pips; a framed letter for J, Q, K
      _draw_small_design        the rank as large as the card allows, the suit below it
        _draw_rank, _draw_suit  the two marks that both designs are made of

Lengths on a card are fractions of its width: every card is 1 wide and 1.4 high.
"""

import functools
import importlib.util
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import BaseModel, Field

Color = tuple[int, int, int]
Point = tuple[float, float]

RANKS = ("A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K")
SUITS = ("S", "H", "D", "C")
MIN_CARDS, MAX_CARDS = 3, 6

_TABLES = {"green": (53, 101, 77), "blue": (46, 80, 124), "burgundy": (110, 46, 58), "grey": (94, 98, 104)}
_STOCKS = {"white": (255, 255, 255), "cream": (251, 241, 216), "dark": (36, 38, 44)}
_OUTLINES = {"white": (172, 176, 176), "cream": (184, 170, 136), "dark": (104, 108, 116)}
_INKS = {"black": (18, 18, 22), "red": (206, 18, 34), "blue": (24, 84, 204), "green": (10, 124, 56)}
# Dark stock takes pale inks; black would vanish on it altogether and becomes nearly white.
_PALE_INKS = {"black": (238, 238, 232), "red": (255, 92, 92), "blue": (96, 172, 255), "green": (98, 216, 134)}
_FONTS = {"sans": "DejaVuSans-Bold", "serif": "DejaVuSerif-Bold", "mono": "DejaVuSansMono-Bold"}
_CAP_HEIGHT = 0.729  # of capitals and digits in these fonts, as a fraction of the font size

_CARD_HEIGHT = 1.4
_SMALL_CARD = 80  # pixels; on a card less wide than this, a corner index would be under 15 pixels high
# Rank → rows of pips in each outer column, rows in the middle column; 0 is the top row, 1 the bottom row.
_PIP_ROWS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "2": ((), (0, 1)),
    "3": ((), (0, 1 / 2, 1)),
    "4": ((0, 1), ()),
    "5": ((0, 1), (1 / 2,)),
    "6": ((0, 1 / 2, 1), ()),
    "7": ((0, 1 / 2, 1), (1 / 4,)),
    "8": ((0, 1 / 2, 1), (1 / 4, 3 / 4)),
    "9": ((0, 1 / 3, 2 / 3, 1), (1 / 2,)),
    "10": ((0, 1 / 3, 2 / 3, 1), (1 / 6, 5 / 6)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One playing card: ``Card(rank="10", suit="H")`` is the ten of hearts."""

    rank: str
    """One of A, 2 to 10, J, Q, K."""
    suit: str
    """One of S (spades), H (hearts), D (diamonds), C (clubs)."""

    def __post_init__(self) -> None:
        if self.rank not in RANKS:
            raise ValueError(f"there is no card of rank {self.rank!r}: use one of {', '.join(RANKS)}")
        if self.suit not in SUITS:
            raise ValueError(f"there is no card of suit {self.suit!r}: use one of {', '.join(SUITS)}")


class CardLook(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How a hand is drawn: everything about the picture except which cards are in it."""

    size: int = Field(default=560, ge=112, le=2400)
    """Side of the square picture in pixels."""
    layout: Literal["row", "grid", "scattered"] = "row"
    """One row, two rows, or two loose rows at random places; reads left to right, top row first."""
    font: Literal["sans", "serif", "mono"] = "sans"
    """Typeface of the ranks."""
    rotation: float = Field(default=0.0, ge=0.0, le=45.0)
    """Each card is turned by its own angle, uniform in ± this many degrees; room to turn costs size."""
    face: Literal["white", "cream", "dark"] = "white"
    """Card stock. On dark stock the black suits are nearly white, since black would not show."""
    table: Literal["green", "blue", "burgundy", "grey"] = "green"
    """Colour of the table under the cards."""
    four_colors: bool = False
    """Draw diamonds blue and clubs green, as four-colour decks do, instead of red and black."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one card lies.

    ``Placement(x=70, y=280, width=126, height=176, angle=0)`` covers 7 to 133 across and 192 to 368 down.
    """

    x: float
    """Middle of the card, in pixels from the left edge of the picture."""
    y: float
    """Middle of the card, in pixels from the top edge of the picture."""
    width: int
    """Pixels across the upright card."""
    height: int
    """Pixels down the upright card."""
    angle: float
    """Degrees by which the card is turned, counter-clockwise."""

    def corners(self) -> list[Point]:
        """The corners of the turned card, in order around it."""
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        right, down = self.width / 2, self.height / 2
        upright = ((-right, -down), (right, -down), (right, down), (-right, down))
        return [(self.x + x * cosine + y * sine, self.y - x * sine + y * cosine) for x, y in upright]


def place_cards(num_cards: int, look: CardLook, generator: random.Random) -> list[Placement]:
    """Say where each card lies. All cards of a picture have one size, and each has a box to itself."""
    if not MIN_CARDS <= num_cards <= MAX_CARDS:
        raise ValueError(f"cannot draw a hand of {num_cards} cards: use {MIN_CARDS} to {MAX_CARDS}")
    splits = _row_splits(num_cards, look.layout)
    rows = generator.choice(splits)
    column, band = look.size / max(max(split) for split in splits), look.size / len(rows)

    # The box holds a card of width 1 at every allowed angle: a turned card is widest at the largest angle,
    # but highest where its diagonal stands upright.
    turn, upright = math.radians(look.rotation), math.atan(1 / _CARD_HEIGHT)
    box_width = math.cos(turn) + _CARD_HEIGHT * math.sin(turn)
    box_height = _CARD_HEIGHT * math.cos(min(turn, upright)) + math.sin(min(turn, upright))
    filled = 0.76 if look.layout == "scattered" else 0.9
    width = int(filled * min(column / box_width, band / box_height))
    height = round(_CARD_HEIGHT * width)

    gap = 0.02 * look.size
    placements: list[Placement] = []
    for row, count in enumerate(rows):
        if look.layout == "scattered":
            across = _scatter(count, width * box_width + gap, look.size, generator)
            down = [band * row + _scatter(1, width * box_height + gap, band, generator)[0] for _ in across]
        else:
            across = [look.size / 2 + (index - (count - 1) / 2) * column for index in range(count)]
            down = [band * (row + 0.5) for _ in across]
        for x, y in zip(across, down, strict=True):
            angle = generator.uniform(-look.rotation, look.rotation)
            placements.append(Placement(x=x, y=y, width=width, height=height, angle=angle))
    return placements


def _row_splits(num_cards: int, layout: str) -> list[tuple[int, ...]]:
    """The ways in which a layout may deal the cards into rows, as the number of cards in each row."""
    if layout == "row":
        return [(num_cards,)]
    if layout == "grid":
        return [(math.ceil(num_cards / 2), num_cards // 2)]
    return [(upper, num_cards - upper) for upper in (1, 2, 3) if 1 <= num_cards - upper <= 3]


def _scatter(count: int, slot: float, length: float, generator: random.Random) -> list[float]:
    """Middles of ``count`` slots laid side by side in ``length``, uniform over all the ways to lay them."""
    offsets = sorted(generator.uniform(0, length - count * slot) for _ in range(count))
    return [offset + (index + 0.5) * slot for index, offset in enumerate(offsets)]


def draw_hand(cards: Sequence[Card], look: CardLook, generator: random.Random) -> Image.Image:
    """Draw the cards left to right, top row first; equal arguments give equal pixels in every process."""
    picture = Image.new("RGB", (look.size, look.size), _TABLES[look.table])
    for card, place in zip(cards, place_cards(len(cards), look, generator), strict=True):
        # Turning blurs by about a pixel. Small cards cannot spare it and are turned at twice their size.
        enlargement = 2 if look.rotation and place.width < _SMALL_CARD else 1
        face = _card_face(card, place.width, enlargement, look)
        if look.rotation:
            face = face.rotate(place.angle, Image.Resampling.BILINEAR, expand=True).reduce(enlargement)
        picture.paste(face, (round(place.x - face.width / 2), round(place.y - face.height / 2)), face)
    return picture


# Room for four decks: hands of three, four, five and six cards in one look.
@functools.lru_cache(maxsize=4 * len(RANKS) * len(SUITS))
def _card_face(card: Card, width: int, enlargement: int, look: CardLook) -> Image.Image:
    """The upright card, ``enlargement`` times its final size, on a transparent ground with a soft shadow."""
    final = (width * enlargement, round(_CARD_HEIGHT * width) * enlargement)
    # Each pixel becomes the mean of many that were drawn; small cards need more of them.
    samples = max(2, min(8, round(500 / final[0])))
    drawn_width, drawn_height = final[0] * samples, final[1] * samples
    radius = 0.08 * drawn_width

    shape = Image.new("L", (drawn_width, drawn_height))
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, drawn_width - 1, drawn_height - 1), radius, fill=255)
    shape = shape.reduce(samples)

    face = Image.new("RGB", (drawn_width, drawn_height), _OUTLINES[look.face])
    line = max(0.009 * drawn_width, 0.5 * samples * enlargement)
    inside = (line, line, drawn_width - 1 - line, drawn_height - 1 - line)
    ImageDraw.Draw(face).rounded_rectangle(inside, radius - line, fill=_STOCKS[look.face])
    draw_design = _draw_small_design if width < _SMALL_CARD else _draw_large_design
    draw_design(face, card, _ink(card.suit, look), look.font)
    face = face.reduce(samples)
    face.putalpha(shape)

    margin = max(1, round(0.04 * width)) * enlargement
    shadow = Image.new("L", (final[0] + 2 * margin, final[1] + 2 * margin))
    shadow.paste(110, (margin, margin), shape)
    card_on_shadow = Image.new("RGBA", shadow.size)
    card_on_shadow.putalpha(shadow.filter(ImageFilter.GaussianBlur(margin / 2)))
    card_on_shadow.alpha_composite(face, (margin, margin))
    return card_on_shadow


def _ink(suit: str, look: CardLook) -> Color:
    diamonds, clubs = ("blue", "green") if look.four_colors else ("red", "black")
    name = {"S": "black", "H": "red", "D": diamonds, "C": clubs}[suit]
    return _PALE_INKS[name] if look.face == "dark" else _INKS[name]


def _draw_large_design(face: Image.Image, card: Card, ink: Color, font: str) -> None:
    _draw_rank(face, card.rank, ink, font, top_middle=(0.12, 0.08), height=0.19, max_width=0.18)
    _draw_suit(face, card.suit, ink, (0.12, 0.37), 0.14)
    index = face.crop((0, 0, round(0.24 * face.width), face.height // 2))
    face.paste(index.rotate(180), (face.width - index.width, face.height - index.height))
    if card.rank in _PIP_ROWS:
        outer_rows, middle_rows = _PIP_ROWS[card.rank]
        for column, rows in ((0.335, outer_rows), (0.665, outer_rows), (0.5, middle_rows)):
            for row in rows:
                middle = (column, 0.25 + 0.9 * row)
                _draw_suit(face, card.suit, ink, middle, 0.175, upside_down=row > 1 / 2)
    elif card.rank == "A":
        _draw_suit(face, card.suit, ink, (0.5, 0.7), 0.5)
    else:
        # A mask that lets ink through fully along the frame's line and a little inside it, as a tint.
        frame, unit = Image.new("L", face.size), face.width
        box = (0.25 * unit, 0.13 * unit, 0.75 * unit, 1.27 * unit)
        ImageDraw.Draw(frame).rounded_rectangle(box, 0.05 * unit, 20, 255, round(0.014 * unit))
        face.paste(ink, mask=frame)
        _draw_rank(face, card.rank, ink, font, top_middle=(0.5, 0.48), height=0.44, max_width=0.42)
        _draw_suit(face, card.suit, ink, (0.36, 0.26), 0.16)
        _draw_suit(face, card.suit, ink, (0.64, 1.14), 0.16, upside_down=True)


def _draw_small_design(face: Image.Image, card: Card, ink: Color, font: str) -> None:
    _draw_rank(face, card.rank, ink, font, top_middle=(0.5, 0.11), height=0.67, max_width=0.84)
    _draw_suit(face, card.suit, ink, (0.5, 1.07), 0.42)


def _draw_rank(
    face: Image.Image, rank: str, ink: Color, font: str, *, top_middle: Point, height: float, max_width: float
) -> None:
    """Draw the rank ``height`` high, tails included; a rank that is too wide, as 10 is, gets condensed."""
    unit = face.width
    typeface = _typeface(font, round(height * unit / _CAP_HEIGHT))
    left, top, right, bottom = (round(edge) for edge in typeface.getbbox(rank, anchor="ls"))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), rank, fill=255, font=typeface, anchor="ls")
    mask = mask.resize((min(mask.width, round(max_width * unit)), round(height * unit)))
    face.paste(ink, (round(top_middle[0] * unit - mask.width / 2), round(top_middle[1] * unit)), mask)


@functools.lru_cache(maxsize=64)
def _typeface(font: str, size: int) -> ImageFont.FreeTypeFont:
    # The fonts come with matplotlib, whose folder is found here without the cost of importing it.
    package = importlib.util.find_spec("matplotlib")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("card ranks are drawn in fonts that come with matplotlib: install it")
    path = Path(package.submodule_search_locations[0], "mpl-data", "fonts", "ttf", f"{_FONTS[font]}.ttf")
    # The basic layout engine is part of Pillow everywhere; the other one depends on system libraries.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _draw_suit(
    face: Image.Image, suit: str, ink: Color, middle: Point, size: float, *, upside_down: bool = False
) -> None:
    unit, flip = face.width, -1 if upside_down else 1
    for polygon in _suit_shape(suit):
        points = [((middle[0] + size * x) * unit, (middle[1] + size * y * flip) * unit) for x, y in polygon]
        ImageDraw.Draw(face).polygon(points, fill=ink)


@functools.cache
def _suit_shape(suit: str) -> list[list[Point]]:
    """The suit as polygons in a square of side 1 around the origin, y down."""
    circle = [(math.cos(turn), math.sin(turn)) for turn in (math.tau * step / 96 for step in range(96))]
    if suit == "D":
        # An exponent of 1 would give straight sides; on printed cards they curve inwards a little.
        return [[(0.4 * x * abs(x) ** 1.2, 0.5 * y * abs(y) ** 1.2) for x, y in circle]]
    right_side = [(0.03, 0.0), (0.055, 0.26), (0.1, 0.38), (0.21, 0.5)]
    stem = right_side + [(-x, y) for x, y in reversed(right_side)]
    if suit == "C":
        middles = [(0.0, -0.285), (-0.28, 0.1), (0.28, 0.1)]
        lobes = [[(x + 0.215 * right, y + 0.215 * down) for right, down in circle] for x, y in middles]
        core = [(-0.1, -0.15), (0.1, -0.15), (0.2, 0.15), (-0.2, 0.15)]
        return [*lobes, core, stem]
    # The curve 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, here as a polynomial in cos t, spans -17 to 12.
    heights = [4 + 19 * x - 2 * x**2 - 8 * x**3 - 8 * x**4 for x, _ in circle]
    heart = [(0.48 * y**3, -(height + 2.5) / 30) for (_, y), height in zip(circle, heights, strict=True)]
    return [heart] if suit == "H" else [[(0.94 * x, -0.84 * y - 0.09) for x, y in heart], stem]
