"""Lessons over route navigation: one place of a route each, with the record of how one came there."""

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

from pydantic import Field

from envs._city.styles import FIRST_WORDS, KINDS, SECOND_WORDS
from envs._routes.compass import COMPASS_WORDS, SIDE_WORDS, TURN_WORDS
from envs._routes.rail import FORWARD, STOP, turn_to
from envs.lessons.dialogue import DialogueTeacher, LessonOptions
from envs.protocol import Env, OpenEpisode, Question


class Lessons(LessonOptions):
    """What lessons over routes are made of."""

    last_place_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of lessons about the destination, which is one place of many, and holds the longest record."""
    turn_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the other lessons about a place at which to turn."""


class Teacher(DialogueTeacher):
    """Draws places of routes."""

    UNSAID: ClassVar[Sequence[str]] = ("city", "dataset", "image_size", "drop_probability", "straight_line_length")
    options: Lessons

    def words(self) -> tuple[str, ...]:
        """Names of places, directions and actions. The first two words of a name have the space behind."""
        names = (*(f"{word} " for word in (*FIRST_WORDS, *SECOND_WORDS)), *KINDS)
        return (*names, *COMPASS_WORDS, *TURN_WORDS, *SIDE_WORDS, FORWARD, STOP, turn_to("\n").partition("\n")[0])

    def open(self, environment: Env, generator: Random) -> tuple[OpenEpisode, Question]:
        """A route of the training split, and a place on it."""
        walk: Any = environment.open(generator.getrandbits(48), "train")
        place = walk.num_places - 1
        if generator.random() >= self.options.last_place_fraction:
            turns = walk.turning_places if generator.random() < self.options.turn_fraction else ()
            place = generator.choice(turns or range(walk.num_places))
        return walk, walk.question_at(place)
