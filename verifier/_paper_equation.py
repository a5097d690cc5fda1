"""The original's scoring of the 24 game, quirks included, for comparison with its published figures.

    |                    | `corrected`                     | `paper`                                             |
    | reading the answer | any spelling                    | strict JSON, else `"key": "…"` with one space, the  |
    |                    |                                 | first match; nothing found reads as the text `None` |
    | cards of a picture | any spelling, as a multiset     | only single-quoted lists, or bare lists with a      |
    |                    |                                 | letter in them; valid JSON lists count as wrong     |
    | `=`                | what is stated must be true     | cut at the first `=`, so `…=25` is not seen         |
    | spaces, unicode    | allowed                         | illegal (−3)                                        |
    | several faults     | one outcome, the first in order | −3 for each misplaced sign, −2 for foreign or       |
    |                    |                                 | excess numbers and −2 for unused ones, all added up |
    | beginning of a     | judged as what it is            | partial (+1): all numbers used, does not compute,   |
    | solution           |                                 | and a solution string begins so                     |
    | arithmetic         | exact                           | floating point: `8/(3-8/3)` is not 24 and, being    |
    |                    |                                 | a solution string, earns 0 without a message        |
    | feedback           | says what is wrong              | names the longest beginning of a solution (a hint)  |

The label of a verdict with several penalties is that of the first. Formulas over 256 characters are not read.
Nothing is evaluated by Python: the floating-point value is computed over the syntax tree.
"""

import ast
import json
import operator
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import permutations, product

from verifier.arithmetic import MAX_CHARACTERS, IllegalFormula, parse_equation
from verifier.hand import Hand
from verifier.protocol import Span, Verdict

REWARDS = {
    "correct": 5.0,
    "partial": 1.0,
    "rounding": 0.0,
    "wrong_value": -1.0,
    "wrong_cards": -1.5,
    "wrong_numbers": -2.0,
    "illegal_formula": -3.0,
    "attempts_exceeded": -1.0,
}

_FORMULA = re.compile(r'"formula": "(.*?)"', re.DOTALL)
_CARDS = re.compile(r'"cards": \[([^\]]*)\]')
_SIGN = re.compile(r"\d+|[-+*/()]")
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


def judge(
    answer: str, reference: Hand, rewards: Mapping[str, float], spans: tuple[Span, ...], checks: Mapping[str, bool]
) -> Verdict:
    """The original's verdict; spans and checks are read as everywhere."""
    formula, cards = _read(answer)
    if (reference.cards_are_shown or reference.asks == "cards") and sorted(cards) != sorted(reference.labels):
        penalties, feedback = ["wrong_cards"], "The cards are not the ones in the picture."
    elif reference.asks == "cards":
        penalties, feedback = ["correct"], "Correct."
    else:
        penalties, feedback = _penalties(formula, reference)
        if not penalties:
            outcome, feedback = _outcome(formula, reference)
            penalties = [outcome]
    return Verdict(
        outcome=penalties[0],
        correct=penalties[0] == "correct",
        reward=sum(rewards[label] for label in penalties),
        feedback=feedback,
        spans=spans,
        checks=checks,
    )


def _read(answer: str) -> tuple[str, list[str]]:
    """The formula up to its first `=`, and the cards as the original's parser sees them."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        found = _FORMULA.search(answer)
        formula = found[1] if found else "None"
        list_found = _CARDS.search(answer)
        cards = _original_list(list_found[1]) if list_found else []
    else:
        written = document.get("formula") if isinstance(document, dict) else None
        formula = written if isinstance(written, str) else "None"
        cards = []
    return formula.split("=", 1)[0][: MAX_CHARACTERS + 1], cards


def _original_list(text: str) -> list[str]:
    parts = re.sub(r"[\[\]' ]", "", text).split(",")
    all_digits = "'" not in text and all(part.isdigit() for part in parts)
    return parts if len(parts) == 4 and not all_digits else []


def _penalties(formula: str, reference: Hand) -> tuple[list[str], str]:
    """Every fault the original punishes, in its order, and what it says of them."""
    if len(formula) > MAX_CHARACTERS or not re.fullmatch(r"[0-9+\-*/()]+", formula):
        return ["illegal_formula"], "The formula holds characters that are not allowed."
    tokens = _SIGN.findall(formula)
    penalties = ["illegal_formula"] * _num_misplaced(tokens)
    messages = ["it has signs or numbers where they cannot stand"] if penalties else []
    used = Counter(int(token[:18]) for token in tokens if token.isdigit())
    given = Counter(reference.numbers)
    if foreign := sorted(number for number in used if number not in given):
        penalties.append("wrong_numbers")
        messages.append(f"it uses numbers that are not in the hand: {foreign[:6]}")
    elif excess := sorted(number for number in used if used[number] > given[number]):
        penalties.append("wrong_numbers")
        messages.append(f"it uses numbers too often: {excess[:6]}")
    if unused := sorted((given - used).elements()):
        penalties.append("wrong_numbers")
        messages.append(f"it leaves numbers out: {unused}")
    return penalties, f"The formula is wrong: {', '.join(messages)}."


def _num_misplaced(tokens: list[str]) -> int:
    """Tokens that cannot follow the one before; an unclosed bracket is not among the faults."""
    num_faults, depth, before = 0, 0, "start"
    for token in tokens:
        kind = "number" if token.isdigit() else token if token in "()" else "operator"
        if kind in ("number", "("):
            num_faults += before not in ("start", "operator", "(")
        else:
            num_faults += before not in ("number", ")")
        if kind == ")":
            num_faults += depth == 0
            depth = max(0, depth - 1)
        depth += kind == "("
        before = kind
    return num_faults


def _outcome(formula: str, reference: Hand) -> tuple[str, str]:
    """The outcome of a formula without a penalty."""
    value = _floating_point_value(formula)
    if value is not None and value == reference.target:
        return "correct", "Correct."
    strings = _solution_strings(tuple(sorted(reference.numbers)), reference.target)
    matching = next(end for end in range(len(formula), -1, -1) if any(s.startswith(formula[:end]) for s in strings))
    if matching < len(formula):
        hint = f"a solution can begin with {formula[:matching]}" if matching else "no solution begins like it"
        return "wrong_value", f"The formula does not make {reference.target}; {hint}."
    if value is None:
        return "partial", "The formula is the beginning of a solution; complete it."
    return "rounding", ""


def _floating_point_value(formula: str) -> float | None:
    """What Python's own arithmetic makes of it; None where that would raise."""
    try:
        return _value(ast.parse(formula, mode="eval").body)
    except (SyntaxError, ArithmeticError, KeyError):
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise SyntaxError("not arithmetic")


@lru_cache(maxsize=4096)
def _solution_strings(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    """Every string that the original's solver lists for a four-card hand; it lists none for other hands."""
    if len(numbers) != 4:
        return ()
    strings = {
        template.format(a, p, b, q, c, r, d)
        for a, b, c, d in set(permutations(numbers))
        for p, q, r in product("+-*/", repeat=3)
        for template in _TEMPLATES
    }
    return tuple(sorted(string for string in strings if _makes(string, target)))


def _makes(formula: str, target: int) -> bool:
    try:
        return parse_equation(formula).value == target
    except IllegalFormula:
        return False
