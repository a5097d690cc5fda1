"""The original's scoring, step by step as it is documented, slow and on its own: it uses nothing of the verifiers.

    equation_score('{"formula": "(7-5)*10+4"}', ["7", "5", "K", "4"], [7, 5, 10, 4], 24, pictures=False)
        →  Score(reward=5.0, solved=True, begins="")

Where the original crashed, these functions raise what it raised. `tests/data/original` holds what the original
itself said; the reference is held against that, and the verifiers are held against both.
"""

import contextlib
import json
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from itertools import permutations, product
from typing import Any, NamedTuple

SOLVED, BEGUN, WRONG_VALUE, WRONG_CARDS, WRONG_NUMBERS, ILLEGAL = 5.0, 1.0, -1.0, -1.5, -2.0, -3.0


class Score(NamedTuple):
    """What the original said of an answer: `Score(reward=-1.0, solved=False, begins="(7-")`."""

    reward: float
    solved: bool
    begins: str | None
    """The beginning of a solution that it names as a hint; empty where none fits, None where it gives no hint."""


def equation_score(answer: str, labels: list[str], numbers: list[int], target: int, *, pictures: bool) -> Score:
    """What one attempt at a hand of cards earned; raises TypeError or ValueError where the original crashed."""
    formula = _formula(answer)
    if pictures and sorted(_cards(answer)) != sorted(labels):
        return Score(WRONG_CARDS, False, None)
    tokens = re.findall(r"\d+|\D", formula)  # raises TypeError where the formula is no text
    if not re.fullmatch(r"[\d+*/()-]*", formula):
        return Score(ILLEGAL, False, None)
    reward = ILLEGAL * _order_faults(tokens) + WRONG_NUMBERS * _number_faults(tokens, numbers)
    if reward < 0:
        return Score(reward, False, None)
    return _legal_score(formula, tokens, numbers, target)


def navigation_score(answer: str, action: str, landmark_text: str) -> tuple[float, bool]:
    """What one action earned; raises TypeError where the original crashed."""
    if _read(answer, "action", r'"action": "(.*?)"') == action:
        return 1.0, True
    claims = "intersection" in _read(answer, "current observation", r'"current observation": "(.*?)"')
    return (-1.5 if claims != ("intersection" in landmark_text) else -1.0), False


def _read(answer: str, key: str, pattern: str) -> Any:
    try:
        return json.loads(answer)[key]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        found = re.search(pattern, answer)
        return found.group(1) if found else "None"


def _formula(answer: str) -> Any:
    written = _read(answer, "formula", r'"formula": "(.*?)"')
    return written.split("=")[0] if isinstance(written, str) else written


def _cards(answer: str) -> list[str]:
    try:
        written = json.loads(answer)["cards"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        found = re.search(r'"cards": \[([^\]]+)\]', answer)
        written = found.group(1) if found else "None"
        with contextlib.suppress(ValueError):
            written = [int(part) for part in written.split(", ")]
    if not isinstance(written, str):
        return []
    for dropped in "[]' ":
        written = written.replace(dropped, "")
    parts = written.split(",")
    return parts if len(parts) == 4 else []


def _order_faults(tokens: list[str]) -> int:
    faults, open_brackets, before = 0, 0, "start"
    for token in tokens:
        if token == "(":
            if before in ("start", "operator", "("):
                open_brackets += 1
            else:
                faults += 1
            before = "("
        elif token == ")":
            if before not in ("number", ")") or open_brackets == 0:
                faults += 1
            else:
                open_brackets -= 1
            before = ")"
        elif token in ("+", "-", "*", "/"):
            faults += before not in ("number", ")")
            before = "operator"
        else:
            faults += before not in ("start", "operator", "(")
            before = "number"
    return faults


def _number_faults(tokens: list[str], numbers: list[int]) -> int:
    used = [int(token) for token in tokens if token.isdigit()]
    foreign = any(number not in numbers for number in used)
    too_often = any(used.count(number) > numbers.count(number) for number in used)
    unused = any(used.count(number) < numbers.count(number) for number in numbers)
    return (1 if foreign or too_often else 0) + (1 if unused else 0)


def _legal_score(formula: str, tokens: list[str], numbers: list[int], target: int) -> Score:
    strings = solver_strings(tuple(sorted(numbers)), target)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = eval(formula, {"__builtins__": {}})
    except (SyntaxError, ArithmeticError, MemoryError, RecursionError):
        if any(string.startswith(formula) for string in strings):
            return Score(BEGUN, False, None)
    else:
        if value == target:
            return Score(SOLVED, True, None)
    begins = ""
    for token in tokens:
        if not any(string.startswith(begins + token) for string in strings):
            return Score(WRONG_VALUE, False, begins)
        begins += token
    return Score(0.0, False, None)


@cache
def solver_strings(numbers: tuple[int, ...], target: int) -> frozenset[str]:
    """Every formula that the original's solver lists for four numbers."""
    found = set()
    for shape, compute in _shapes():
        for order in set(permutations(numbers)):
            try:
                # Floating point finds what may do, fractions decide.
                if abs(compute(*order) - target) < 1e-6 and compute(*map(Fraction, order)) == target:
                    found.add(shape.format(*order))
            except ZeroDivisionError:
                continue
    return frozenset(found)


@lru_cache(maxsize=1)
def _shapes() -> list[tuple[str, Callable[..., Any]]]:
    """Three signs and every placement of brackets: around nothing, two numbers, three numbers, twice two."""
    shapes = []
    for signs in product("+-*/", repeat=3):
        for pairs in [(), ((0, 1),), ((1, 2),), ((2, 3),), ((0, 2),), ((1, 3),), ((0, 1), (2, 3))]:
            operands = ["{}", "{}", "{}", "{}"]
            for first, last in pairs:
                operands[first], operands[last] = f"({operands[first]}", f"{operands[last]})"
            shape = "".join(map("".join, zip(operands, (*signs, ""), strict=True)))
            shapes.append((shape, eval(f"lambda a, b, c, d: {shape.format(*'abcd')}")))
    return shapes
