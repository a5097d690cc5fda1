"""The names that the places of a city draw from, and what their signs make of them.

    names_of(STYLES["oldtown"])            →  ("Amber Acorn Bakery", "Amber Acorn Bank", …)
    names_of(STYLES["emblem"], "unseen")   →  those whose first word is a colour, of every fourth pair only
    pair_of("Amber Otter Bakery")          →  ("Amber", "Bakery"), the colour and the emblem of its sign

So that a model can be tested on emblems in colours that it never saw them in, the pairs fall into two parts: each
kind, and each colour, has three of four of its pairs among the seen ones and the other among the unseen ones.
"""

from functools import lru_cache
from typing import Literal

from envs._city.styles import COLORS, FIRST_WORDS, KINDS, SECOND_WORDS, STYLES, CityStyle

Pairs = Literal["all", "seen", "unseen"]
UNSEEN_EVERY = 4

_COLORS, _KINDS = list(COLORS), list(KINDS)


@lru_cache(maxsize=8)
def names_of(style: CityStyle, pairs: Pairs = "all") -> tuple[str, ...]:
    """All names that places of this style may have."""
    return tuple(
        f"{first} {second} {kind}"
        for second in SECOND_WORDS
        for first in (COLORS if style.color_names else FIRST_WORDS)
        for kind in KINDS
        if pairs == "all" or (pairs == "unseen") == _is_unseen(first, kind)
    )


def pair_of(name: str) -> tuple[str, str]:
    """The first and the last word of a name."""
    words = name.split()
    return words[0], words[-1]


def check_signs(style: str, look: str | None, pairs: Pairs) -> None:
    """Raises ValueError where names say no colour that signs are to show."""
    with_colors = ", ".join(name for name, entry in STYLES.items() if entry.color_names)
    if look is not None and look not in STYLES:
        raise ValueError(f"look={look!r} is the look of no style of city; choose one of {', '.join(STYLES)}")
    if look and STYLES[look].look.boards.emblems and not STYLES[style].color_names:
        rule = f"look={look!r} shows emblems in the colours that names say, and those of style={style!r} say none"
        raise ValueError(f"{rule}; choose a style of {with_colors}, or another look")
    if pairs != "all" and not STYLES[style].color_names:
        rule = f"pairs={pairs!r} are of emblems and colours, of which the signs of style={style!r} have none"
        raise ValueError(f"{rule}; choose a style of {with_colors}, or pairs='all'")


def _is_unseen(first: str, kind: str) -> bool:
    return (_COLORS.index(first) + _KINDS.index(kind)) % UNSEEN_EVERY == 0
