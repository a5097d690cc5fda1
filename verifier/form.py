"""Whether an answer is written as was asked, where a verifier is to mind that.

has_form('{"formula": "1+2=3"}', "json")         →  True
has_form('The answer: {"formula": …}', "json")   →  False: something stands around it
"""

import json
from typing import Literal

Form = Literal["any", "json", "original"]


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
