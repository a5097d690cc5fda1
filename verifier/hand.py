"""What a formula is held against: a hand of numbers, and how it was given."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What an answer is held against.

    Seven, five, king, four under the rule that a king counts 10:
    `Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)`
    """

    labels: tuple[str, ...]
    """The cards as they are shown."""
    numbers: tuple[int, ...]
    """What each card counts under the rule in force."""
    target: int
    """The value to make."""
    training_numbers: tuple[int, ...] | None = None
    """What each card counted in training, where the rule in force is another."""
    cards_are_shown: bool = False
    """Whether the hand is a picture, so that reading the cards is part of the answer."""
    asks: Literal["solution", "cards"] = "solution"
    """Whether a formula is asked for, or only what the cards are."""
    scored: bool = True
    """False for the original's last question, whose answer is not read."""
