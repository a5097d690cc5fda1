"""Reads what an observation claims of a place: an intersection or none, which landmarks.

    read_sighting("no landmark nearby; this is not an intersection", landmark=None, others=())
        →  Sighting(intersection=False, landmark_fits=True)

Text is compared word by word, without case, punctuation or apostrophes. What stands between two marks of
punctuation, or on one side of an "and" or a "but", is a clause; a claim counts unless its clause denies it
beforehand. Only the first `MAX_CHARACTERS` of a text are read.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHARACTERS = 2048
"""Far more than any true observation; Unicode's normal form costs the square of a heap of accents."""

_APOSTROPHES = re.compile(r"['‘’`´]")
_CLAUSE_ENDS = re.compile(r"[;.,:!?()\n|]|\b(?:and|but|while|though|however)\b")
_NOT_WORDS = re.compile(r"[^\w|]+|_")
_INTERSECTION = re.compile(r"\b(?:intersections?|crossroads?|junctions?)\b")
_BESIDE_YOU = re.compile(r"\b(?:on|to|at) your (?:left|right|front|back)\b|\b(?:behind|in front of|ahead of) you\b")
# What stands for a landmark; no word looks like it.
_MARK = re.compile(r"<(\d+)>")
_DENIAL = re.compile(r"\b(?:no|not|nothing|none|never|without|neither|nor|isnt|arent|dont|doesnt|cannot|cant)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one observation claims.

    Example: for a place with the Blue Cafe, "Blue Cafe is on your left; you are at an intersection" is
    `Sighting(intersection=True, landmark_fits=True)`.
    """

    intersection: bool
    """Whether it claims an intersection."""
    landmark_fits: bool
    """Whether it names the landmark that is there and no other; on which side is not judged."""


def read_sighting(text: str, landmark: str | None, others: Sequence[str]) -> Sighting:
    """What the text claims, at a place with this landmark (or none) and on a route with these others."""
    present = _plain(landmark or "")
    # The longest first, so that "Blue Cafe Annex" is not taken for the "Blue Cafe".
    names = sorted({present, *map(_plain, others)} - {""}, key=lambda name: (-len(name), name))
    words = _words(text)
    for index, name in enumerate(names):
        anywhere = r"(?<=\s)" + r" (?:\| )*".join(name.split()) + r"(?=\s)"
        words = re.sub(anywhere, f"<{index}>", words)
    claimed = "|".join(_DENIAL.split(clause, maxsplit=1)[0] for clause in words.split("|"))
    named = {names[int(index)] for index in _MARK.findall(claimed)}
    invented = landmark is None and _BESIDE_YOU.search(claimed) is not None
    return Sighting(
        intersection=_INTERSECTION.search(claimed) is not None,
        landmark_fits=named == {present} - {""} and not invented,
    )


def holds_sentence(text: str, sentence: str) -> bool:
    """Whether the text holds the sentence, whatever the case and punctuation."""
    return f" {_plain(sentence)} " in f" {_plain(text)} "


def _words(text: str) -> str:
    """Lower-case words, a space on each side, and a bar between clauses."""
    folded = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold())
    return f" {' '.join(_NOT_WORDS.sub(' ', _CLAUSE_ENDS.sub(' | ', folded)).split())} "


def _plain(text: str) -> str:
    return " ".join(_words(text).replace("|", " ").split())
