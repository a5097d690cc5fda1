"""The positions of one play of a route: where the traveller is asked, what is there, and what is right.

    start     turn ─▶ forward ─▶ forward ─▶ turn ─▶ forward ─▶ stop    destination
    sentence  1       2          2          3       4          4

A traveller moves along this rail only: a wrong action is never carried out. Of the places on the way of a
segment each play keeps some, so that the same route is not the same list of actions twice.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal

from envs._routes.compass import COMPASS_WORDS, TURN_WORDS, turn_word
from envs._routes.dataset import Route
from envs._routes.milestones import Landmark
from envs._routes.panorama_index import Stop

Vocabulary = Literal["absolute", "relative"]

FORWARD = "forward()"
STOP = "stop()"
DIRECTIONS: dict[Vocabulary, tuple[str, ...]] = {"absolute": COMPASS_WORDS, "relative": TURN_WORDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class RailPosition:
    """One place at which the traveller is asked.

    At the corner of the second sentence's cafe, before the turn of the third:
    `RailPosition(stop=Stop(…), heading=270.0, actions={"absolute": "turn_direction(north)", "relative":
    "turn_direction(right)"}, landmark=Landmark(name="Blue Heron Cafe", …), intersection=True, sentence=2)`
    """

    stop: Stop
    """The place."""
    heading: float
    """Which way the traveller faces: along the way that led here."""
    actions: dict[Vocabulary, str]
    """The right action in each vocabulary."""
    landmark: Landmark | None
    """What stands here."""
    intersection: bool
    """Whether it is a turn point; the start and the destination are none."""
    sentence: int
    """Which sentence of the instructions is to be carried out, from 0: two for each segment, to turn and to go on."""


def turn_to(direction: str) -> str:
    """The action that turns."""
    return f"turn_direction({direction})"


def turn_words(route: Route, initial_heading: float, *, wrap: bool) -> tuple[str, ...]:
    """For each segment, the word for the turn into it."""
    headings = [initial_heading, *(segment.heading for segment in route.segments)]
    return tuple(turn_word(before, after, wrap=wrap) for before, after in pairwise(headings))


def lay_rail(
    route: Route,
    initial_heading: float,
    turns: tuple[str, ...],
    *,
    drop_probability: float,
    generator: Random,
) -> tuple[RailPosition, ...]:
    """The positions of one play; each place on the way is left out with `drop_probability`."""
    positions: list[RailPosition] = []
    here, heading, landmark = route.start, initial_heading, None
    for number, (segment, turn) in enumerate(zip(route.segments, turns, strict=True)):
        positions.append(
            RailPosition(
                stop=here,
                heading=heading,
                actions={"absolute": turn_to(segment.compass), "relative": turn_to(turn)},
                landmark=landmark,
                intersection=number > 0,
                sentence=2 * number,
            )
        )
        here, heading, landmark = segment.end, segment.heading, segment.landmark
        positions += [
            _straight_on(FORWARD, place, heading, None, number)
            for place in segment.between
            if generator.random() >= drop_probability
        ]
    positions.append(_straight_on(STOP, here, heading, landmark, len(route.segments) - 1))
    return tuple(positions)


def _straight_on(action: str, stop: Stop, heading: float, landmark: Landmark | None, segment: int) -> RailPosition:
    return RailPosition(
        stop=stop,
        heading=heading,
        actions={"absolute": action, "relative": action},
        landmark=landmark,
        intersection=False,
        sentence=2 * segment + 1,
    )
