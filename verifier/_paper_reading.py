"""Reads a field as the original did: strict JSON, else `"key": "value"` wherever the answer holds it first.

    read_document('{"action": "stop()"}')                →  {"action": "stop()"}
    read_value({}, 'so: "action": "stop()",', "action")  →  "stop()"

Only the last `WINDOW` characters of an answer are read, as everywhere, so that hostile text costs no more than a
long answer.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from verifier.answer_format import WINDOW

NOTHING = "None"
"""What the original reads where it finds nothing."""


def read_window(answer: str) -> str:
    """The part of the answer that is read."""
    return answer[-WINDOW:]


def read_document(answer: str) -> Mapping[str, Any]:
    """The fields of an answer that is one JSON object; none where it is anything else."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):  # no JSON, or braces nested too deeply
        return {}
    return document if isinstance(document, dict) else {}


def read_value(document: Mapping[str, Any], answer: str, key: str) -> Any:
    """What the JSON object has for the key; else the first double-quoted text behind it, on one line."""
    if key in document:
        return document[key]
    found = re.search(rf'"{key}": "([^"\n]*)"', answer)
    return found[1] if found else NOTHING
