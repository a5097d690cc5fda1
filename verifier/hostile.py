"""Texts that are meant to cost a verifier all the time they can, for tests and measurements.

    for name, text in hostile_texts(10**6):
        verifier.judge(text, reference)    # soon, without raising, never correct

What makes a text hostile is a piece that begins something and never ends it, or many small things that each
cost a step; it stands everywhere, or in one field at the end of the answer, where every verifier looks.
"""

from collections.abc import Iterator

from verifier.answer_format import WINDOW

_EVERYWHERE = (
    *("{", "}", "{}", "{x}", "[", "]", "(", '"', "'", "“", "\\", " ", "a ", "a  ", "a:", "a", "1", "\0", "\n", "😀"),
    *(
        '{"a":',
        '"a" ',
        '"a":"b",',
        '[{"formula":',
        '{"formula":"1"},',
        "formula:",
        "formula:1,",
        "formula:'",
        "formula: [",
    ),
    *('formula: "', "formula: (\"'", 'formula "', '"formula": "', '"formula": "\n', '"action": "', '"action": "\n'),
    *(
        '"cards": [',
        '"cards": [7,',
        '"cards": []',
        "cards:[[",
        "cards: [[[]],",
        "intersection ",
        "current observation: ",
    ),
)

# Of the fields that hold numbers, and of those that hold words.
_NUMBERS = ("(", ")", "()", "1", "0", "1+", "+", "1=", "7+5*", "１", "٣", "⁷", "7,", "A, ", "[", "\\u0041", "\\\\")
_WORDS = (
    *(
        "(x",
        "; ",
        "intersection ",
        "not an intersection, ",
        "the | ",
        "a and ",
        "is on your left ",
        "-",
        " ",
        "a",
        "\\n",
    ),
    # A character of 18 letters, and accents whose order Unicode's normal form puts right.
    *("ﷺ", "İ", "½", "\u0344", "\u0301\u0316", "a\u0301", "\\ud83d"),
)
_IN_A_FIELD = {
    **dict.fromkeys(("cards", "number", "formula"), _NUMBERS),
    **dict.fromkeys(("current observation", "current instruction", "action"), _WORDS),
}


def hostile_texts(num_characters: int) -> Iterator[tuple[str, str]]:
    """Names and texts of exactly so many characters."""
    for piece in _EVERYWHERE:
        yield f"{piece!r} everywhere", _repeated(piece, num_characters)
    for field, pieces in _IN_A_FIELD.items():
        for piece in pieces:
            yield f"{piece!r} in {field}", _in_a_field(field, piece, num_characters)


def _repeated(piece: str, num_characters: int) -> str:
    return (piece * (num_characters // len(piece) + 1))[:num_characters]


def _in_a_field(field: str, piece: str, num_characters: int) -> str:
    """An answer whose other fields are ordinary, so that nothing ends the judging early; all of it in the window."""
    others = {"formula": "7+5+10+(4", "current observation": "x", "action": "x"}
    quoted = ", ".join(f'"{name}": "{value}"' for name, value in others.items() if name != field)
    head, tail = f'{{{quoted}, "{field}": "', '"}'
    length = min(num_characters, WINDOW) - len(head) - len(tail)
    # A piece cut in two could be half an escape, and the quotation mark behind it no end.
    body = piece * (length // len(piece))
    return " " * (num_characters - len(head) - len(body) - len(tail)) + head + body + tail
