"""The words in which route navigation asks; several ways to say the same.

RouteWords.draw(wording, generator)       one way to say each part, kept for a whole episode
  .sentences(route, turns)                the numbered instructions: two for each segment
  .question(…), .retry_request(feedback)  what the model reads
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from envs._routes.dataset import Route
from envs._routes.rail import DIRECTIONS, FORWARD, STOP, RailPosition, Vocabulary, turn_to
from envs.revision import RETRY, asked_again
from envs.wording import Wording, pick

_NO_LANDMARK = "No landmark nearby"
_INTERSECTION = "this is an intersection"
_IN_THE_PICTURE = "what the picture shows"

# Each part of a question, and the ways to say it; the first is the fixed wording.
_PARTS = {
    "task": [
        "You follow a route through a city, one action at a time. Below are the actions to choose from, the"
        " instructions, and what you have observed and done so far.",
        "Guide a walker along a route. You find below which actions there are, how the route is described,"
        " and what has been observed and done up to now.",
        "Navigate a city street by street: carry out the instructions below one after another, with one"
        " action each time you are asked.",
        "You are walking to a destination and were told the way in numbered sentences. Work out how far you"
        " have come, and choose the next action.",
        "Below is a description of a way through town, and a record of the part that you have already"
        " walked. Decide what comes next.",
    ],
    "look": [
        "You are somewhere on the route below. Say which of its landmarks is at this place, if any, and"
        " whether this is an intersection.",
        "This place is on the route that is described below. Is one of the route's landmarks here, and is"
        " it an intersection?",
        "Somewhere along this route you look around. Which landmark that the route mentions is here, if"
        " any? Tell also whether you stand at an intersection.",
        "Report what is here: the landmark, if it is one of those along the route, and the intersection, if it is one.",
    ],
    "picture": [
        "The picture shows this place in four views: to the front (upper left), to your right (upper"
        " right), to the back (lower left) and to your left (lower right).",
        "Four views make up the picture of this place. The upper row looks ahead of you and to your right,"
        " the lower row behind you and to your left.",
        "In the picture you see your surroundings: ahead (upper left), right (upper right), behind (lower"
        " left) and left (lower right).",
        "The picture is a grid of views from where you stand: front and right in its first row, back and"
        " left in its second.",
    ],
    "actions": [
        "Actions:",
        "You can do one of these:",
        "Choose among these actions:",
        "What you can do:",
    ],
    "route": [
        "Route:",
        "The way, in numbered sentences:",
        "Instructions:",
        "How to get there:",
    ],
    "history": [
        "So far (O: observation, A: action), the last line being now:",
        "The record, where O is what was observed and A what was done; it ends at this moment:",
        "Observations (O) and actions (A) up to the present:",
        "What you saw (O) and did (A); the last line is where you are:",
    ],
    "answer": [
        "Answer with JSON only:",
        "Reply with nothing but JSON:",
        "Write your answer as one JSON object:",
        "Your answer is a JSON object and nothing else:",
    ],
    "turn": [
        "Turn {turn}, to face {compass}.",
        "Turn {turn} so that you are headed {compass}.",
        "Face {compass}: turn {turn}.",
        "Head {compass}, which is {turn} of where you face.",
    ],
    "go_on": [
        "Go forward to the next intersection{where}.",
        "Walk on until the next intersection{where}.",
        "Keep going up to the next intersection{where}.",
        "Move ahead as far as the next intersection{where}.",
    ],
    "arrive": [
        "Go forward until {destination}.",
        "Walk on until {destination}.",
        "Keep going; you are there when {destination}.",
        "Move ahead and stop where {destination}.",
    ],
    "retry": [
        RETRY,
        "{feedback} Try once more, in the same format.",
        "Not accepted. {feedback} Give another answer, in the JSON format from before.",
        "{feedback} Please answer this question again in the same form.",
    ],
}
_FIELDS = {
    "thinking": "how far you have come, and what follows from it",
    "current observation": "what is at this place",
    "current instruction": "the sentence of the route to carry out now",
    "action": "the action to take now",
}
_TURN_HELP: dict[Vocabulary, str] = {
    "absolute": "turn to face x and go on to the next place; x is one of",
    "relative": "turn x from where you face and go on to the next place; x is one of",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteWords:
    """One way to say each part of a question.

    `RouteWords(task="Navigate a city …", …, turn="Face {compass}: turn {turn}.", …)`
    """

    task: str
    look: str
    """The task where only an observation is asked for."""
    picture: str
    actions: str
    route: str
    history: str
    answer: str
    turn: str
    go_on: str
    arrive: str
    retry: str

    @staticmethod
    def draw(wording: Wording, generator: Random) -> "RouteWords":
        """The fixed words, or any."""
        return RouteWords(**{part: pick(choices, wording, generator) for part, choices in _PARTS.items()})

    def sentences(self, route: Route, turns: Sequence[str]) -> tuple[str, ...]:
        """For each segment where to turn, in both vocabularies, and how far to go."""
        sentences: list[str] = []
        for segment, turn in zip(route.segments, turns, strict=True):
            sentences.append(self.turn.format(turn=turn, compass=segment.compass))
            seen = segment.landmark.text if segment.landmark else ""
            if segment is route.segments[-1]:
                sentences.append(self.arrive.format(destination=_destination(seen)))
            else:
                sentences.append(self.go_on.format(where=f", where {seen}" if seen else ""))
        return tuple(sentences)

    def question(
        self,
        sentences: Sequence[str],
        walked: Sequence[RailPosition],
        *,
        vocabulary: Vocabulary,
        fields: Sequence[str],
        in_picture: bool,
        tells_intersection: bool,
    ) -> str:
        """All that the model reads at the last of the places walked.

        `tells_intersection` says whether the words give an intersection away that a picture shows.
        """
        asks_action = "action" in fields
        blocks = [self.task if asks_action else self.look]
        if in_picture:
            blocks.append(self.picture)
        if asks_action:
            blocks.append("\n".join([self.actions, *_action_lines(vocabulary)]))
        blocks.append("\n".join([self.route, *(f"{i}. {text}" for i, text in enumerate(sentences, start=1))]))
        if asks_action:
            now = observation(walked[-1])
            if in_picture:
                now = _with_intersection(_IN_THE_PICTURE, tells_intersection and walked[-1].intersection)
            blocks.append("\n".join([self.history, *_history_lines(walked[:-1], now, vocabulary)]))
        skeleton = json.dumps({field: _FIELDS[field] for field in fields}, indent=2)
        blocks.append(f"{self.answer}\n{skeleton}")
        return "\n\n".join(blocks)

    def retry_request(self, feedback: str) -> str:
        """What the model reads after a wrong answer."""
        return asked_again(self.retry, feedback)


def landmark_text(position: RailPosition) -> str:
    """What is said of landmarks at a place."""
    return position.landmark.text if position.landmark else _NO_LANDMARK


def _destination(seen: str) -> str:
    """The text for the destination, in the middle of a sentence; not all data call it one."""
    named = seen if seen.lower().startswith("the destination ") else f"The destination {seen}"
    return named[:1].lower() + named[1:]


def observation(position: RailPosition) -> str:
    """What is at a place, in words."""
    return _with_intersection(landmark_text(position), position.intersection)


def _with_intersection(text: str, intersection: bool) -> str:
    return f"{text}; {_INTERSECTION}" if intersection else text


def _action_lines(vocabulary: Vocabulary) -> list[str]:
    return [
        f"- {FORWARD}: go straight on to the next place",
        f"- {turn_to('x')}: {_TURN_HELP[vocabulary]} {', '.join(DIRECTIONS[vocabulary])}",
        f"- {STOP}: stay here, because this is the destination",
    ]


def _history_lines(walked: Sequence[RailPosition], now: str, vocabulary: Vocabulary) -> list[str]:
    lines: list[str] = []
    for number, position in enumerate(walked, start=1):
        lines += [f"O_{number}: {observation(position)}", f"A_{number}: {position.actions[vocabulary]}"]
    return [*lines, f"O_{len(walked) + 1}: {now}"]
