"""Every solution of a hand: which formulas use each number once and make the target.

    solutions((3, 3, 8, 8), 24)  →  ("8/(3-8/3)",)
    is_solvable((1, 1, 1, 1), 24)  →  False

Two formulas are one solution when they are equal as functions of the numbers' *symbols*, so that `1+2+3`, `3+(2+1)`
and `(1-2)*(3-4)`, `(2-1)*(4-3)` are one each, but `4*1` and `4/1` are two. Equal functions are recognised by their
values at fixed pseudo-random points of a large prime field, where only equal ones agree.

The search is directed by the target: what one half of the numbers makes says what the other half has to make, so
only hands of up to three numbers are enumerated (and what a zero is multiplied by).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, islice
from math import gcd

# A formula is a number, or (operator, left, right). Rationals are pairs in lowest terms with a positive denominator.
Tree = int | tuple[str, "Tree", "Tree"]
Rational = tuple[int, int]

MAX_NUMBERS = 6
_PRIME = (1 << 61) - 1
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def is_solvable(numbers: Sequence[int], target: int) -> bool:
    """Whether any formula over exactly these numbers makes the target."""
    return _is_solvable(_checked(numbers), target)


def solutions(numbers: Sequence[int], target: int) -> tuple[str, ...]:
    """Every distinct solution, written with as few brackets as it can be, the shortest first."""
    return _solutions(_checked(numbers), target)


def some_solutions(numbers: Sequence[int], target: int, at_most: int = 32) -> tuple[str, ...]:
    """Like `solutions`, of the first few formulas that the search meets: quick for large hands too."""
    return _solutions(_checked(numbers), target, at_most)


def difficulty(numbers: Sequence[int], target: int) -> int:
    """How many distinct solutions there are: the fewer, the harder; 0 where there is none."""
    return len(solutions(numbers, target))


def forget() -> None:
    """Empty the memory of hands met before, so that a measurement starts cold."""
    for remembered in (_is_solvable, _solutions, _table, _splits):
        remembered.cache_clear()


def _checked(numbers: Sequence[int]) -> tuple[int, ...]:
    if not 1 <= len(numbers) <= MAX_NUMBERS:
        raise ValueError(f"a hand of {len(numbers)} numbers: the solver takes 1 to {MAX_NUMBERS}")
    return tuple(sorted(numbers))


@lru_cache(maxsize=65_536)
def _is_solvable(numbers: tuple[int, ...], target: int) -> bool:
    return next(_trees(numbers, (target, 1)), None) is not None


@lru_cache(maxsize=16_384)
def _solutions(numbers: tuple[int, ...], target: int, at_most: int | None = None) -> tuple[str, ...]:
    distinct: dict[int, str] = {}
    for tree in islice(_trees(numbers, (target, 1)), at_most):
        function, text = _fingerprint(tree), write_formula(tree)
        distinct[function] = min(distinct.get(function, text), text, key=_simplicity)
    return tuple(sorted(distinct.values(), key=_simplicity))


def _simplicity(text: str) -> tuple[int, str]:
    return len(text), text


def _trees(numbers: tuple[int, ...], target: Rational) -> Iterator[Tree]:
    """Every formula over exactly these numbers that makes the target; equal ones may come more than once."""
    if len(numbers) <= 3:
        yield from _table(numbers).get(target, ())
        return
    for some, others in _splits(numbers):
        for value, trees in _table(some).items() if len(some) <= 3 else ():
            for operator, wanted, is_left in _wanted(value, target):
                for other in _trees(others, wanted):
                    for tree in trees:
                        yield (operator, tree, other) if is_left else (operator, other, tree)
            if value[0] == target[0] == 0:
                yield from _zero_products(trees, others)


def _zero_products(zeros: Sequence[Tree], others: tuple[int, ...]) -> Iterator[Tree]:
    """Nothing times anything: the one case in which the target does not say what the other side has to make."""
    for value, trees in _table(others).items():
        for zero in zeros:
            for tree in trees:
                yield "*", zero, tree
                if value[0]:
                    yield "/", zero, tree


@lru_cache(maxsize=32_768)
def _table(numbers: tuple[int, ...]) -> dict[Rational, list[Tree]]:
    """All that the numbers make: value → formulas."""
    if len(numbers) == 1:
        return {(numbers[0], 1): [numbers[0]]}
    table: dict[Rational, list[Tree]] = {}
    for some, others in _splits(numbers):
        for left, left_trees in _table(some).items():
            for right, right_trees in _table(others).items():
                for operator, value, is_left in _combined(left, right):
                    pairs = ((a, b) if is_left else (b, a) for a in left_trees for b in right_trees)
                    table.setdefault(value, []).extend((operator, *pair) for pair in pairs)
    return table


@lru_cache(maxsize=32_768)
def _splits(numbers: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """The ways to part the numbers in two, the smaller part first, each once however the numbers repeat."""
    found = set()
    indices = range(len(numbers))
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(indices, size):
            rest = tuple(numbers[index] for index in indices if index not in chosen)
            some = tuple(numbers[index] for index in chosen)
            found.add((some, rest) if len(some) < len(rest) else (min(some, rest), max(some, rest)))
    return tuple(sorted(found, key=lambda parts: (len(parts[0]), parts)))


def _combined(left: Rational, right: Rational) -> Iterator[tuple[str, Rational, bool]]:
    """What two values make: operator, value, and whether `left` is the operator's left side."""
    (a, b), (c, d) = left, right
    yield "+", _lowest(a * d + c * b, b * d), True
    yield "-", _lowest(a * d - c * b, b * d), True
    yield "-", _lowest(c * b - a * d, b * d), False
    yield "*", _lowest(a * c, b * d), True
    if c:
        yield "/", _lowest(a * d, b * c), True
    if a:
        yield "/", _lowest(c * b, d * a), False


def _wanted(value: Rational, target: Rational) -> Iterator[tuple[str, Rational, bool]]:
    """What the other side has to make so that both make the target; the same triples as `_combined`."""
    (a, b), (t, u) = value, target
    yield "+", _lowest(t * b - a * u, u * b), True
    yield "-", _lowest(a * u - t * b, u * b), True
    yield "-", _lowest(t * b + a * u, u * b), False
    if a:
        yield "*", _lowest(t * b, u * a), True
        yield "/", _lowest(t * a, u * b), False
        if t:
            yield "/", _lowest(a * u, b * t), True


def _lowest(numerator: int, denominator: int) -> Rational:
    divisor = gcd(numerator, denominator)
    if denominator < 0:
        divisor = -divisor
    return numerator // divisor, denominator // divisor


def _fingerprint(tree: Tree) -> int:
    """The formula's value where each number is replaced by a fixed pseudo-random point of the field."""
    if isinstance(tree, int):
        return pow(tree + 1_000_003, 5, _PRIME) * 0x9E3779B97F4A7C15 % _PRIME
    operator, left, right = tree
    a, b = _fingerprint(left), _fingerprint(right)
    if operator == "+":
        return (a + b) % _PRIME
    if operator == "-":
        return (a - b) % _PRIME
    return a * (b if operator == "*" else pow(b, -1, _PRIME)) % _PRIME


def write_formula(tree: Tree) -> str:
    """The formula as text, with as few brackets as it can do with."""
    if isinstance(tree, int):
        return str(tree)
    operator, left, right = tree
    return f"{_operand(left, operator)}{operator}{_operand(right, operator, is_right=True)}"


def _operand(tree: Tree, operator: str, *, is_right: bool = False) -> str:
    """The text of one side, in brackets where reading it left to right would give another formula."""
    if isinstance(tree, int):
        return str(tree)
    inner, outer = _PRECEDENCE[tree[0]], _PRECEDENCE[operator]
    needed = inner < outer or (is_right and inner == outer and operator in "-/")
    return f"({write_formula(tree)})" if needed else write_formula(tree)
