"""Reads `milestone_info`, the text in which a route tells of each of its turn points.

    {                                                      Milestone(
    "intersection_idx": "1",
    "landmarks": "Joe's Pizza is on your left behind",         landmark=Landmark(name="Joe's Pizza", …),
    "to_next_intersection_heading": "259 (west)",              heading=259.0, compass="west")
    }

It looks like JSON and is not: commas trail, and names may hold quotes and braces. So it is read line by line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from envs._routes.compass import COMPASS_WORDS, SIDE_WORDS, compass_word

_LINE = re.compile(r'"(\w+)"\s*:\s*"(.*)"\s?,?')
_LANDMARK = re.compile(rf"(.+) is on your (?:{'|'.join(SIDE_WORDS)})")
_NO_LANDMARK = re.compile(r"no landmarks? nearby\.?", re.IGNORECASE)
_DESTINATION = "The destination "
_HEADING = re.compile(r"(-?\d{1,4}(?:\.\d{1,12})?) ?\((\w+)\)")

TRUNCATION_DEGREES: Final = 1.0
"""Headings are cut to whole degrees after the word for them is chosen, so close to a boundary it may be the other."""

Fault = Callable[..., ValueError]
"""Makes the error for a rule and a fix, and for a `field` and its `value`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmark:
    """Something with a name beside the route.

    `Landmark(name="Joe's Pizza", text="Joe's Pizza is on your left behind")`
    """

    name: str
    """What it is called."""
    text: str
    """Where it is seen on arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """One turn point, or the destination, and the way there.

    `Milestone(heading=259.0, compass="west", landmark=Landmark(name="Joe's Pizza", …))`
    """

    heading: float
    """Which way leads to it, in [0, 360)."""
    compass: str
    """The same in a word."""
    landmark: Landmark | None
    """What stands there."""


def read_milestones(text: str, num_expected: int, fault: Fault) -> tuple[Milestone, ...]:
    """One milestone for each turn point; the last is the destination."""
    blocks: list[dict[str, str]] = []
    for line in text.split("\n"):
        entry = _LINE.fullmatch(line.strip())
        if entry and entry[1] == "intersection_idx":
            blocks.append({})
        if entry and blocks:
            blocks[-1][entry[1]] = entry[2]
    if len(blocks) != num_expected:
        raise fault(
            f"must have one block for each of the {num_expected} points in route_results.geocode_list",
            "write the missing ones or remove what is too much",
            field="milestone_info",
            value=f"{len(blocks)} blocks",
        )
    return tuple(
        _milestone(block, number, number == num_expected, fault) for number, block in enumerate(blocks, start=1)
    )


def _milestone(block: dict[str, str], number: int, is_last: bool, fault: Fault) -> Milestone:
    def wrong(field: str, rule: str, fix: str) -> ValueError:
        value: Any = block.get(field, "absent")
        return fault(rule, fix, field=f"milestone_info block {number}, {field}", value=value)

    if block["intersection_idx"] != str(number):
        raise wrong("intersection_idx", f"must be {number}", "number the blocks in order, from 1")
    heading = _HEADING.fullmatch(block.get("to_next_intersection_heading", "").strip())
    if not heading or heading[2] not in COMPASS_WORDS:
        rule = "must be degrees and a compass word, like 259 (west)"
        raise wrong("to_next_intersection_heading", rule, "write the bearing of the way to this point")
    degrees = float(heading[1]) % 360.0
    if heading[2] not in {compass_word(degrees + slack) for slack in (-TRUNCATION_DEGREES, 0, TRUNCATION_DEGREES)}:
        rule = f"the word for {degrees:g} degrees is {compass_word(degrees)}"
        raise wrong("to_next_intersection_heading", rule, "correct the degrees or the word")
    return Milestone(heading=degrees, compass=heading[2], landmark=_landmark(block, is_last, wrong))


def _landmark(block: dict[str, str], is_last: bool, wrong: Callable[[str, str, str], ValueError]) -> Landmark | None:
    text = block.get("landmarks", "").strip()
    if _NO_LANDMARK.fullmatch(text) and not is_last:
        return None
    found = _LANDMARK.fullmatch(text)
    if not found or (is_last and not text.startswith(_DESTINATION)):
        rule = f"must be '{_DESTINATION if is_last else ''}<name> is on your <{', '.join(SIDE_WORDS)}>'"
        raise wrong("landmarks", rule + ("" if is_last else " or 'No landmark nearby'"), "write it so")
    return Landmark(name=found[1].removeprefix(_DESTINATION) if is_last else found[1], text=text)
