"""The tables that made-up cities are drawn from: their styles, and the words of their names.

    STYLES["oldtown"] = CityStyle(description, layout=Layout(…), look=Look(…))   streets, and what one sees
    FIRST_WORDS, SECOND_WORDS, KINDS                                             "Amber Otter Bakery"
    STREET_WORDS                                                                 "Elm Street"

To add a style, add an entry; nothing else names one. Lengths are metres, angles degrees, colours red, green
and blue. Words are short, because a name must be readable on a sign that is some fifty pixels wide.
"""

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CityStyle:
    """One entry of `STYLES`."""

    description: str
    layout: Layout
    look: Look


STYLES: dict[str, CityStyle] = {
    "manhattan": CityStyle(
        description="a turned grid cut by diagonal avenues, between tall blocks of brick and stone",
        layout=Layout(plan="lattice", block=(84, 76), turned=29, jitter=0.04, diagonal_every=3, half_width=9),
        look=Look(
            sky=(88, 138, 205),
            haze=(206, 219, 232),
            road=(74, 75, 80),
            pavement=(176, 174, 170),
            walls=(
                (142, 74, 58),
                (168, 140, 108),
                (120, 118, 122),
                (96, 58, 50),
                (190, 178, 156),
                (92, 108, 128),
            ),
            window=(44, 56, 72),
            frame=(208, 202, 190),
            roof=(70, 66, 66),
            shop=(52, 66, 76),
            heights=(18, 52),
            lot_widths=(14, 26),
            storey=3.4,
            bay=2.8,
            roof_shape="flat",
            roof_rise=1.0,
            tree_spacing=30,
            foliage=(74, 106, 58),
            road_half_width=6,
        ),
    ),
    "oldtown": CityStyle(
        description="narrow crooked lanes of cobblestone, between low plastered houses with red tiled roofs",
        layout=Layout(
            plan="lattice",
            block=(70, 66),
            turned=11,
            jitter=0.2,
            diagonal_every=3,
            missing=0.14,
            half_width=7.5,
        ),
        look=Look(
            sky=(122, 160, 198),
            haze=(238, 226, 204),
            road=(142, 128, 112),
            pavement=(186, 172, 150),
            walls=(
                (232, 200, 136),
                (240, 222, 184),
                (222, 164, 128),
                (204, 184, 160),
                (236, 210, 200),
                (214, 178, 100),
            ),
            window=(70, 66, 62),
            frame=(84, 108, 82),
            roof=(176, 76, 48),
            shop=(108, 78, 56),
            heights=(7, 11),
            lot_widths=(8, 14),
            storey=3.0,
            bay=2.6,
            roof_shape="hipped",
            roof_rise=3.4,
            tree_spacing=0,
            foliage=(96, 112, 60),
            road_half_width=4.6,
        ),
    ),
    "garden": CityStyle(
        description="rings and spokes around a green square, light houses behind hedges and many trees",
        layout=Layout(plan="rings", block=(78, 78), turned=6, jitter=0.03, half_width=9.5),
        look=Look(
            sky=(108, 176, 232),
            haze=(222, 240, 246),
            road=(112, 112, 116),
            pavement=(112, 164, 84),
            walls=((244, 244, 240), (226, 234, 238), (238, 230, 206), (206, 220, 208), (232, 214, 214)),
            window=(92, 124, 150),
            frame=(70, 92, 112),
            roof=(84, 82, 94),
            shop=(198, 196, 190),
            heights=(4.5, 6.5),
            lot_widths=(10, 15),
            storey=2.8,
            bay=3.4,
            roof_shape="hipped",
            roof_rise=3.0,
            hedges=0.45,
            tree_spacing=13,
            foliage=(58, 128, 52),
            road_half_width=4.2,
        ),
    ),
    "harbour": CityStyle(
        description="slanted blocks of narrow gabled houses in strong colours, under a grey sky",
        layout=Layout(
            plan="lattice",
            block=(92, 64),
            turned=38,
            sheared=0.3,
            jitter=0.08,
            diagonal_every=4,
            missing=0.12,
            half_width=8.5,
        ),
        look=Look(
            sky=(142, 152, 166),
            haze=(214, 216, 220),
            road=(92, 96, 104),
            pavement=(150, 148, 150),
            walls=(
                (186, 48, 42),
                (226, 168, 36),
                (40, 92, 148),
                (52, 122, 92),
                (212, 96, 40),
                (236, 232, 220),
            ),
            window=(58, 70, 84),
            frame=(244, 244, 238),
            roof=(58, 52, 56),
            shop=(66, 54, 48),
            heights=(10, 15),
            lot_widths=(6, 9),
            storey=3.1,
            bay=2.2,
            roof_shape="gabled",
            roof_rise=4.0,
            tree_spacing=0,
            foliage=(80, 100, 70),
            road_half_width=5.4,
        ),
    ),
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_WORDS = _words(
    "Amber Azure Basil Birch Brass Bright Cedar Clever Copper Coral Cosmic Crimson Dapper Echo Ember Fern "
    "Gentle Golden Happy Hazel Humble Indigo Ivory Jade Jolly Juniper Linden Lucky Lunar Maple Mellow "
    "Misty Nimble Opal Pepper Quiet Royal Rustic Saffron Sage Scarlet Silver Solar Spruce Sunny Tulip "
    "Velvet Violet Willow Winter"
)
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
