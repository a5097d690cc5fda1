"""One wording for all questions, or several ways to say the same: an option of most environments."""

from collections.abc import Sequence
from random import Random
from typing import Literal

Wording = Literal["fixed", "diverse"]


def pick(choices: Sequence[str], wording: Wording, generator: Random) -> str:
    """The first of the choices where the wording is fixed, else any."""
    return choices[0] if wording == "fixed" else generator.choice(choices)
