"""Reads a pickle of {(latitude, longitude): name} without loading it.

    read_mapping(data)      →  {(40.7412, -73.9896): "xK3f…", …}, or Refused

A pickle is a program that may run anything when it is loaded. Here it never runs: the reader knows the few
instructions that such a dictionary is made of, in any protocol, as a dict or an OrderedDict, with numbers of
Python or of numpy. Names of modules are compared and never imported. It refuses the file at the first other
instruction, and at the first sign that its size lies: what it may build is bounded by the points it has read.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Coordinates = tuple[float, float]

MAX_PENDING: Final = 10_000
"""Values that wait to be put into the dictionary; Python writes a thousand items at a time."""
MAX_INSTRUCTIONS_BEFORE_POINTS: Final = 64_000
MAX_INSTRUCTIONS_PER_POINT: Final = 64
"""A point of two numpy numbers takes 38 in the wordiest protocol."""
MAX_EQUAL_HASHES: Final = 16
"""So many points never have one hash by chance; a file made so would make every look-up take as long as a search."""

_CALLABLES: Final = {
    "collections OrderedDict": "dictionary",
    "numpy dtype": "format",
    "numpy.core.multiarray scalar": "number",
    "numpy._core.multiarray scalar": "number",
    "_codecs encode": "bytes",
}
_NUMPY_FORMATS: Final = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}


class Refused(Exception):
    """The file holds something that a dictionary of points and names does not need."""


@dataclass(frozen=True, slots=True)
class _Callable:
    """A function that the pickle names; `makes` is what a call of it stands for."""

    makes: str


@dataclass(slots=True)
class _NumberFormat:
    """How numpy wrote a number; its byte order follows in an instruction of its own."""

    letter: str
    order: str = "<"


def read_mapping(data: bytes) -> dict[Coordinates, str]:
    """The dictionary; a panorama without a name has the name "". Raises Refused."""
    items = _Reader().read(data)
    hashes = sorted(hash(point) for point, _ in items)
    if any(hashes[i] == hashes[i + MAX_EQUAL_HASHES] for i in range(len(hashes) - MAX_EQUAL_HASHES)):
        raise Refused("its points are chosen so that a search among them would take forever")
    return dict(items)


class _Dictionary:
    """Stands on the stack for the one dictionary; the reader keeps its items."""


class _Reader:
    """Carries out the instructions on a stack of numbers, texts, points and one dictionary."""

    _PLAIN = "FLOAT BINFLOAT INT BININT BININT1 BININT2 LONG LONG1 UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES"
    _PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
    _GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._points: dict[bytes, tuple[Coordinates, str]] = {}
        """By their bytes, whose hash nobody can foresee: no file can make many of them fall together."""
        self._dictionary: _Dictionary | None = None
        push = self._stack.append
        self._actions: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys((*self._PLAIN.split(), "SHORT_BINBYTES"), push),
            **dict.fromkeys(self._GETS, lambda number: push(self._memo[number])),
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "NONE": lambda _: push(None),
            "NEWTRUE": lambda _: push(True),
            "NEWFALSE": lambda _: push(False),
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "EMPTY_DICT": lambda _: self._push_dictionary([]),
            "DICT": lambda _: self._push_dictionary(self._since_mark()),
            "SETITEM": lambda _: self._set(self._last(2)),
            "SETITEMS": lambda _: self._set(self._since_mark()),
            "TUPLE": lambda _: self._push_tuple(self._since_mark()),
            "EMPTY_TUPLE": lambda _: self._push_tuple([]),
            "TUPLE1": lambda _: self._push_tuple(self._last(1)),
            "TUPLE2": lambda _: self._push_tuple(self._last(2)),
            "TUPLE3": lambda _: self._push_tuple(self._last(3)),
            "GLOBAL": self._push_callable,
            "STACK_GLOBAL": lambda _: self._push_callable(" ".join(map(str, self._last(2)))),
            "REDUCE": lambda _: self._call(*self._last(2)),
            "BUILD": lambda _: self._set_byte_order(self._stack.pop()),
        }

    def read(self, data: bytes) -> list[tuple[Coordinates, str]]:
        """The items of the dictionary that the instructions leave behind."""
        may_put = False
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            name = opcode.name
            if name in self._PUTS:
                # Every value is remembered once, when it is made; more would only fill the memory.
                if not may_put:
                    raise Refused("it remembers a value twice")
                self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
                may_put = False
            elif name in self._actions:
                self._actions[name](argument)
                may_put = name not in self._GETS
            elif name == "STOP":
                break
            else:
                raise Refused(f"it holds the instruction {name}")
            if number > MAX_INSTRUCTIONS_BEFORE_POINTS + MAX_INSTRUCTIONS_PER_POINT * len(self._points):
                raise Refused(f"it holds {number} instructions for {len(self._points)} points")
            if len(self._stack) + len(self._marks) > MAX_PENDING:
                raise Refused(f"more than {MAX_PENDING} values wait to be put into the dictionary")
        if self._stack != [self._dictionary] or self._dictionary is None:
            raise Refused("it does not hold one dictionary")
        return list(self._points.values())

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise Refused("it takes a value where there is none")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _push_tuple(self, values: list[Any]) -> None:
        # No tuples within tuples: such could be made to take forever to hash. Numpy's longest has eight parts.
        if len(values) > 8 or any(isinstance(value, tuple) or value is self._dictionary for value in values if value):
            raise Refused("a tuple is neither two numbers nor part of one")
        self._stack.append(tuple(values))

    def _push_dictionary(self, values: list[Any]) -> None:
        if self._dictionary is not None:
            raise Refused("it holds more than one dictionary")
        self._dictionary = _Dictionary()
        self._stack.append(self._dictionary)
        self._set(values)

    def _push_callable(self, name: str) -> None:
        if name not in _CALLABLES:
            raise Refused(f"it names {name!r:.60}")
        self._stack.append(_Callable(_CALLABLES[name]))

    def _call(self, function: Any, arguments: Any) -> None:
        match function, arguments:
            case _Callable("dictionary"), ():
                self._push_dictionary([])
            case _Callable("format"), (str(kind), bool(), bool()) if kind in _NUMPY_FORMATS:
                self._stack.append(_NumberFormat(_NUMPY_FORMATS[kind]))
            case _Callable("number"), (_NumberFormat(letter, order), bytes(content)):
                if len(content) != struct.calcsize(order + letter):
                    raise Refused("a number of numpy has too many or too few bytes")
                self._stack.append(struct.unpack(order + letter, content)[0])
            case _Callable("bytes"), (str(text), "latin1"):
                self._stack.append(text.encode("latin1"))
            case _:
                raise Refused(f"it calls something with {arguments!r:.60}")

    def _set_byte_order(self, state: Any) -> None:
        match self._stack[-1], state:
            case _NumberFormat() as number_format, (3 | 4, "<" | ">" as order, None, None, None, -1, -1, int()):
                number_format.order = order
            case _:
                raise Refused(f"it changes something to {state!r:.60}")

    def _set(self, values: list[Any]) -> None:
        if self._dictionary is None or not self._stack or self._stack[-1] is not self._dictionary:
            raise Refused("it puts items into something that is no dictionary")
        for key, name in zip(values[::2], values[1::2], strict=True):
            if type(key) is not tuple or len(key) != 2 or any(type(part) not in (int, float) for part in key):
                raise Refused(f"a key is {key!r:.60} and not (latitude, longitude)")
            if not (-90 <= key[0] <= 90 and -180 <= key[1] <= 180):
                raise Refused(f"the key {key!r:.60} is not (latitude, longitude) in degrees")
            if name is not None and type(name) is not str:
                raise Refused(f"the value of {key!r:.60} is {name!r:.60} and not a name")
            point = (float(key[0]), float(key[1]))
            packed = struct.pack("<dd", point[0] + 0.0, point[1] + 0.0)  # -0.0 becomes 0.0
            if packed in self._points:
                raise Refused(f"the key {point} stands there twice")
            self._points[packed] = (point, name or "")
