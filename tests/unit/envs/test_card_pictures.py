"""Hands of cards: equal pixels for equal arguments, every card recognisable, no card covered or cut off."""

import hashlib
import itertools
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from pydantic import ValidationError

from envs._cards.pictures import RANKS, SUITS, Card, CardLook, Placement, draw_hand, place_cards

REPOSITORY = Path(__file__).parents[3]
HAND = [
    Card(rank="10", suit="H"),
    Card(rank="A", suit="S"),
    Card(rank="Q", suit="D"),
    Card(rank="7", suit="C"),
]
LAYOUTS = ("row", "grid", "scattered")
FONTS = ("sans", "serif", "mono")


def digest(picture: Image.Image) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.int16)


def draw_single_card(card: Card, look: CardLook) -> np.ndarray:
    """The pixels of one card: a hand of four copies, cut down to the first."""
    place = place_cards(4, look, random.Random(0))[0]
    left, top = round(place.x - place.width / 2), round(place.y - place.height / 2)
    picture = draw_hand([card] * 4, look, random.Random(0))
    return pixels(picture.crop((left, top, left + place.width, top + place.height)))


def bounding_box(place: Placement) -> tuple[float, float, float, float]:
    across, down = zip(*place.corners(), strict=True)
    return min(across), min(down), max(across), max(down)


def test_the_same_cards_look_and_generator_state_give_the_same_bytes() -> None:
    look = CardLook(layout="scattered", rotation=20)
    assert draw_hand(HAND, look, random.Random(7)).tobytes() == draw_hand(HAND, look, random.Random(7)).tobytes()


def test_another_generator_state_gives_another_scattering() -> None:
    look = CardLook(layout="scattered")
    assert draw_hand(HAND, look, random.Random(7)).tobytes() != draw_hand(HAND, look, random.Random(8)).tobytes()


def test_another_process_draws_the_same_bytes_without_importing_torch_or_matplotlib() -> None:
    program = """
import hashlib, random, sys
from envs._cards.pictures import Card, CardLook, draw_hand
hand = [Card(rank=rank, suit=suit) for rank, suit in (("10", "H"), ("A", "S"), ("Q", "D"), ("7", "C"))]
picture = draw_hand(hand, CardLook(layout="scattered", rotation=20), random.Random(7))
print(hashlib.sha256(picture.tobytes()).hexdigest(), "torch" in sys.modules, "matplotlib" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split()
    expected = draw_hand(HAND, CardLook(layout="scattered", rotation=20), random.Random(7))
    assert printed == [digest(expected), "False", "False"]


def test_a_picture_does_not_depend_on_what_was_drawn_before() -> None:
    look = CardLook(size=224, layout="grid")
    first = digest(draw_hand(HAND, look, random.Random(0)))
    for other in (
        CardLook(size=224, layout="grid", font="serif"),
        CardLook(size=224, layout="grid", face="dark"),
    ):
        assert digest(draw_hand(HAND, other, random.Random(0))) != first
    assert digest(draw_hand(HAND, look, random.Random(0))) == first


@pytest.mark.parametrize("size", [112, 224, 560, 1200])
def test_the_picture_is_an_rgb_square_of_the_asked_size(size: int) -> None:
    picture = draw_hand(HAND, CardLook(size=size), random.Random(0))
    assert (picture.mode, picture.size) == ("RGB", (size, size))


@pytest.mark.parametrize("font", FONTS)
def test_every_card_differs_visibly_from_every_other_even_on_the_smallest_picture(font: str) -> None:
    look = CardLook.model_validate({"size": 112, "font": font})
    deck = [Card(rank=rank, suit=suit) for suit in SUITS for rank in RANKS]
    drawn = {card: draw_single_card(card, look) for card in deck}
    for one, other in itertools.combinations(deck, 2):
        clearly_different = np.abs(drawn[one] - drawn[other]).max(axis=2) > 64
        # The rank decides the task, so ranks stand further apart than a spade and a club of one rank.
        least = 0.05 if one.rank != other.rank else 0.02
        assert clearly_different.mean() > least, (one, other)


def test_large_cards_show_their_number_in_pips() -> None:
    ink = {rank: (draw_single_card(Card(rank=rank, suit="D"), CardLook())[..., 1] < 100).sum() for rank in RANKS[1:10]}
    assert sorted(ink, key=lambda rank: ink[rank]) == list(RANKS[1:10])


@pytest.mark.parametrize("size", [112, 560])
def test_red_suits_contain_red_and_black_suits_do_not(size: int) -> None:
    for rank, suit in itertools.product(RANKS, SUITS):
        card = draw_single_card(Card(rank=rank, suit=suit), CardLook(size=size))
        # The rounded corners show the green table, so this asks for red, not for any colour at all.
        num_red = ((card[..., 0] > 150) & (card[..., 1] < 80) & (card[..., 2] < 80)).sum()
        num_black = (card.max(axis=2) < 60).sum()
        present, absent = (num_red, num_black) if suit in "HD" else (num_black, num_red)
        assert present > 20, (rank, suit)
        assert absent == 0, (rank, suit)


def test_four_colors_give_every_suit_a_color_of_its_own() -> None:
    look = CardLook(four_colors=True)
    # The middle of an ace lies inside its one large pip.
    colors = set[tuple[int, ...]]()
    for suit in SUITS:
        card = draw_single_card(Card(rank="A", suit=suit), look)
        colors.add(tuple(card[card.shape[0] // 2, card.shape[1] // 2]))
    assert len(colors) == 4


@pytest.mark.parametrize("rotation", [0, 5, 20, 45])
@pytest.mark.parametrize("num_cards", [3, 4, 5, 6])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cards_stay_inside_the_picture_and_apart(layout: str, num_cards: int, rotation: float) -> None:
    for size, seed in itertools.product((112, 560, 1200), range(50)):
        look = CardLook.model_validate({"size": size, "layout": layout, "rotation": rotation})
        places = place_cards(num_cards, look, random.Random(seed))
        assert len(places) == num_cards
        boxes = [bounding_box(place) for place in places]
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= size
            assert 0 <= top < bottom <= size
        for one, other in itertools.combinations(boxes, 2):
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rotation", [0, 30])
def test_cards_are_drawn_where_they_were_placed(layout: str, rotation: float) -> None:
    look = CardLook.model_validate({"layout": layout, "rotation": rotation})
    picture = pixels(draw_hand(HAND, look, random.Random(3)))
    card_stock = picture.min(axis=2) > 200
    anywhere = Image.new("L", (look.size, look.size))
    for place in place_cards(len(HAND), look, random.Random(3)):
        here = Image.new("L", (look.size, look.size))
        ImageDraw.Draw(here).polygon(place.corners(), fill=255)
        assert card_stock[np.asarray(here) > 0].mean() > 0.5
        anywhere.paste(255, mask=here)
    assert not card_stock[np.asarray(anywhere.filter(ImageFilter.MaxFilter(5))) == 0].any()


def test_four_cards_in_a_row_lie_as_large_and_as_high_as_in_the_paper() -> None:
    places = place_cards(4, CardLook(size=1200), random.Random(0))
    assert {(place.width, place.height, place.y, place.angle) for place in places} == {(270, 378, 600.0, 0.0)}
    assert [place.x for place in places] == [150.0, 450.0, 750.0, 1050.0]


def test_every_layout_reads_left_to_right_and_top_row_first() -> None:
    for layout, num_cards, seed in itertools.product(LAYOUTS, (3, 4, 5, 6), range(50)):
        look = CardLook.model_validate({"layout": layout})
        places = place_cards(num_cards, look, random.Random(seed))
        for place, following in itertools.pairwise(places):
            assert following.x > place.x or following.y > place.y + place.height


def test_each_card_is_turned_by_its_own_angle_within_the_range() -> None:
    places = place_cards(6, CardLook(rotation=15), random.Random(0))
    angles = {place.angle for place in places}
    assert len(angles) == 6
    assert all(-15 <= angle <= 15 for angle in angles)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"size": 3000},
        {"layout": "circle"},
        {"rotation": -1},
        {"rotation": 60},
        {"colour": "red"},
    ],
)
def test_an_invalid_look_is_refused_by_the_name_of_its_option(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CardLook.model_validate(wrong)


def test_every_option_of_a_look_is_described() -> None:
    assert [name for name, field in CardLook.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("option", ["layout", "font", "face", "table"])
def test_every_choice_of_a_look_makes_a_different_picture(option: str) -> None:
    choices = get_args(CardLook.model_fields[option].annotation)
    looks = [CardLook.model_validate({"size": 224, option: choice}) for choice in choices]
    assert len({digest(draw_hand(HAND, look, random.Random(0))) for look in looks}) == len(choices) > 1


@pytest.mark.parametrize("rank", ["1", "11", "T", "j", ""])
def test_an_unknown_rank_is_refused_with_the_known_ones(rank: str) -> None:
    with pytest.raises(ValueError, match=r"no card of rank .* use one of A, 2, 3"):
        Card(rank=rank, suit="S")


def test_an_unknown_suit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no card of suit 'X': use one of S, H, D, C"):
        Card(rank="A", suit="X")


@pytest.mark.parametrize("num_cards", [0, 2, 7])
def test_a_hand_of_too_few_or_too_many_cards_is_refused(num_cards: int) -> None:
    with pytest.raises(ValueError, match=f"hand of {num_cards} cards: use 3 to 6"):
        draw_hand(HAND[:1] * num_cards, CardLook(), random.Random(0))
