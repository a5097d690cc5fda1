"""Answers to the 24 game as a bad day would have them: right ones, spoilt in every way that was thought of.

made_up(Random(0), num_hands=100)  →  Attempt(hand=Hand(…), answer='{"cards": ["7", …], "formula": "(7-5*10+4=24",}')
"""

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.support.paper_reference import solver_strings
from verifier.hand import Hand

_RANKS = ["A", *map(str, range(2, 11)), "J", "Q", "K"]
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_TYPESET = str.maketrans("*/-", "×÷−")


class Attempt(NamedTuple):
    """One answer to one hand."""

    hand: Hand
    answer: str


def made_up(generator: Random, num_hands: int) -> Attempt:
    """One attempt at one of the first few hands; the fewer they are, the less the reference has to work out."""
    hand = _hand(Random(generator.randrange(num_hands)))
    formula = _formula(hand, generator)
    for _ in range(generator.choice([0, 0, 0, 1, 1, 1, 2, 3])):
        formula = generator.choice(_FORMULA_FAULTS)(formula, generator)
    formula += generator.choice(
        ["=24", *([f"={hand.target}"] * 3), "", "", "", "=25", " = 24", "==24", "=\n24", "=x=y"]
    )
    answer = _document(hand, formula, generator)
    if generator.random() < 0.25:
        answer = generator.choice(_DOCUMENT_FAULTS)(answer, generator)
    return Attempt(hand, answer)


def _hand(generator: Random) -> Hand:
    ranks = [generator.randrange(13) for _ in range(4)]
    if generator.random() < 0.2:
        ranks[1] = ranks[0]
    if generator.random() < 0.1:
        ranks = [2, 2, 7, 7]  # 3, 3, 8 and 8, which make 24 in fractions only
    highest = generator.choice([10, 13])
    return Hand(
        labels=tuple(_RANKS[rank] for rank in ranks),
        numbers=tuple(min(rank + 1, highest) for rank in ranks),
        target=generator.choice([24, 24, 24, 24, 10, 7, 100]),
        cards_are_shown=generator.random() < 0.25,
    )


def _formula(hand: Hand, generator: Random) -> str:
    kind = generator.random()
    if kind < 0.65 and (found := sorted(solver_strings(tuple(sorted(hand.numbers)), hand.target))):
        return generator.choice(found)
    if kind < 0.9:
        numbers = [str(number) for number in generator.sample(hand.numbers, 4)]
        return generator.choice(
            ["{}{}{}{}{}{}{}", "({}{}{}){}{}{}{}", "({}{}{}){}({}{}{})", "(({}{}{}){}{}){}{}"]
        ).format(*(part for number in numbers for part in (number, generator.choice("+-*/"))))
    return "".join(generator.choice([*"+-*/()()", *map(str, hand.numbers)]) for _ in range(generator.randint(0, 12)))


def _dropped(text: str, generator: Random, of: str) -> str:
    places = [place for place, character in enumerate(text) if character in of]
    if not places:
        return text
    place = generator.choice(places)
    return text[:place] + text[place + 1 :]


def _inserted(text: str, generator: Random, pieces: list[str]) -> str:
    place = generator.randint(0, len(text))
    return text[:place] + generator.choice(pieces) + text[place:]


def _shortened(text: str, generator: Random) -> str:
    return text[: generator.randint(0, len(text))]


_FORMULA_FAULTS: list[Callable[[str, Random], str]] = [
    lambda text, generator: _dropped(text, generator, "()"),
    lambda text, _: text.rstrip(")"),
    lambda text, _: text.rstrip(")"),
    lambda text, generator: _dropped(text, generator, "+-*/"),
    lambda text, generator: _dropped(text, generator, "0123456789"),
    lambda text, generator: _inserted(text, generator, ["(", ")", "()", "((", "))", ")("]),
    lambda text, generator: _inserted(text, generator, ["+", "-", "*", "/", "**", "//", "--"]),
    lambda text, generator: _inserted(text, generator, [" ", "\n", "\t", "K", ".0", "^2", '"', "'", "]", "\\"]),
    lambda text, generator: _inserted(text, generator, ["0", "00", "0" * 20, "1", "24", "1" * 30, "+1", "*1"]),
    lambda text, _: text.translate(_FULL_WIDTH),
    lambda text, _: text.translate(_ARABIC),
    lambda text, _: text.translate(_RAISED),
    lambda text, _: text.translate(_TYPESET),
    lambda text, _: f"{'(' * 120}{text}{')' * 120}",
    lambda text, _: f"{'(' * 250}{text}{')' * 250}",
    lambda text, _: f"({text})",
    lambda text, _: f"0{text}",
    _shortened,
]


def _document(hand: Hand, formula: str, generator: Random) -> str:
    cards = list(hand.labels)
    generator.shuffle(cards)
    if generator.random() < 0.2:
        cards[0] = generator.choice([*_RANKS, "a", "k", "1", "", "7♠", "1_0"])
    if generator.random() < 0.1:
        cards.append(cards[0])
    quoted = json.dumps(formula, ensure_ascii=generator.random() < 0.3)
    written = {
        "cards": _cards(cards, generator),
        "number": generator.choice([str(list(hand.numbers)), "[]", "null", "x"]),
        "formula": generator.choice(
            [*([quoted] * 16), *([f'"{formula}"'] * 4), f"'{formula}'", "24", "null", f"[{quoted}]"]
        ),
    }
    keys = [key for key in written if generator.random() < 0.97]
    if generator.random() < 0.1:
        generator.shuffle(keys)
    if generator.random() < 0.05:
        keys.append(generator.choice(list(written)))
    colon = generator.choice([*([": "] * 8), ":", ":  ", " : "])
    between = generator.choice([", ", ",\n", ","])
    return "{" + between.join(f'"{key}"{colon}{written[key]}' for key in keys) + generator.choice(["}", "}", ",}", ""])


def _cards(cards: list[str], generator: Random) -> str:
    between = generator.choice([", ", ", ", ",", ",  ", ",\n", "; "])
    bare = between.join(cards)
    double = between.join(f'"{card}"' for card in cards)
    single = between.join(f"'{card}'" for card in cards)
    spellings = [f"[{bare}]", f"[{bare}]", f"[{double}]", f"[{single}]", f'"{bare}"', f'"[{bare}]"', f"[[{bare}]]"]
    return generator.choice([*spellings, f"[ {bare} ]", "[]", f'[], "cards": [{bare}]', f"[{bare}", "null", "{}", "3"])


_DOCUMENT_FAULTS: list[Callable[[str, Random], str]] = [
    lambda text, _: f'{{"answer": {text}}}',
    lambda text, _: f"[{text}]",
    lambda text, _: f"```json\n{text}\n```",
    lambda text, _: f"So, I think: {text} is it.",
    lambda text, _: json.dumps(text),
    lambda text, _: f"{text}\n{text}",
    lambda text, _: f"\ufeff{text}",
    lambda text, _: text.replace('"', "'"),
    lambda text, _: text.replace("{", '{"formula": "1", ', 1),
    lambda text, generator: _inserted(text, generator, ["\n", '"', ",", "{", "}", "]", " "]),
    lambda text, generator: _dropped(text, generator, '"[]{}:,'),
    _shortened,
]
