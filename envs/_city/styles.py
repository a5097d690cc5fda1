"""The tables that made-up cities are drawn from: their styles, and the words of their names.

    STYLES["oldtown"] = CityStyle(description, layout=Layout(…), look=Look(…))   streets, and what one sees
    FIRST_WORDS, SECOND_WORDS, KINDS                                             "Amber Otter Bakery"
    COLORS                                                                       the first words that mean one
    STREET_WORDS                                                                 "Elm Street"

A name can be read on a sign only by a model that sees large pictures. In a style with emblems the sign shows a shape
for the last word, painted in the colour that the first word says, so that a tiny model can tell what it sees: the
four `emblem…` styles are alike in that, and differ in streets, walls, sky and boards.

To add a style, add an entry to styles.yaml; nothing else names one. Lengths are metres, angles degrees, colours red,
green and blue. Words are short: a name must be readable on a sign that is some fifty pixels wide.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Color = tuple[int, int, int]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the streets lie."""

    plan: Literal["lattice", "rings"]
    """A bent grid, or rings around a square with spokes between them."""
    block: Range
    """Length of a block along and across the rows of a lattice; of rings, the spacing is the first one."""
    turned: float
    """Degrees clockwise by which the whole plan is turned away from north."""
    sheared: float = 0.0
    """By how much of a block each further row of a lattice is shifted."""
    jitter: float = 0.0
    """How far a crossing may lie from its place in the plan, as a fraction of a block."""
    diagonal_every: int = 0
    """Every how manieth diagonal of a lattice is a street, in both directions; 0 for none."""
    missing: float = 0.0
    """Fraction of the planned streets that were never built."""
    half_width: float
    """From the middle of a street to the house fronts."""
    viewpoint_spacing: float = 14.0
    """The most between two panoramas of a street."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boards:
    """The signs of places, turned towards whoever looks."""

    emblems: bool = False
    """Whether a board shows the emblem of its place, and below it the name; otherwise the name alone."""
    ground: Color = (255, 255, 255)
    """Behind an emblem; a name alone stands on one of a few dark colours."""
    ink: Color = (255, 255, 255)
    """Of the name, and of the line around the board."""
    width: float = 7.6
    aspect: float = 0.5
    """Height by width."""
    bottom: float = 2.7
    max_angle: float = 40.0
    """How wide a board looks at most, however near it is."""
    sight: float = 70.0
    """How near one must be to see it."""
    facing: float = 180.0
    """How far to the side of its front one may stand; the front faces where the place is asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Markings:
    """What is painted on the road."""

    color: Color = (238, 238, 232)
    stripe: float = 0.65
    """Width of a bar of a zebra crossing, and of the gaps between them."""
    depth: float = 3.2
    """Length of these bars."""
    reach: float = math.inf
    """How far from the middle of a crossing they begin at most; else beyond the corners, however sharp these are."""
    dashes: bool = True
    """Whether a dashed line runs along the middle of each road."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a panorama shows."""

    sky: Color
    haze: Color
    """The sky at the horizon, into which far things fade."""
    road: Color
    pavement: Color
    walls: tuple[Color, ...]
    window: Color
    frame: Color
    roof: Color
    shop: Color
    """The glass of a ground floor; the walls' own colour where houses have none."""
    heights: Range
    lot_widths: Range
    storey: float
    bay: float
    """From one window to the next."""
    roof_shape: Literal["flat", "hipped", "gabled"]
    roof_rise: float
    hedges: float = 0.0
    """Fraction of the lots that are a garden behind a hedge."""
    tree_spacing: float
    foliage: Color
    road_half_width: float
    """From the middle of a street to the kerb."""
    windows: bool = True
    """Whether walls have windows and shop fronts; otherwise they are plain."""
    ground_grain: float = 1.0
    """How many times coarser than usual the ground is drawn, which is quicker and shows only in large pictures."""
    boards: Boards = Boards()
    markings: Markings = Markings()


@dataclass(frozen=True, slots=True, kw_only=True)
class CityStyle:
    """One entry of `STYLES`."""

    description: str
    layout: Layout
    look: Look
    color_names: bool = False
    """Whether the first word of each name means a colour, one of `COLORS`, as emblems need it."""


def _styles() -> dict[str, CityStyle]:
    read = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {
        name: CityStyle(layout=Layout(**style.pop("layout")), look=_look(style.pop("look")), **style)
        for name, style in _tuples(read).items()
    }


def _look(options: dict[str, Any]) -> Look:
    boards, markings = Boards(**options.pop("boards", {})), Markings(**options.pop("markings", {}))
    return Look(boards=boards, markings=markings, **options)


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, which nobody changes."""
    if isinstance(value, dict):
        return {name: _tuples(part) for name, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


STYLES = _styles()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_WORDS = _words(
    "Amber Azure Basil Birch Brass Bright Cedar Clever Copper Coral Cosmic Crimson Dapper Echo Ember Fern "
    "Gentle Golden Happy Hazel Humble Indigo Ivory Jade Jolly Juniper Linden Lucky Lunar Maple Mellow "
    "Misty Nimble Opal Pepper Quiet Royal Rustic Saffron Sage Scarlet Silver Solar Spruce Sunny Tulip "
    "Velvet Violet Willow Winter"
)
COLORS: dict[str, Color] = {
    "Crimson": (214, 16, 44),
    "Amber": (246, 126, 0),
    "Golden": (250, 216, 0),
    "Jade": (0, 158, 74),
    "Azure": (40, 190, 250),
    "Indigo": (36, 50, 200),
    "Violet": (158, 40, 190),
    "Coral": (255, 138, 156),
}
"""The first words that mean a colour, and the colour in which they paint an emblem."""
SECOND_WORDS = _words(
    "Acorn Anchor Arrow Badger Barrel Beacon Bell Bison Button Candle Castle Clock Clover Comet Crane "
    "Crown Dolphin Falcon Feather Finch Fox Globe Harp Heron Kettle Lantern Lark Ladder Lion Magpie "
    "Marble Mitten Moose Needle Otter Owl Panda Pebble Pigeon Piano Puffin Rabbit Raven Robin Rocket "
    "Saddle Spoon Teapot Thimble Turtle Violin Walnut"
)
KINDS = {
    "Bakery": "bakery",
    "Bank": "bank",
    "Books": "book_store",
    "Cafe": "cafe",
    "Cinema": "movie_theater",
    "Clinic": "doctor",
    "Deli": "store",
    "Diner": "restaurant",
    "Flowers": "florist",
    "Gallery": "art_gallery",
    "Gym": "gym",
    "Hotel": "lodging",
    "Library": "library",
    "Market": "supermarket",
    "Museum": "museum",
    "Pharmacy": "pharmacy",
    "School": "school",
    "Tailor": "clothing_store",
}
"""The last word of a place's name, and the place type that goes with it."""
STREET_WORDS = _words(
    "Alder Baker Canal Dover Elm Fisher Garnet Hawthorn Iris Jasper Kings Laurel Mercer Norfolk Orchard "
    "Poplar Quarry Rowan Sutton Thorn Union Vine Walker Yarrow"
)
