"""Exact arithmetic on a tiny grammar, for formulas that a model wrote.

    equation  = sum [ "=" number ]  |  number "=" sum
    sum       = product { ("+" | "-") product }
    product   = atom { ("*" | "/") atom }
    atom      = number | "(" sum ")"

Numbers are whole and unsigned, in any script's decimal digits; × ⋅ · ÷ ∕ − – count as the operators they picture.
Values are rationals, so 8/(3-8/3) is 24 exactly. Work is bounded before it starts; nothing is ever evaluated by Python.
"""

import re
from fractions import Fraction
from math import gcd
from typing import NamedTuple

MAX_CHARACTERS = 256
MAX_DIGITS = 9

_TOKEN = re.compile(r"\d+|\S")
_OPERATORS = str.maketrans("×⋅·✕÷∕−–（）＋－＊／＝", "****//--()+-*/=")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


class IllegalFormula(ValueError):
    """The text is no formula of the grammar; the message is a phrase that completes "The formula …"."""


class Equation(NamedTuple):
    """A formula that was read.

    `8/(3-8/3)=24` has the value 24, the numbers (8, 3, 8, 3) and states 24.
    """

    value: Fraction | None
    """What the formula makes; None where it divides by zero."""
    numbers: tuple[int, ...]
    """The numbers it uses, in the order written."""
    stated: int | None
    """The number on the other side of the equals sign, where there is one."""


def parse_equation(text: str) -> Equation:
    """Read and compute the formula; raises IllegalFormula with what is wrong about it."""
    if len(text) > MAX_CHARACTERS:
        raise IllegalFormula(f"has {len(text)} characters, more than {MAX_CHARACTERS}")
    tokens = _TOKEN.findall(text.translate(_OPERATORS))
    if not tokens:
        raise IllegalFormula("is empty")
    if "=" not in tokens:
        return _compute(tokens, stated=None)
    split = tokens.index("=")
    left, right = tokens[:split], tokens[split + 1 :]
    if "=" in right:
        raise IllegalFormula("has more than one equals sign")
    if len(right) == 1 and right[0].isdecimal():
        return _compute(left, stated=_number(right[0]))
    if len(left) == 1 and left[0].isdecimal():
        return _compute(right, stated=_number(left[0]))
    raise IllegalFormula("has no single number on either side of the equals sign")


def _compute(tokens: list[str], *, stated: int | None) -> Equation:
    """Shunting-yard over (numerator, denominator) pairs; a denominator of 0 marks a division by zero."""
    values: list[tuple[int, int]] = []
    operators: list[str] = []
    numbers: list[int] = []
    operand_next = True
    for token in tokens:
        if operand_next:
            if token == "(":
                operators.append(token)
                continue
            if not token.isdecimal():
                raise IllegalFormula(_misplaced(token))
            number = _number(token)
            numbers.append(number)
            values.append((number, 1))
            operand_next = False
        elif token in _PRECEDENCE:
            _reduce(values, operators, _PRECEDENCE[token])
            operators.append(token)
            operand_next = True
        elif token == ")":
            _reduce(values, operators, 1)
            if not operators:
                raise IllegalFormula("closes a bracket that it did not open")
            operators.pop()
        else:
            raise IllegalFormula(_misplaced(token))
    if operand_next:
        raise IllegalFormula("ends where a number is missing")
    _reduce(values, operators, 1)
    if operators:
        raise IllegalFormula("does not close a bracket that it opened")
    numerator, denominator = values[0]
    value = Fraction(numerator, denominator) if denominator else None
    return Equation(value, tuple(numbers), stated)


def _reduce(values: list[tuple[int, int]], operators: list[str], precedence: int) -> None:
    """Apply the waiting operators that bind at least as tightly, back to an open bracket."""
    while operators and operators[-1] != "(" and _PRECEDENCE[operators[-1]] >= precedence:
        operator = operators.pop()
        c, d = values.pop()
        a, b = values[-1]
        values[-1] = _apply(operator, a, b, c, d)


def _apply(operator: str, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """a/b ∘ c/d in lowest terms. A zero denominator stays zero through every operator."""
    if operator == "*":
        numerator, denominator = a * c, b * d
    elif operator == "/":
        numerator, denominator = a * d, b * c if d else 0
    else:
        numerator, denominator = (a * d + c * b if operator == "+" else a * d - c * b), b * d
    divisor = gcd(numerator, denominator) or 1
    return numerator // divisor, denominator // divisor


def _number(token: str) -> int:
    if len(token) > MAX_DIGITS:
        raise IllegalFormula(f"holds a number of {len(token)} digits, more than {MAX_DIGITS}")
    return int(token)


def _misplaced(token: str) -> str:
    if token.isdecimal():
        return f"has the number {token[:MAX_DIGITS]} where an operator belongs"
    if token in _PRECEDENCE or token in "()=":
        return f"has '{token}' where it cannot stand"
    return f"holds '{token}'; only whole numbers, + - * / and brackets are allowed"
