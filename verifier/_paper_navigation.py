"""Route answers as the original scored them: the preset `paper`.

    | outcome           | earns | when                                                                     |
    | correct           | +1    | the text of `action` equals the right action, letter for letter          |
    | wrong_recognition | −1.5  | wrong action, and the observation says "intersection" where the landmark |
    |                   |       | text of the place does not, or the other way round                       |
    | wrong_action      | −1    | any other answer                                                         |
    | attempts_exceeded | −1    | the one answer after the last scored attempt, whatever it says           |

What `corrected` does otherwise:

    |                        | `paper`                                  | `corrected`                       |
    | intersections are      | in the landmark's text, which never      | in what the route says of the     |
    | looked for             | tells of them: at a real intersection a  | place                             |
    |                        | true observation earns −1.5 and is told  |                                   |
    |                        | that it is false                         |                                   |
    | landmarks              | are never looked at                      | missed or misnamed, they make a   |
    |                        |                                          | wrong action wrong_recognition    |
    | spelling of the action | exact                                    | any case, spaces and quotes; `()` |
    |                        |                                          | may be absent                     |
    | reading the answer     | strict JSON, else `"key": "value"` with  | any spelling                      |
    |                        | one space, the first match; nothing      |                                   |
    |                        | found reads as the text `None`           |                                   |
    | no action              | wrong_action, or wrong_recognition       | unreadable                        |

What the original does otherwise than `paper`:

    |                                 | the original                       | `paper`                        |
    | a wrong action, and a `current  | crashes (TypeError)                | the observation claims nothing |
    | observation` that is a number,  |                                    |                                |
    | true, false or null             |                                    |                                |
    | an answer of over 32,768        | is read in full                    | only its last 32,768           |
    | characters                      |                                    | characters are read            |
    | the messages                    | its own words                      | ours                           |

An observation that is a list or an object claims an intersection, in both, where "intersection" is one of its
elements or keys. Checks and spans are those of `corrected`. Where only the observation is asked for, which the
original never does, both presets judge alike.
"""

from typing import Any

from verifier._paper_reading import read_document, read_value, read_window


def outcome(answer: str, action: str, landmark_text: str) -> tuple[str, str]:
    """The original's outcome for an answer, and its feedback in our words."""
    answer = read_window(answer)
    document = read_document(answer)
    if read_value(document, answer, "action") == action:
        return "correct", "Correct."
    claimed = _claims_intersection(read_value(document, answer, "current observation"))
    if claimed and "intersection" not in landmark_text:
        return "wrong_recognition", "You are not at an intersection, so that action is wrong."
    if not claimed and "intersection" in landmark_text:
        return "wrong_recognition", "You are at an intersection, so that action is wrong."
    return "wrong_action", "That action is wrong."


def _claims_intersection(observation: Any) -> bool:
    """What Python's `in` says, of a text, a list or an object; nothing can be in anything else."""
    return isinstance(observation, str | list | dict) and "intersection" in observation
