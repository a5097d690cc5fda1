r"""Text from files or from a model that may stand in a terminal: it shows letters and commands nothing.

    printable("\x1b[2J Café\n")   →  "\\x1b[2J Café\n"

A control character can clear a screen, rename a window or type into it; a lone surrogate ends the program that
prints it; a direction mark shows the words in another order than they have. Lines and tabs are kept.
"""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text, with each sign that no terminal should get written as its escape."""
    return _UNPRINTABLE.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


def is_printable(text: str) -> bool:
    """Whether a terminal can show all of it as it stands."""
    return not _UNPRINTABLE.search(text)
