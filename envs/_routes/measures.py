"""What routes are measured by: the turns, since no rule changes what else is to be done at a place.

Seven of ten places ask to go on or to stop, and a policy that has forgotten the rule is right there as before.
"""

from typing import Literal

from envs._routes.rail import Vocabulary
from envs.protocol import Description, Measure, Measures

_FIRST = "checks_at_first_attempt/"
_STEP = "per_step_accuracy"


def route_measures(*, are_shown: bool, asks: Literal["action", "recognition"]) -> Measures:
    """Of routes that are to be followed, or whose places are only to be told."""
    landmarks = Measure(f"{_FIRST}landmark_recognised", "landmarks recognised", "sight")
    crossings = Measure(f"{_FIRST}intersection_recognised", "intersections recognised", "sight")
    if asks == "recognition":
        headline = Measure(_STEP, "places recognised", "sight")
        return Measures(headline, (Measure("success", "whole routes recognised", "sight"), landmarks, crossings))
    seen = Measure(f"{_FIRST}place_recognised", "places recognised", "sight")
    repeated = Measure(seen.name, "places told as they are", "rest")
    return Measures(
        Measure(f"{_STEP}/turn_direction", "correct turns", "rule"),
        (
            Measure(_STEP, "correct steps of all kinds"),
            Measure("success", "whole routes"),
            Measure(f"{_STEP}/forward", "correct steps forward", "rest"),
            Measure(f"{_STEP}/stop", "correct stops", "rest"),
            Measure(f"{_FIRST}instruction_read", "instructions told as they are", "rest"),
            *((seen, landmarks, crossings) if are_shown else (repeated,)),
        ),
    )


def describe_routes(modality: Literal["text", "pictures"], actions: Vocabulary, city: str) -> Description:
    """Routes, how turns are named and, where it is seen, the city."""
    rule = "turns go by the compass" if actions == "absolute" else "turns go left and right"
    return Description("routes in words", rule) if modality == "text" else Description("routes in pictures", rule, city)
