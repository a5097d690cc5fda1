"""What GeneralPoints and Countdown share: demonstrations, mistakes and thoughts over a hand of numbers.

    demonstrate(hand, …)  →  {"thinking": "7+5 = 12 …", "cards": […], "number": […], "formula": "(7-5)*10+4=24"}
    mistaken(hand, …)     →  the same shape, with a slip that a learner makes

Every sentence of a thought is true: values are computed, and a dead end is only called one when nothing that is left
makes the target.
"""

import json
from collections.abc import Sequence
from random import Random

from verifier.arithmetic import parse_equation
from verifier.hand import Hand
from verifier.solver import Tree, is_solvable, solutions, some_solutions, write_formula


def split_key(numbers: tuple[int, ...]) -> str:
    """What identifies a hand to the splits: the multiset of its numbers."""
    return "hand " + " ".join(map(str, sorted(numbers)))


def hand_key(ranks: tuple[str, ...]) -> str:
    """What identifies a hand to the splits where hands are held out one by one: the multiset of its cards."""
    return "cards " + " ".join(sorted(ranks))


def demonstrate(hand: Hand, generator: Random, *, with_cards: bool, thinks: bool, shortest: bool) -> str:
    """A correct answer; the shortest solution, or any of them."""
    if hand.asks == "cards":
        return _answer(hand, "", with_cards=True)
    # All solutions of five or six numbers take a quarter of a second, and a demonstration needs one.
    search = solutions if len(hand.numbers) <= 4 else some_solutions
    found = search(hand.numbers, hand.target)
    formula = found[0] if shortest else generator.choice(found)
    thought = _search(hand, formula, generator) if thinks else None
    return _answer(hand, f"{formula}={hand.target}", with_cards=with_cards, thinking=thought)


def mistaken(hand: Hand, generator: Random, *, with_cards: bool) -> str:
    """A slip of one of five kinds; some of what is drawn is right by accident."""
    if hand.asks == "cards":
        return _answer(_misread(hand, generator), "", with_cards=True)
    kind = generator.choices(("value", "number", "sign", "cards", "rule"), (6, 2, 1, 1, 1))[0]
    read = hand
    if kind == "cards" and hand.cards_are_shown:
        read = _misread(hand, generator)
    formula = write_formula(_random_tree(list(read.numbers), generator))
    if kind == "number":
        wrong = list(read.numbers)
        wrong[generator.randrange(len(wrong))] = generator.randint(1, 13)
        formula = write_formula(_random_tree(wrong, generator))
    elif kind == "sign":
        position = generator.randrange(len(formula))
        formula = formula[:position] + formula[position + 1 :]
    elif kind == "rule" and hand.training_numbers is not None:
        found = some_solutions(hand.training_numbers, hand.target)
        formula = generator.choice(found) if found else formula
    return _answer(read, f"{formula}={hand.target}", with_cards=with_cards)


def random_value(numbers: tuple[int, ...], generator: Random) -> int | None:
    """A whole, positive number that these numbers can make, or None where the drawn formula makes none."""
    value = parse_equation(write_formula(_random_tree(list(numbers), generator))).value
    return int(value) if value is not None and value.denominator == 1 and value > 0 else None


def _answer(hand: Hand, formula: str, *, with_cards: bool, thinking: str | None = None) -> str:
    fields: dict[str, object] = {} if thinking is None else {"thinking": thinking}
    if with_cards:
        fields["cards"] = list(hand.labels)
    if hand.asks == "solution":
        fields |= {"number": list(hand.numbers), "formula": formula}
    return json.dumps(fields, ensure_ascii=False)


def _misread(hand: Hand, generator: Random) -> Hand:
    """The hand as it is seen with one card taken for another."""
    position = generator.randrange(len(hand.labels))
    labels, numbers = list(hand.labels), list(hand.numbers)
    number = generator.randint(2, 10)
    labels[position], numbers[position] = str(number), number
    return Hand(labels=tuple(labels), numbers=tuple(numbers), target=hand.target, asks=hand.asks)


def random_formula(numbers: Sequence[int], generator: Random) -> str:
    """Any formula over exactly these numbers, whatever it makes."""
    return write_formula(_random_tree(list(numbers), generator))


def _random_tree(numbers: list[int], generator: Random) -> Tree:
    """Any formula over all the numbers: two parts are joined until one is left."""
    parts: list[Tree] = list(numbers)
    while len(parts) > 1:
        left = parts.pop(generator.randrange(len(parts)))
        right = parts.pop(generator.randrange(len(parts)))
        parts.append((generator.choice("++--**/"), left, right))
    return parts[0]


def _search(hand: Hand, formula: str, generator: Random) -> str:
    """How one might have found the formula: dead ends, whole tries that miss, the find, and a check of it."""
    sentences = [_dead_end(hand, generator) for _ in range(generator.randint(0, 2))]
    sentences += [_missed_try(hand, generator) for _ in range(generator.randint(1, 2))]
    sentences.append(f"Try {formula} = {hand.target}, yes.")
    used = ", ".join(map(str, parse_equation(formula).numbers))
    sentences.append(f"Check: it uses {used}, each once.")
    return " ".join(sentence for sentence in sentences if sentence)


def _dead_end(hand: Hand, generator: Random) -> str:
    """Two numbers joined so that what is left cannot make the target; empty where the drawn pair is no dead end."""
    rest = list(hand.numbers)
    left = rest.pop(generator.randrange(len(rest)))
    right = rest.pop(generator.randrange(len(rest)))
    operator = generator.choice("+-*")
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    if value < 0 or is_solvable([value, *rest], hand.target):
        return ""
    left_over = ", ".join(map(str, [value, *rest]))
    return f"Start with {left}{operator}{right} = {value}: {left_over} cannot make {hand.target}."


def _missed_try(hand: Hand, generator: Random) -> str:
    """A formula over all the numbers that misses the target; empty where the drawn one hits it or divides by zero."""
    formula = write_formula(_random_tree(list(hand.numbers), generator))
    value = parse_equation(formula).value
    return "" if value is None or value == hand.target else f"Try {formula} = {value}, no."
