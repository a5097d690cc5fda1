"""The original's scoring of the 24 game, quirks included, for comparison with its published figures.

    |                    | `corrected`                     | `paper`                                             |
    | reading the answer | any spelling                    | strict JSON with the key on top, else `"key": "…"`  |
    |                    |                                 | with one space, on one line, the first match;       |
    |                    |                                 | nothing found reads as the text `None`              |
    | cards of a picture | any spelling, as a multiset     | only bare or single-quoted lists in text that is no |
    |                    |                                 | JSON, unless `', '` parts them into whole numbers,  |
    |                    |                                 | and JSON strings; JSON lists count as wrong         |
    | `=`                | what is stated must be true     | cut at the first `=`, so `…=25` is not seen         |
    | spaces, × ÷ −      | allowed                         | illegal (−3)                                        |
    | digits of other    | digits                          | legal, and the numbers they write, but they do not  |
    | scripts            |                                 | compute: −1                                         |
    | leading zeros      | nothing special                 | likewise                                            |
    | no formula at all, | illegal_formula                 | leaves numbers out (−2)                             |
    | or only `=24`      |                                 |                                                     |
    | several faults     | one outcome, the first in order | −3 for each misplaced sign, −2 for foreign or       |
    |                    |                                 | excess numbers and −2 for unused ones, all added up |
    | beginning of a     | judged as what it is            | partial (+1): all numbers used, does not compute,   |
    | solution           |                                 | and a solution string begins so                     |
    | arithmetic         | exact                           | floating point: `8/(3-8/3)` is not 24 and, being    |
    |                    |                                 | a solution string, earns 0 without a message        |
    | feedback           | says what is wrong              | names the longest beginning of a solution (a hint)  |

What the original does otherwise than `paper`:

    |                             | the original             | `paper`                                      |
    | a formula that is no text   | crashes (TypeError)      | illegal_formula (−3)                         |
    | a number of over 4,300      | crashes (ValueError)     | a foreign number (−2)                        |
    | digits                      |                          |                                              |
    | an answer of over 32,768    | is read in full          | only its last 32,768 characters are read     |
    | characters                  |                          |                                              |
    | hands of other than four    | do not occur             | have no solution strings: no +1, no hint     |
    | the messages                | its own words            | ours; only the hint is the same              |

The label of a verdict with several penalties is that of the first.
Nothing is evaluated by Python: the floating-point value is computed over the syntax tree.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from verifier._paper_reading import NOTHING, read_document, read_value, read_window
from verifier._paper_solutions import floating_point_value, solution_strings, some_begin
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

MAX_DIGITS = 4300
"""Python reads no longer number."""

# An opening bracket that nothing closes keeps later ones from being closed too, so one failed search ends them all.
_CARDS = re.compile(r'"cards": \[(?P<items>[^\]]+)(?P<end>\]?)')
_LEGAL = re.compile(r"[\d+\-*/()]*")
_SIGN = re.compile(r"\d+|[-+*/()]")


def judge(
    answer: str, reference: Hand, rewards: Mapping[str, float], spans: tuple[Span, ...], checks: Mapping[str, bool]
) -> Verdict:
    """The original's verdict; spans and checks are read as everywhere."""
    answer = read_window(answer)
    document = read_document(answer)
    asks_cards = reference.cards_are_shown or reference.asks == "cards"
    if asks_cards and sorted(_read_cards(document, answer)) != sorted(reference.labels):
        penalties, feedback = ["wrong_cards"], "The cards are not the ones in the picture."
    elif reference.asks == "cards":
        penalties, feedback = ["correct"], "Correct."
    else:
        penalties, feedback = _formula_outcome(read_value(document, answer, "formula"), reference)
    return Verdict(
        outcome=penalties[0],
        correct=penalties[0] == "correct",
        reward=sum(rewards[label] for label in penalties),
        feedback=feedback,
        spans=spans,
        checks=checks,
    )


def _read_cards(document: Mapping[str, Any], answer: str) -> list[str]:
    """The cards as the original's parser sees them; none where it does not see four."""
    if "cards" in document:
        written = document["cards"]
    else:
        found = _CARDS.search(answer)
        written = found["items"] if found and found["end"] else NOTHING
        if _are_integers(written.split(", ")):
            return []
    parts = re.sub(r"[\[\]' ]", "", written).split(",") if isinstance(written, str) else []
    return parts if len(parts) == 4 else []


def _are_integers(texts: Sequence[str]) -> bool:
    try:
        for text in texts:
            int(text)
    except ValueError:
        return False
    return True


def _formula_outcome(written: Any, reference: Hand) -> tuple[list[str], str]:
    """Every penalty in the original's order, or else the one outcome; and what to say."""
    formula = written.split("=", 1)[0] if isinstance(written, str) else None
    if formula is None or not _LEGAL.fullmatch(formula):
        return ["illegal_formula"], "The formula holds characters that are not allowed."
    tokens = _SIGN.findall(formula)
    penalties = ["illegal_formula"] * _num_misplaced(tokens)
    messages = ["it has signs or numbers where they cannot stand"] if penalties else []
    for message in _number_faults(tokens, reference.numbers):
        penalties.append("wrong_numbers")
        messages.append(message)
    if penalties:
        return penalties, f"The formula is wrong: {', '.join(messages)}."
    outcome, feedback = _outcome(formula, tokens, reference)
    return [outcome], feedback


def _num_misplaced(tokens: Sequence[str]) -> int:
    """Tokens that cannot follow the one before, and brackets that close nothing.

    A misplaced bracket opens or closes none; an unclosed one is not among the faults."""
    num_faults, depth, before = 0, 0, "start"
    for token in tokens:
        kind = token if token in "()" else "operator" if token in "+-*/" else "number"
        if kind in ("number", "("):
            fits = before in ("start", "operator", "(")
        else:
            fits = before in ("number", ")") and not (kind == ")" and depth == 0)
        if not fits:
            num_faults += 1
        elif kind == "(":
            depth += 1
        elif kind == ")":
            depth -= 1
        before = kind
    return num_faults


def _number_faults(tokens: Sequence[str], numbers: tuple[int, ...]) -> list[str]:
    """What is wrong with the numbers used: up to two phrases, each punished."""
    digits = [token for token in tokens if token[0] not in "+-*/()"]
    too_long = [token for token in digits if len(token) > MAX_DIGITS]
    used = Counter(int(token) for token in digits if len(token) <= MAX_DIGITS)
    given = Counter(numbers)
    faults = []
    if too_long or any(number not in given for number in used):
        foreign = sorted(number for number in used if number not in given)
        faults.append(f"it uses numbers that are not in the hand: {_listed(foreign, too_long)}")
    elif excess := sorted(number for number in used if used[number] > given[number]):
        faults.append(f"it uses numbers too often: {_listed(excess)}")
    if unused := sorted((given - used).elements()):
        faults.append(f"it leaves numbers out: {unused}")
    return faults


def _listed(numbers: Sequence[int], too_long: Sequence[str] = ()) -> str:
    """The first few; absurdly long ones are not spelt out."""
    texts = [str(number) if number < 10**9 else "a number of many digits" for number in numbers[:6]]
    return f"[{', '.join([*texts, *('a number of many digits' for _ in too_long)][:6])}]"


def _outcome(formula: str, tokens: Sequence[str], reference: Hand) -> tuple[str, str]:
    """The outcome of a formula without a penalty."""
    value = floating_point_value(formula)
    if value is not None and value == reference.target:
        return "correct", "Correct."
    strings = solution_strings(tuple(sorted(reference.numbers)), reference.target)
    begun = ""
    for token in tokens:
        if not some_begin(strings, begun + token):
            hint = f"a solution can begin with {begun}" if begun else "no solution begins like it"
            return "wrong_value", f"The formula does not make {reference.target}; {hint}."
        begun += token
    if value is None:
        return "partial", "The formula is the beginning of a solution; complete it."
    return "rounding", ""
