"""Slow, obvious answers to compare the verifiers with; nothing here uses the code under test."""

import re
from collections import Counter
from fractions import Fraction
from itertools import permutations, product
from random import Random

import numpy as np

OPERATORS = "+-*/"


def value_by_python(formula: str) -> Fraction | None:
    """The value of a legal formula by Python's own parser over fractions; None for a division by zero."""
    try:
        return eval(re.sub(r"(\d+)", r"Fraction('\1')", formula), {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


def random_formula(numbers: list[int], generator: Random) -> str:
    """A legal formula over the numbers, with brackets and spaces where they may be, needed or not."""
    if len(numbers) == 1:
        text = str(numbers[0])
    else:
        cut = generator.randint(1, len(numbers) - 1)
        left, right = random_formula(numbers[:cut], generator), random_formula(numbers[cut:], generator)
        space = generator.choice(["", "", " "])
        text = f"{left}{space}{generator.choice(OPERATORS)}{space}{right}"
    return f"({text})" if generator.random() < 0.4 else text


def num_distinct_solutions(numbers: tuple[int, ...], target: int) -> int:
    """How many formulas make the target, counting those once that are equal for all values of the numbers."""
    generator = np.random.default_rng(7)
    points = {number: generator.uniform(1, 2, size=3) for number in sorted(set(numbers))}
    orders = sorted(set(permutations(numbers)))
    exact = _all_values(np.array(orders, dtype=float).T)
    makes_target = np.abs(exact - target) < 1e-9
    symbols = [_all_values(np.array([[points[n][k] for n in order] for order in orders]).T) for k in range(3)]
    found = np.stack([values[makes_target] for values in symbols], axis=-1)
    return len({tuple(row) for row in np.round(found, 6)})


def _all_values(operands: np.ndarray) -> np.ndarray:
    """The values of every formula shape and choice of operators; `operands` holds one row for each place."""
    a, b, c, d = operands
    values = []
    with np.errstate(all="ignore"):
        for p, q, r in product((np.add, np.subtract, np.multiply, np.divide), repeat=3):
            values += [
                r(q(p(a, b), c), d),
                q(p(a, b), r(c, d)),
                r(p(a, q(b, c)), d),
                p(a, r(q(b, c), d)),
                p(a, q(b, r(c, d))),
            ]
    return np.array(values)


def expected_outcome(formula: str, numbers: tuple[int, ...], target: int) -> str:
    """The outcome of a legal formula, by counting and by Python's arithmetic."""
    if Counter(map(int, re.findall(r"\d+", formula))) != Counter(numbers):
        return "wrong_numbers"
    return "correct" if value_by_python(formula) == target else "wrong_value"
