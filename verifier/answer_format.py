"""Reads named fields out of whatever a model wrote.

    read_fields('So: {"cards": ["A", "3"], "formula": "1+3"}', ("cards", "formula"))
        →  {"cards": Field(text='"A", "3"', …), "formula": Field(text="1+3", …)}
    read_items('"A", "3"')  →  ("A", "3")

One forward scan finds keys, quoted strings and braces; a value is read where its key stands. It takes JSON, JSON in
a fence or amid prose, Python's quotes, trailing commas, bare values, lists in any spelling, and answers cut short.

Which object wins, where there are several: the one that holds most of the wanted fields complete; among equals a
closed object before one that was cut off, that before loose `key: value` lines, and then the last. A key written
twice in one object counts as last written. The fields of nested objects count for the outer one too, where that does
not write them itself.

Only the last `WINDOW` characters are read, so that hostile text costs no more than a long answer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from verifier.protocol import Span, SpanLabel

WINDOW = 32_768
"""A thought of some 8,000 tokens before the answer, and some 35 ms of hostile braces on a slow core."""

MAX_DEPTH = 32
"""Objects nested more deeply than this are read as part of the one at this depth."""

_NAME = r"[A-Za-z][\w ]{0,24}"
# Looking ahead for the colon first spares prose, which has few, the ways to end a name before it.
_KEY = rf"""(?P<empty>\{{\}}) | (?P<open>\{{) | (?P<close>\}})
    | ["'“‘](?P<quoted>{_NAME})["'”’]\s{{0,16}}[:：]
    | (?<!\w)(?=[A-Za-z][\w\s*`]{{0,43}}+[:：])(?P<bare>{_NAME})[*_`]{{0,3}}\s{{0,16}}[:：]
    """
# Quotation marks in prose need not be paired; inside an object they hide what they enclose.
_TOKEN_IN_PROSE = re.compile(_KEY, re.VERBOSE)
_TOKEN_IN_OBJECT = re.compile(rf"""{_KEY} | (?P<string>"(?:[^"\\]|\\.)*")""", re.VERBOSE | re.DOTALL)
_KEY_AHEAD = rf"""\s{{0,8}}["'“‘]?{_NAME}["'”’]?\s{{0,8}}[:：]"""
# The length of a string is bounded by the window, and each alternative starts with another character: linear.
_VALUE = re.compile(
    rf"""[\s*_`]{{0,64}}(?:
      "(?P<double>(?:[^"\\]|\\.)*)(?P<double_end>"?)
    | '(?P<single>(?:[^'\\]|\\.|(?<=\w)'(?=\w))*)(?P<single_end>'?)
    | “(?P<curly>[^”]*)(?P<curly_end>”?)
    | \[(?P<list>(?:[^\[\]{{}}"']|"[^"\n]{{0,200}}"|'[^'\n]{{0,200}}'|\[[^\[\]{{}}]{{0,80}}\])*)(?P<list_end>\])
    | \[(?P<cut>[^\[\]{{}}\n]*)
    | \((?P<tuple>[^\[\](){{}}\n]*)(?P<tuple_end>\))(?=\s{{0,8}}(?:[,}}\n]|$))
    | (?P<bare>(?:[^\n{{}},]|,(?!{_KEY_AHEAD}))+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ITEM = re.compile(r"""[^\s,;|\[\](){}"'“”‘’`]+""")
_ESCAPE = re.compile(r"(?P<units>(?:\\u[0-9a-fA-F]{4})+)|\\(?P<one>.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Field(NamedTuple):
    """The value of one field.

    In `{"formula": "1\\u00d73"}` the field `formula` has the text `1×3` and stands at characters 13 to 21.
    """

    text: str
    """The value without its quotes or brackets, escapes resolved."""
    start: int
    """The first character of the value in the answer, quotes and brackets excluded."""
    end: int
    """The character after the value."""
    closed: bool
    """False where the answer ended inside the value."""


@dataclass(slots=True)
class _Object:
    """The fields met so far between two braces (or, at the bottom, outside all braces)."""

    own: dict[str, Field] = field(default_factory=dict)
    nested: dict[str, Field] = field(default_factory=dict)
    closed: bool = False
    position: int = 0

    def fields(self) -> dict[str, Field]:
        return {**self.nested, **self.own}


def read_fields(answer: str, names: Sequence[str]) -> dict[str, Field]:
    """The wanted fields of the answer that counts; a field that is not there is absent."""
    answer = answer.rstrip()
    start = max(0, len(answer) - WINDOW)
    names = tuple(names)
    loose = _Object()
    stack = [loose]
    finished: list[_Object] = []
    position = start
    while token := (_TOKEN_IN_OBJECT if len(stack) > 1 else _TOKEN_IN_PROSE).search(answer, position):
        position = token.end()
        kind = token.lastgroup
        if kind == "open":
            if len(stack) < MAX_DEPTH:
                stack.append(_Object())
        elif kind == "close":
            if len(stack) > 1:
                _finish(stack, finished, closed=True)
        elif kind in ("quoted", "bare"):
            name = _wanted_name(token["quoted"] or token["bare"], names)
            value = _VALUE.match(answer, token.end()) if name or kind == "quoted" else None
            if value and (name or not value["bare"]):
                position = value.end()
            if value and name:
                stack[-1].own[name] = _field(value)
    while len(stack) > 1:
        _finish(stack, finished, closed=False)
    candidates = [loose, *finished] if loose.own else finished
    if len(candidates) < 2:
        return candidates[0].fields() if candidates else {}
    return max(candidates, key=lambda one: (_num_complete(one), one is not loose, one.closed, one.position)).fields()


def read_items(text: str) -> tuple[str, ...]:
    """The elements of a list, however it is quoted, bracketed and separated."""
    return tuple(_ITEM.findall(text))


def read_integers(text: str) -> tuple[int, ...] | None:
    """The elements of a list of whole numbers, in any script's digits; None where one is something else."""
    items = read_items(text)
    if not all(item.isdecimal() and len(item) <= 9 for item in items):
        return None
    return tuple(map(int, items))


def spans_of(fields: Mapping[str, Field], labels: Mapping[str, SpanLabel]) -> tuple[Span, ...]:
    """The spans of the fields that have a label, in the order in which they stand in the answer."""
    found = [Span(labels[name], one.start, one.end) for name, one in fields.items() if name in labels]
    return tuple(sorted(found, key=_start))


_start = attrgetter("start")


def _num_complete(candidate: _Object) -> int:
    return sum(value.closed for value in candidate.fields().values())


def _finish(stack: list[_Object], finished: list[_Object], *, closed: bool) -> None:
    done = stack.pop()
    done.closed = closed
    if done.own or done.nested:
        fields = done.fields()
        done.position = len(finished)
        finished.append(done)
        if len(stack) > 1:
            stack[-1].nested.update(fields)


def _field(value: re.Match[str]) -> Field:
    """The field that the match is; a bare or cut value ends before its trailing space and its comma."""
    last = value.lastgroup or ""
    kind = last.removesuffix("_end")
    text = value[kind]
    closed = kind == "bare" or (kind != "cut" and value[last] != "")
    if not closed:
        text = text.split("\n", 1)[0]
    if kind == "bare":
        text = text.rstrip(" \t\r,;*_`\"'")
    start = value.start(kind)
    end = start + len(text)
    if "\\" in text:
        text = _ESCAPE.sub(_unescape, text)
    return Field(text=text, start=start, end=end, closed=closed)


def _unescape(escape: re.Match[str]) -> str:
    if escape["one"]:
        return _ESCAPED.get(escape["one"], escape["one"])
    # Characters beyond the basic plane come as two units; a half of one alone is no character.
    units = bytes.fromhex(escape["units"].replace("\\u", ""))
    return units.decode("utf-16-be", errors="replace")


@lru_cache(maxsize=4096)
def _wanted_name(written: str, names: tuple[str, ...]) -> str | None:
    """The name that the written key stands for: `Current_Observation`, and in prose `so my formula`."""
    words = _words(written)
    for name in names:
        wanted = _words(name)
        if words[-len(wanted) :] == wanted:
            return name
    return None


def _words(name: str) -> list[str]:
    return name.replace("_", " ").lower().split()
