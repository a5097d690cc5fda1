"""Signboards as they are painted: a name in capitals, with an emblem above it where the style has emblems.

board_of("Amber Otter Bakery", color, boards) ─▶ Image      BOARD_PIXELS wide, to be shrunk to what is seen of it
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from envs._city.emblems import emblem_mask
from envs._city.names import pair_of
from envs._city.styles import Boards, Color

BOARD_PIXELS = 384
EDGE, EMBLEM_EDGE = 4, 10
"""The line around a board without and with an emblem; the latter is seen from afar."""
EMBLEM_SHARE = 0.84
"""Width of an emblem by that of its board."""
LETTER_SIZE, MAX_LETTER_STRETCH = 96, 1.1


@lru_cache(maxsize=256)
def board_of(name: str, color: Color, boards: Boards) -> Image.Image:
    """The board of a place; the colour is that of its emblem or, without emblems, of the board."""
    ground = boards.ground if boards.emblems else color
    board = Image.new("RGB", (BOARD_PIXELS, round(BOARD_PIXELS * boards.aspect)), ground)
    margin = BOARD_PIXELS // 40
    if boards.emblems:
        size = round(BOARD_PIXELS * EMBLEM_SHARE)
        top = (BOARD_PIXELS - size) // 2
        board.paste(color, (top, top), emblem_mask(pair_of(name)[1], size))
        _write(board, [name.upper()], top + size + margin, board.height - EMBLEM_EDGE, margin, boards.ink)
    else:
        _write(board, name.upper().split(), margin, board.height - margin, margin, boards.ink)
    edge = EMBLEM_EDGE if boards.emblems else EDGE
    ImageDraw.Draw(board).rectangle((0, 0, board.width - 1, board.height - 1), outline=boards.ink, width=edge)
    return board


def _write(board: Image.Image, lines: list[str], top: int, bottom: int, margin: int, ink: Color) -> None:
    """Each line squeezed to the width of the board."""
    line_height = (bottom - top) // len(lines)
    for index, line in enumerate(lines):
        left, above, right, below = _typeface().getbbox(line)
        text = Image.new("L", (int(right - left), int(below - above)))
        ImageDraw.Draw(text).text((-left, -above), line, fill=255, font=_typeface())
        width = min(board.width - 2 * margin, round(text.width * MAX_LETTER_STRETCH * line_height / text.height))
        text = text.resize((width, line_height - margin), Image.Resampling.LANCZOS)
        board.paste(ink, ((board.width - width) // 2, top + index * line_height + margin // 2), text)


@lru_cache(maxsize=1)
def _typeface() -> ImageFont.FreeTypeFont:
    # matplotlib ships this font; finding its folder without importing it keeps environments light.
    package = importlib.util.find_spec("matplotlib")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    return ImageFont.truetype(folder / "DejaVuSans-Bold.ttf", LETTER_SIZE, layout_engine=ImageFont.Layout.BASIC)
