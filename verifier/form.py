"""Whether an answer is written as was asked, where a verifier is to mind that.

read_as_asked(answer, names, form)               →  its fields; none where it has another form
has_form('{"formula": "1+2=3"}', "json")         →  True
has_form('The answer: {"formula": …}', "json")   →  False: something stands around it
"""

import json
from collections.abc import Sequence
from typing import Literal

from verifier.answer_format import Field, read_fields

Form = Literal["any", "json", "original"]


def read_as_asked(answer: str, names: Sequence[str], form: Form) -> dict[str, Field]:
    """The wanted fields of the answer that counts."""
    return read_fields(answer, names) if has_form(answer, form) else {}


def has_form(answer: str, form: Form) -> bool:
    """`json`: one JSON object and nothing else. `original`: brackets on lines of their own and a field on each line
    between them, with a comma behind it, which is no JSON."""
    answer = answer.strip()
    if form == "json":
        try:
            return isinstance(json.loads(answer), dict)
        except (ValueError, RecursionError):
            return False
    if form == "original":
        first, *fields, last = answer.split("\n") if "\n" in answer else ("", "")
        return (first, last) == ("{", "}") and all(line.startswith('"') and line.endswith(",") for line in fields)
    return True


def as_asked(form: Form) -> str:
    """What an answer is told that cannot be read."""
    return f"answer in the {'form' if form == 'original' else 'JSON format'} that was asked for."
