"""What the original code said of made-up answers; `tests/data/original/README.md` says what they are."""

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from verifier.hand import Hand
from verifier.navigation import Position

FOLDER = Path(__file__).parents[1] / "data" / "original"

Said = tuple[float | None, bool | None, str | None]
"""Reward, whether solved, and the exception that was raised instead of both."""


class Row(NamedTuple):
    """One answer: `Row(number=7, answer='{"formula": "7+5"}', said=(-2.0, False, None), given={"target": 24, …})`."""

    number: int
    answer: str
    said: Said
    given: dict[str, Any]

    def hand(self) -> Hand:
        """What the answer is held against, in the 24 game."""
        given = self.given
        return Hand(
            labels=tuple(given["labels"]),
            numbers=tuple(given["numbers"]),
            target=given["target"],
            cards_are_shown=given["pictures"],
        )

    def position(self) -> Position:
        """What the answer is held against, on a route; where the place is an intersection is of no account."""
        action, landmark_text = self.given["action"], self.given["landmark_text"]
        return Position(
            action=action, intersection=False, landmark=None, landmark_text=landmark_text, instruction="Go forward."
        )


def rows(name: str) -> list[Row]:
    """All rows of `paper_equation` or `paper_navigation`."""
    with lzma.open(FOLDER / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines]
    return [
        Row(number, row.pop("answer"), (row.pop("reward"), row.pop("solved"), row.pop("raises", None)), row)
        for number, row in enumerate(read)
    ]


def said_by(score: Callable[..., tuple[Any, ...]], answer: str, **given: Any) -> Said:
    """What a score says in the same words, a crash included."""
    try:
        reward, solved = score(answer, **given)[:2]
    except (TypeError, ValueError) as crash:
        return None, None, type(crash).__name__
    return reward, solved, None
