"""What the original's solver lists for a hand, and what Python's arithmetic makes of a formula.

    solution_strings((3, 3, 8, 8), 24)  →  ("8/(3-8/3)",)
    floating_point_value("8/(3-8/3)")   →  23.99999999999999

Nothing is evaluated by Python: values are computed over the syntax tree.
"""

import ast
import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import permutations, product
from math import isclose

from verifier.arithmetic import IllegalFormula, parse_equation

# Bracket placements for four operands: none, each single pair around two or three, and the one double pair.
_TEMPLATES = (
    "{}{}{}{}{}{}{}",
    "({}{}{}){}{}{}{}",
    "{}{}({}{}{}){}{}",
    "{}{}{}{}({}{}{})",
    "({}{}{}{}{}){}{}",
    "{}{}({}{}{}{}{})",
    "({}{}{}){}({}{}{})",
)
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def some_begin(strings: Sequence[str], text: str) -> bool:
    """Whether one of the sorted strings begins with the text: it would stand where the text belongs."""
    place = bisect_left(strings, text)
    return place < len(strings) and strings[place].startswith(text)


def floating_point_value(formula: str) -> float | None:
    """What Python's own arithmetic makes of it; None where that would raise, as for brackets nested too deeply."""
    try:
        return _compiled(ast.parse(formula, mode="eval").body)({})
    except (SyntaxError, ArithmeticError, MemoryError, RecursionError):
        return None


def _compiled(node: ast.expr) -> Callable[[Mapping[str, int]], float]:
    """The syntax tree as a function of what its names stand for."""
    if isinstance(node, ast.Constant) and isinstance(number := node.value, int):
        return lambda _: number
    if isinstance(node, ast.Name):
        return operator.itemgetter(node.id)
    if isinstance(node, ast.BinOp):
        apply, left, right = _OPERATIONS[type(node.op)], _compiled(node.left), _compiled(node.right)
        return lambda names: apply(left(names), right(names))
    raise SyntaxError("not arithmetic")


@lru_cache(maxsize=1)
def _shapes() -> tuple[tuple[str, Callable[[Mapping[str, int]], float]], ...]:
    """Every choice of signs and brackets for four numbers, as a text to fill in and as a function."""
    texts = [
        template.format("{a}", p, "{b}", q, "{c}", r, "{d}")
        for p, q, r in product("+-*/", repeat=3)
        for template in _TEMPLATES
    ]
    return tuple((text, _compiled(ast.parse(re.sub("[{}]", "", text), mode="eval").body)) for text in texts)


@lru_cache(maxsize=4096)
def solution_strings(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    """Every string that the original's solver lists for a four-card hand, sorted; none for other hands."""
    if len(numbers) != 4:
        return ()
    hands = [dict(zip("abcd", order, strict=True)) for order in set(permutations(numbers))]
    likely = {text.format(**hand) for text, compute in _shapes() for hand in hands if _may_make(compute, hand, target)}
    return tuple(sorted(string for string in likely if _makes(string, target)))


def _may_make(compute: Callable[[Mapping[str, int]], float], hand: Mapping[str, int], target: int) -> bool:
    """In floating point, which is quick."""
    try:
        return isclose(compute(hand), target, abs_tol=1e-6)
    except ZeroDivisionError:
        return False


def _makes(formula: str, target: int) -> bool:
    try:
        return parse_equation(formula).value == target
    except IllegalFormula:
        return False
