"""Draws into a panorama what stands upright and faces whoever looks: trees, traffic lights, signboards.

draw_uprights(image, scene, eye, rotation, walls)      what no wall hides, the far things first, signs last
"""

import cmath
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs._city.scene import EYE_HEIGHT, Scene, Sign, Upright
from envs._city.signs import board_of
from envs._city.styles import Boards, Color, Look
from envs._routes.street_views import column_at_heading

UPRIGHT_SIGHT = 90.0
MIN_UPRIGHT_DISTANCE = 3.0
TRUNK: Color = (92, 70, 52)
TRUNK_WIDTH, TRUNK_SHARE, CROWN_SHARE = 0.35, 0.45, 0.62
CROWN_PARTS = ((1.0, 0.0, 0.78), (0.72, -0.22, 1.0), (0.6, 0.25, 1.15))
"""Three overlapping ellipses: size, shift to the right, brightness."""
POLE: Color = (44, 46, 48)
POLE_WIDTH, LIGHT_BOX_WIDTH, LIGHT_BOX_SHARE, LIGHT_WIDTH = 0.16, 0.5, 0.24, 0.34
LIGHT_COLORS: tuple[Color, ...] = ((220, 40, 40), (236, 180, 40), (40, 190, 90))


def draw_uprights(image: Image.Image, scene: Scene, eye: complex, rotation: float, walls: NDArray[np.float32]) -> None:
    """Draws what no wall hides; `walls` has the distance to the nearest in each column."""
    boards = scene.look.boards
    things: list[tuple[bool, float, Upright | Sign]] = [
        (isinstance(thing, Sign), -abs(thing.point - eye), thing)
        for thing in (*scene.uprights, *scene.signs)
        if MIN_UPRIGHT_DISTANCE < abs(thing.point - eye) < (boards.sight if isinstance(thing, Sign) else UPRIGHT_SIGHT)
    ]
    for _, negative_distance, thing in sorted(things, key=lambda entry: entry[:2]):
        way, distance = thing.point - eye, -negative_distance
        heading = math.degrees(math.atan2(way.real, way.imag))
        column = column_at_heading(heading, rotation=rotation, width=image.width)
        if walls[int(column)] < distance or (isinstance(thing, Sign) and not _shows_its_front(thing, way, boards)):
            continue
        # Drawn again a full turn away, so that what is cut off at one edge goes on at the other.
        for middle in (column, column - image.width, column + image.width):
            if isinstance(thing, Sign):
                _draw_sign(image, thing, boards, middle, distance)
            else:
                _draw_upright(ImageDraw.Draw(image), thing, scene.look, middle, distance, image.width / 360.0)


def _shows_its_front(sign: Sign, way: complex, boards: Boards) -> bool:
    return abs(math.degrees(cmath.phase(-way / sign.front))) <= boards.facing


def _row(height: float, distance: float, image_height: int) -> float:
    """At which row something so high above the ground appears."""
    return (0.5 - math.atan2(height - EYE_HEIGHT, distance) / math.pi) * image_height


def _draw_upright(
    draw: ImageDraw.ImageDraw, thing: Upright, look: Look, column: float, distance: float, per_degree: float
) -> None:
    heights = (0.0, thing.size * TRUNK_SHARE, thing.size)
    bottom, crown, top = (_row(height, distance, round(per_degree * 180)) for height in heights)

    def half(metres: float) -> float:
        return math.degrees(math.atan2(metres / 2, distance)) * per_degree

    if thing.kind == "tree":
        draw.rectangle((column - half(TRUNK_WIDTH), crown, column + half(TRUNK_WIDTH), bottom), fill=TRUNK)
        radius = half(thing.size * CROWN_SHARE)
        for size, shift, brightness in CROWN_PARTS:
            left, right = (column + (shift + end) * radius for end in (-size, size))
            color = tuple(min(255, round(channel * brightness)) for channel in look.foliage)
            draw.ellipse((left, top + (crown - top) * (1 - size), right, crown + radius * size / 4), fill=color)
        return
    draw.rectangle((column - half(POLE_WIDTH), top, column + half(POLE_WIDTH), bottom), fill=POLE)
    box_bottom = top + (bottom - top) * LIGHT_BOX_SHARE
    draw.rectangle((column - half(LIGHT_BOX_WIDTH), top, column + half(LIGHT_BOX_WIDTH), box_bottom), fill=POLE)
    for index, color in enumerate(LIGHT_COLORS):
        middle, radius = top + (box_bottom - top) * (index + 0.5) / len(LIGHT_COLORS), half(LIGHT_WIDTH)
        draw.ellipse((column - radius, middle - radius, column + radius, middle + radius), fill=color)


def _draw_sign(image: Image.Image, sign: Sign, boards: Boards, column: float, distance: float) -> None:
    angle = min(boards.max_angle, 2 * math.degrees(math.atan2(boards.width / 2, distance)))
    width = max(1, round(angle / 360 * image.width))
    height = max(1, round(width * boards.aspect))
    if column + width < 0 or column - width > image.width:
        return
    bottom = _row(boards.bottom, distance, image.height)
    board = board_of(sign.name, sign.color, boards)
    board = board.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image.paste(board, (round(column - width / 2), round(bottom - height)))
