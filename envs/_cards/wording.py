"""The words in which GeneralPoints and Countdown ask; several ways to say the same."""

from random import Random

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


def solve_text(
    *, target: int, num: int, hand: str, rule: str, one: str, thinks: bool, wording: Wording, generator: Random
) -> str:
    """The question for a formula. `hand` is how the numbers are given; it is empty where a picture shows them."""
    what = f"the {num} {one}s" + ("" if hand else " in the picture")
    lines = [pick(_TASK, wording, generator).format(target=target, what=what, one=one)]
    if rule:
        lines.append(rule)
    if hand:
        lines.append(f"{one.capitalize()}s: {hand}")
    lines.append(pick(_ANSWER, wording, generator))
    fields = ['"thinking": "what you try"'] if thinks else []
    if one == "card":
        fields.append('"cards": ["the cards as shown"]')
    fields += [f'"number": ["what each {one} counts"]', f'"formula": "an equation that ends in ={target}"']
    return "\n".join(lines) + "\n{" + ", ".join(fields) + "}"


def look_text(*, num: int, wording: Wording, generator: Random) -> str:
    """The question for what the cards are."""
    asked = pick(_LOOK, wording, generator).format(num=num)
    return f'{asked}\n{pick(_ANSWER, wording, generator)}\n{{"cards": ["the cards as shown"]}}'
