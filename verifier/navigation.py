"""The verifier of route following: is this the right action here, and was the place seen as it is?

The answer is read from the fields `current observation`, `current instruction` and `action` (and `thinking`,
which is never judged). One outcome per answer; the first that applies, in this order:

    | outcome           | earns | when                                                                     |
    | unreadable        | −1    | there is no `action` (no observation, where only that is asked for)      |
    | correct           | +1    | the action is the right one, in any spelling; nothing else is looked at  |
    | wrong_recognition | −1.5  | the action is wrong, and the observation contradicts the place: it       |
    |                   |       | claims an intersection where there is none or passes one over, it misses |
    |                   |       | the landmark that is there or names one that is not                      |
    | wrong_action      | −1    | any other wrong action                                                   |

Where only the observation is asked for, `correct` means that it fits the place, and `wrong_recognition` that
it does not. `attempts_exceeded` (−1) is for the answer that the original asks for after the last scored
attempt and never reads; only environments that reproduce it ask that question. Preset `paper` is
`verifier._paper_navigation`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from verifier import _paper_navigation as paper
from verifier._sightings import Sighting, holds_sentence, read_sighting
from verifier.answer_format import Field, spans_of
from verifier.config import VerifierConfig, reward_table
from verifier.form import Form, as_asked, read_as_asked
from verifier.protocol import SpanLabel, Verdict

REWARDS = {
    "correct": 1.0,
    "wrong_recognition": -1.5,
    "wrong_action": -1.0,
    "unreadable": -1.0,
    "attempts_exceeded": -1.0,
}
"""Of both presets."""

_LABELS: dict[str, SpanLabel] = {
    "thinking": "reasoning",
    "current observation": "recognition",
    "current instruction": "reasoning",
    "action": "action",
}
_FIELDS = tuple(_LABELS)
_NOT_SPELT = re.compile(r"[\s_\-\\\"'`“”‘’]+")
_QUOTED_ARGUMENT = re.compile(r"""["“]([^"”\n]{0,40})["”]\s{0,4}\)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What an answer is held against.

    At a corner with a cafe, where the next street leads north:
    `Position(action="turn_direction(north)", intersection=True, landmark="Blue Heron Cafe",
    landmark_text="Blue Heron Cafe is on your left", instruction="Turn right, to face north.")`
    """

    action: str
    """The right action."""
    intersection: bool
    """Whether this place is an intersection."""
    landmark: str | None
    """The name of the landmark at this place, if there is one."""
    landmark_text: str
    """What the route's data say of landmarks here."""
    instruction: str
    """The sentence that is to be carried out here."""
    other_landmarks: tuple[str, ...] = ()
    """The names of the landmarks at the route's other places."""
    choices: tuple[str, ...] = ()
    """The actions that the question offers; empty where feedback need not name a foreign one."""
    training_action: str | None = None
    """The right action in the vocabulary of training, where that is another one."""
    asks: Literal["action", "recognition"] = "action"
    """Whether an action is asked for, or only an observation."""
    scored: bool = True
    """False for the original's last question, whose answer is not read."""


class NavigationVerifier:
    """Judges one answer at one position of a route."""

    def __init__(self, config: VerifierConfig) -> None:
        self.preset = config.preset
        self.form: Form = config.form
        self.rewards = reward_table(REWARDS, config.rewards)

    def judge(self, answer: str, reference: Position) -> Verdict:
        """The verdict on any text whatsoever."""
        fields = read_as_asked(answer, _FIELDS, self.form)
        if "action" in fields:
            fields["action"] = _with_quoted_argument(answer, fields["action"])
        sighting = _sighting(fields, reference)
        if not reference.scored:
            outcome, feedback = "attempts_exceeded", "There are no attempts left for this place."
        elif reference.asks == "recognition":
            outcome, feedback = _recognition_outcome(sighting, reference)
        elif self.preset == "paper":
            outcome, feedback = paper.outcome(answer, reference.action, reference.landmark_text)
        else:
            outcome, feedback = _action_outcome(fields, sighting, reference)
        return Verdict(
            outcome=outcome,
            correct=outcome == "correct",
            reward=self.rewards[outcome],
            feedback=feedback,
            spans=spans_of(fields, _LABELS),
            checks=_checks(fields, sighting, reference, outcome == "correct"),
        )


def same_action(first: str, second: str) -> bool:
    """Whether two spellings mean one action: `Forward` and `forward()`, `turn_direction('north')` without quotes."""
    return _plain_action(first) == _plain_action(second)


def _plain_action(text: str) -> str:
    plain = _NOT_SPELT.sub("", text.casefold()).rstrip(".;")
    return plain if plain.endswith(")") else f"{plain}()"


def _with_quoted_argument(answer: str, action: Field) -> Field:
    """`"turn_direction("north")"` in full; by the rules of JSON it ends at its second quotation mark."""
    argument = _QUOTED_ARGUMENT.match(answer, action.end) if action.text.rstrip().endswith("(") else None
    return action._replace(text=f"{action.text}{argument[1]})", end=argument.end()) if argument else action


def _sighting(fields: dict[str, Field], reference: Position) -> Sighting | None:
    """What the observation claims; None where there is no observation."""
    if "current observation" not in fields:
        return None
    return read_sighting(fields["current observation"].text, reference.landmark, reference.other_landmarks)


def _recognition_outcome(sighting: Sighting | None, reference: Position) -> tuple[str, str]:
    if sighting is None:
        return "unreadable", _unreadable("current observation")
    if sighting.intersection == reference.intersection and sighting.landmark_fits:
        return "correct", "Correct."
    # Which part is wrong is not said: of an intersection, that would be the solution.
    return "wrong_recognition", "The observation does not fit this place; look again."


def _action_outcome(fields: dict[str, Field], sighting: Sighting | None, reference: Position) -> tuple[str, str]:
    """The first outcome that applies, and what to say."""
    if "action" not in fields:
        return "unreadable", _unreadable("action")
    action = fields["action"].text
    if same_action(action, reference.action):
        return "correct", "Correct."
    if sighting is not None and sighting.intersection != reference.intersection:
        fault = "there is no intersection here" if sighting.intersection else "this is an intersection"
        return "wrong_recognition", f"The action is wrong, and so is the observation: {fault}."
    if sighting is not None and not sighting.landmark_fits:
        return (
            "wrong_recognition",
            "The action is wrong, and the observation has the landmarks of this place wrong.",
        )
    if reference.choices and not any(same_action(action, choice) for choice in reference.choices):
        return "wrong_action", "That is none of the actions to choose from."
    return "wrong_action", "That action is not what the route asks for here."


def _unreadable(field: str) -> str:
    return f'The answer has no readable "{field}" field; {as_asked("json")}'


def _checks(fields: dict[str, Field], sighting: Sighting | None, reference: Position, correct: bool) -> dict[str, bool]:
    """The side facts of an answer; those that the question does not ask for are absent."""
    intersection = sighting is not None and sighting.intersection == reference.intersection
    landmark = sighting is not None and sighting.landmark_fits
    checks = {
        "readable": ("current observation" if reference.asks == "recognition" else "action") in fields,
        "intersection_recognised": intersection,
        "landmark_recognised": landmark,
        "place_recognised": intersection and landmark,
    }
    if reference.asks == "recognition":
        return checks
    # Which kind of action is right can be told only here: a wrong answer does not show it.
    checks[f"{reference.action.partition('(')[0]}_correct"] = correct
    instruction = fields.get("current instruction")
    checks["instruction_read"] = instruction is not None and holds_sentence(instruction.text, reference.instruction)
    if reference.training_action is not None:
        action = fields.get("action")
        checks["right_under_training_rule"] = action is not None and same_action(action.text, reference.training_action)
    return checks
