"""What games of cards are measured by: a hand is seen, counted by the rule and put together, all rightly.

`numbers_used` is what a rule changes, `makes_target` is what it does not: a policy that has forgotten a rule still
makes 24, of other numbers.
"""

from typing import Literal

from envs.protocol import Measure, Measures

_FIRST = "checks_at_first_attempt/"
"""Before any feedback could tell."""


def card_measures(target: int, *, are_shown: bool, asks: Literal["solution", "cards"]) -> Measures:
    """Of hands that are to make the target, or only to be named."""
    recognised = Measure(f"{_FIRST}cards_recognised", "hands recognised at once", "sight")
    if asks == "cards":
        return Measures(Measure("success", "hands recognised", "sight"), (recognised,))
    return Measures(
        Measure("success", "hands solved"),
        (
            Measure("first_try_success", "hands solved at once"),
            Measure(f"{_FIRST}numbers_used", "formulas that count by the rule", "rule"),
            Measure(f"{_FIRST}numbers_read", "numbers told by the rule", "rule"),
            Measure(f"{_FIRST}makes_target", f"formulas that make {target}, of any numbers", "rest"),
            Measure(f"{_FIRST}formula_legal", "legal formulas", "rest"),
            *([recognised] if are_shown else []),
        ),
    )
