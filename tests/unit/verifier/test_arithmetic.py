"""Formulas are read by a small grammar and computed exactly."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracle import random_formula, value_by_python
from verifier.arithmetic import MAX_CHARACTERS, MAX_DIGITS, IllegalFormula, parse_equation


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/(3-8/3)", 24),
        ("1/3+1/3+1/3", 1),
        ("2-3-4", -5),
        ("24/6/2", 2),
        ("2+3*4", 14),
        ("((((7))))", 7),
        ("７−５", 2),
        ("٣×٤", 12),
        (" 10 ÷ 4 ", Fraction(5, 2)),
        ("(7-5)·10＋4", 24),
    ],
)
def test_values_are_exact(text: str, value: Fraction | int) -> None:
    assert parse_equation(text).value == value


def test_thousands_of_random_formulas_agree_with_python() -> None:
    generator = Random(1)
    for _ in range(20_000):
        numbers = [generator.randint(0, 13) for _ in range(generator.randint(1, 6))]
        formula = random_formula(numbers, generator)
        equation = parse_equation(formula)
        assert equation.value == value_by_python(formula), formula
        assert list(equation.numbers) == numbers


@pytest.mark.parametrize(("text", "stated"), [("1+3=4", 4), ("4=1+3", 4), ("1+3 = 5", 5), ("1+3", None), ("7=7", 7)])
def test_the_other_side_of_the_equals_sign_is_what_is_stated(text: str, stated: int | None) -> None:
    assert parse_equation(text).stated == stated


@pytest.mark.parametrize("text", ["1/0", "1/(3-3)", "(2/0)*0", "0/0", "1-1/0+2", "5/(1/0)"])
def test_a_division_by_zero_has_no_value(text: str) -> None:
    assert parse_equation(text).value is None


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("1+", "ends where"),
        ("+1", "'+'"),
        ("-1", "'-'"),
        ("2**3", "'*'"),
        ("7//2", "'/'"),
        ("(1+2", "does not close"),
        ("1+2)", "closes a bracket"),
        ("()", "')'"),
        ("2(3)", "'('"),
        ("1 0+2", "number 0"),
        ("1.5+2", "'.'"),
        ("x+2", "'x'"),
        ("²+2", "'²'"),
        ("1+2=3=3", "more than one"),
        ("1+2=2+1", "no single number"),
        ("1+2=", "no single number"),
        ("__import__('os')", "'_'"),
        ("9" * (MAX_DIGITS + 1), "digits"),
        ("1+" * MAX_CHARACTERS + "1", "characters"),
        ("(" * 200 + "1" + ")" * 200, "characters"),
    ],
)
def test_what_is_no_formula_is_told_why(text: str, phrase: str) -> None:
    with pytest.raises(IllegalFormula, match=r"^[a-z]") as fault:
        parse_equation(text)
    assert phrase in str(fault.value)


@given(st.text(st.sampled_from("0123456789+-*/()= x×÷"), max_size=300))
def test_any_text_is_an_equation_or_illegal(text: str) -> None:
    try:
        equation = parse_equation(text)
    except IllegalFormula:
        return
    assert equation.value is None or equation.value == value_by_python_sided(text)


def value_by_python_sided(text: str) -> Fraction | None:
    """The value of the side that is not the stated number."""
    plain = text.translate(str.maketrans("×÷", "*/"))
    sides = [side.strip() for side in plain.split("=")]
    formula = sides[0] if len(sides) == 1 or sides[1].isdecimal() else sides[1]
    return value_by_python(formula.replace(" ", ""))
