"""The words in which GeneralPoints and Countdown ask; several ways to say the same."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any, Literal

from envs.wording import Wording, pick

# The first of each list is the fixed wording.
_TASK = [
    "Make {target} out of {what}. Use each {one} exactly once, with + - * / and brackets.",
    "Here is a puzzle: combine {what} with + - * / and brackets so that the result is {target}. Every {one} must be"
    " used, and none twice.",
    "Find an equation that equals {target}. It has to use each {one} of {what} one time, no more and no less; only"
    " + - * / and brackets are allowed.",
    "You play the {target} game. From {what}, build {target}: each {one} goes in once, joined by + - * / and brackets.",
    "Your goal is {target}. Take {what}, use every {one} exactly one time, and write a formula with + - * / and"
    " brackets that reaches it.",
]
_LOOK = [
    "Name the {num} cards in the picture.",
    "Which {num} cards does the picture show?",
    "Look at the picture and list its {num} cards.",
]
_ANSWER = ["Answer with JSON only:", "Reply with nothing but JSON:", "Write your answer as one JSON object:"]
_ORIGINAL_ANSWER = ["Answer in this form only:", "Reply with nothing but this form:", "Fill in this form:"]

AnswerFormat = Literal["json", "original"]


def solve_text(
    *,
    target: int,
    num: int,
    hand: str,
    rule: str,
    one: str,
    thinks: bool,
    wording: Wording,
    generator: Random,
    written: AnswerFormat = "json",
) -> str:
    """The question for a formula. `hand` is how the numbers are given; it is empty where a picture shows them."""
    what = f"the {num} {one}s" + ("" if hand else " in the picture")
    lines = [pick(_TASK, wording, generator).format(target=target, what=what, one=one)]
    if rule:
        lines.append(rule)
    if hand:
        lines.append(f"{one.capitalize()}s: {hand}")
    fields: dict[str, Any] = {"thinking": "what you try"} if thinks else {}
    if one == "card":
        fields["cards"] = ["the cards as shown"]
    fields |= {"number": [f"what each {one} counts"], "formula": f"an equation that ends in ={target}"}
    return "\n".join([*lines, _skeleton(fields, wording, generator, written)])


def look_text(*, num: int, wording: Wording, generator: Random, written: AnswerFormat = "json") -> str:
    """The question for what the cards are."""
    asked = pick(_LOOK, wording, generator).format(num=num)
    return f"{asked}\n{_skeleton({'cards': ['the cards as shown']}, wording, generator, written)}"


def _skeleton(fields: Mapping[str, Any], wording: Wording, generator: Random, written: AnswerFormat) -> str:
    """How the answer is to look."""
    if written == "json":
        return f"{pick(_ANSWER, wording, generator)}\n{json.dumps(fields)}"
    # What stands for the entries of a list bears no quotation marks, lest they be taken for part of it.
    bare = {name: f"[{value[0]}]" if isinstance(value, list) else json.dumps(value) for name, value in fields.items()}
    return f"{pick(_ORIGINAL_ANSWER, wording, generator)}\n{_form(bare)}"


def as_original(answer: str) -> str:
    """A JSON answer in the original's form: lists in single quotes, a comma behind every field. That is no JSON.

    >>> print(as_original('{"cards": ["7", "K"], "formula": "7+K"}'))
    {
    "cards": ['7', 'K'],
    "formula": "7+K",
    }
    """
    fields = json.loads(answer)
    return _form({name: str(value) if isinstance(value, list) else json.dumps(value) for name, value in fields.items()})


def _form(values: Mapping[str, str]) -> str:
    return "\n".join(["{", *(f'"{name}": {value},' for name, value in values.items()), "}"])
