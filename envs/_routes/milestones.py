"""Reads `milestone_info`, the text in which a route tells of each of its turn points.

    {                                                      Milestone(
    "intersection_idx": "1",
    "landmarks": "Joe's Pizza is on your left behind",         landmark=Landmark(name="Joe's Pizza", …),
    "to_next_intersection_heading": "259 (west)",              heading=259.0, compass="west")
    }

It looks like JSON and is not: commas trail, names may hold quotes and braces, and either kind of quotes may
stand around a value. So it is read line by line. What the original reads without being misled is read likewise;
where two readings are possible, or no one could tell the destination, the route is refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from envs._routes.compass import COMPASS_WORDS, compass_word
from envs._routes.printable import is_printable

_NUMBER, _LANDMARKS, _HEADING = "intersection_idx", "landmarks", "to_next_intersection_heading"

_LINE = re.compile(r"""[{}\s,]*(["']?)(\w+)\1\s*:(.*)""")
_BETWEEN_BLOCKS = re.compile(r"[{}\s,]*")
_QUOTED = re.compile(r"""(["'])(.*)\1([\s,}]*)""")
_LANDMARK = re.compile(r"(.+) is ((?:on|to|in|at|ahead|behind|straight|near|opposite|across)\b.*)")
_NO_LANDMARK = re.compile(r"no landmarks? nearby\.?", re.IGNORECASE)
_DESTINATION = re.compile(r"the destination ", re.IGNORECASE)
_BEARING = re.compile(r"(-?\d{1,9}(?:\.\d{1,12})?)\s*\((\w+)\)")

TRUNCATION_DEGREES: Final = 1.0
"""Headings are cut to whole degrees after the word for them is chosen, so close to a boundary it may be the other."""

Fault = Callable[..., ValueError]
"""Makes the error for a rule and a fix, and for a `field` and its `value`."""
_Wrong = Callable[[str, str, str], ValueError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmark:
    """Something with a name beside the route.

    `Landmark(name="Joe's Pizza", text="Joe's Pizza is on your left behind", side="on your left behind")`
    """

    name: str
    """What it is called."""
    text: str
    """Where it is seen on arrival, in the words of the data."""
    side: str
    """The part of the text that says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """One turn point, or the destination, and the way there.

    `Milestone(heading=259.0, compass="west", landmark=Landmark(name="Joe's Pizza", …))`
    """

    heading: float
    """Which way leads to it, as it is written: usually in [0, 360), and never brought there, since the original's
    words for turns depend on it."""
    compass: str
    """The same in a word."""
    landmark: Landmark | None
    """What stands there."""


def read_milestones(text: str, num_expected: int, fault: Fault) -> tuple[Milestone, ...]:
    """One milestone for each turn point; the last is the destination."""
    blocks = _blocks(text)
    if len(blocks) != num_expected:
        raise fault(
            f"must have one block for each of the {num_expected} points in route_results.geocode_list",
            "write the missing ones or remove what is too much",
            field="milestone_info",
            value=f"{len(blocks)} blocks",
        )
    # The original never reads the numbers: they may start anywhere or be left out, but not tell of another order.
    first = blocks[0].get(_NUMBER, "1")
    start = int(first) if re.fullmatch(r"[0-9]{1,9}", first) else 1
    return tuple(
        _milestone(block, number, start + number - 1, number == num_expected, fault)
        for number, block in enumerate(blocks, start=1)
    )


def _blocks(text: str) -> list[dict[str, str]]:
    """The keys and values between braces, or from one number to the next where there are no braces."""
    blocks: list[dict[str, str]] = [{}]
    for line in text.split("\n"):
        entry = _LINE.fullmatch(line.strip())
        if entry is None:
            if "}" in line and _BETWEEN_BLOCKS.fullmatch(line):
                blocks.append({})
            continue
        if entry[2] == _NUMBER and _NUMBER in blocks[-1]:
            blocks.append({})
        quoted = _QUOTED.fullmatch(entry[3].strip())
        blocks[-1][entry[2]] = quoted[2].strip() if quoted else entry[3].strip(" ,\t\r\"'")
        if quoted and "}" in quoted[3]:
            blocks.append({})
    return [block for block in blocks if block.keys() & {_NUMBER, _LANDMARKS, _HEADING}]


def _milestone(block: dict[str, str], number: int, index: int, is_last: bool, fault: Fault) -> Milestone:
    def wrong(field: str, rule: str, fix: str) -> ValueError:
        value: Any = block.get(field, "absent")
        return fault(rule, fix, field=f"milestone_info block {number}, {field}", value=value)

    if block.get(_NUMBER, str(index)) != str(index):
        raise wrong(_NUMBER, f"must be {index}", "number the blocks in their order")
    heading = _BEARING.match(block.get(_HEADING, ""))
    if not heading or heading[2] not in COMPASS_WORDS:
        rule = "must be degrees and a compass word, like 259 (west)"
        raise wrong(_HEADING, rule, "write the bearing of the way to this point")
    degrees = float(heading[1])
    if heading[2] not in {compass_word(degrees + slack) for slack in (-TRUNCATION_DEGREES, 0, TRUNCATION_DEGREES)}:
        rule = f"the word for {degrees:g} degrees is {compass_word(degrees)}"
        raise wrong(_HEADING, rule, "correct the degrees or the word")
    return Milestone(heading=degrees, compass=heading[2], landmark=_landmark(block, is_last, wrong))


def _landmark(block: dict[str, str], is_last: bool, wrong: _Wrong) -> Landmark | None:
    text = block.get(_LANDMARKS, "")
    if not is_last and (not text or _NO_LANDMARK.fullmatch(text)):
        return None
    if not is_printable(text):
        raise wrong(_LANDMARKS, "holds signs that no terminal can show", "write the name without them")
    found = _LANDMARK.fullmatch(text)
    if not found:
        rule = f"must be '{'The destination ' if is_last else ''}<name> is on your <side>'"
        raise wrong(_LANDMARKS, rule + ("" if is_last else " or 'No landmark nearby'"), "write it so")
    name = _DESTINATION.sub("", found[1], count=1) if is_last and _DESTINATION.match(found[1]) else found[1]
    return Landmark(name=name, text=text, side=found[2])
