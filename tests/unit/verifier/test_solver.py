"""The solver finds every solution, counts equal ones once, and writes each so that it holds."""

from collections import Counter
from itertools import combinations_with_replacement
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.oracle import num_distinct_solutions, value_by_python
from verifier import solver
from verifier.arithmetic import parse_equation
from verifier.solver import difficulty, is_solvable, solutions, some_solutions


@pytest.mark.parametrize("largest", [10, 13], ids=["face cards count 10", "face cards count 11, 12, 13"])
def test_every_four_card_multiset_agrees_with_the_exhaustive_oracle(largest: int) -> None:
    """All 1,820 multisets of ranks; under the first rule they are 715 multisets of numbers."""
    hands = {
        tuple(sorted(min(rank, largest) for rank in ranks)) for ranks in combinations_with_replacement(range(1, 14), 4)
    }
    for hand in sorted(hands):
        count = num_distinct_solutions(hand, 24)
        assert difficulty(hand, 24) == count, hand
        assert is_solvable(hand, 24) == (count > 0), hand


@pytest.mark.parametrize(("largest", "num_solvable"), [(10, 1236), (13, 1362)])
def test_the_number_of_solvable_hands_is_the_published_one(largest: int, num_solvable: int) -> None:
    hands = combinations_with_replacement(range(1, 14), 4)
    assert sum(is_solvable([min(rank, largest) for rank in hand], 24) for hand in hands) == num_solvable


@given(st.lists(st.integers(1, 13), min_size=4, max_size=4), st.integers(-30, 60))
@settings(max_examples=40)
def test_other_targets_agree_with_the_oracle_too(numbers: list[int], target: int) -> None:
    assert difficulty(numbers, target) == num_distinct_solutions(tuple(numbers), target)


@pytest.mark.parametrize("num_numbers", [3, 4, 5, 6])
def test_every_solution_uses_each_number_once_and_makes_the_target(num_numbers: int) -> None:
    generator = Random(num_numbers)
    for _ in range(6):
        numbers = [generator.randint(1, 13) for _ in range(num_numbers)]
        found = solutions(numbers, 24)
        assert len(set(found)) == len(found)
        for formula in found:
            assert value_by_python(formula) == 24
            assert Counter(parse_equation(formula).numbers) == Counter(numbers)


@given(st.lists(st.integers(1, 13), min_size=5, max_size=5), st.integers(0, 40))
@settings(max_examples=25)
def test_five_numbers_are_solvable_when_two_of_them_can_be_joined_into_a_solvable_four(
    numbers: list[int], target: int
) -> None:
    """An independent recursion over the first join, in floating point."""
    assert is_solvable(numbers, target) == _solvable_by_joining([float(number) for number in numbers], target)


def _solvable_by_joining(values: list[float], target: int) -> bool:
    if len(values) == 1:
        return abs(values[0] - target) < 1e-7
    for i in range(len(values)):
        for j in range(len(values)):
            if i == j:
                continue
            rest = [value for k, value in enumerate(values) if k not in (i, j)]
            a, b = values[i], values[j]
            joined = [a - b] + ([a + b, a * b] if i < j else []) + ([a / b] if abs(b) > 1e-9 else [])
            if any(_solvable_by_joining([value, *rest], target) for value in joined):
                return True
    return False


@pytest.mark.parametrize(
    ("numbers", "target", "expected"),
    [
        ((3, 3, 8, 8), 24, ("8/(3-8/3)",)),
        ((1, 1, 1, 1), 24, ()),
        ((4,), 4, ("4",)),
        ((1, 2), 3, ("1+2",)),
        # 4*1 and 4/1 are different functions of the numbers; 1*4 is not another one.
        ((1, 4), 4, ("1*4", "4/1")),
        ((2, 2), 0, ("2-2",)),
    ],
)
def test_small_hands_have_the_solutions_worked_out_by_hand(
    numbers: tuple[int, ...], target: int, expected: tuple[str, ...]
) -> None:
    assert solutions(numbers, target) == expected


def test_order_does_not_matter_and_the_shortest_comes_first() -> None:
    found = solutions((2, 3, 4, 6), 24)
    assert found == solutions((6, 4, 3, 2), 24)
    assert list(found) == sorted(found, key=lambda formula: (len(formula), formula))


def test_some_solutions_are_solutions_and_exist_exactly_when_the_hand_is_solvable() -> None:
    generator = Random(5)
    for _ in range(30):
        numbers = [generator.randint(1, 13) for _ in range(6)]
        found = some_solutions(numbers, 24)
        assert bool(found) == is_solvable(numbers, 24)
        assert all(value_by_python(formula) == 24 for formula in found)


@pytest.mark.parametrize("numbers", [(), (1,) * 7])
def test_hands_of_other_sizes_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1 to 6"):
        is_solvable(numbers, 24)


def test_a_forgotten_hand_is_solved_again_alike() -> None:
    before = solutions((1, 5, 5, 5), 24)
    solver.forget()
    assert solutions((1, 5, 5, 5), 24) == before
