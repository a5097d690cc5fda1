"""The options of `route_navigation`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from envs._city.cache import CityConfig
from envs._routes.measures import describe_routes, route_measures
from envs._routes.rail import Vocabulary
from envs.protocol import Description, Measures
from envs.splits import SplitConfig
from envs.wording import Wording


class Config(SplitConfig):
    """The options of `route_navigation`."""

    rule_options: ClassVar = ("actions",)
    look_options: ClassVar = ("dataset", "city.style", "city.seed", "city.look", "city.pairs", "image_size")
    task_options: ClassVar = ("modality", "asks", "wording", "thinking")

    max_attempts: int = Field(default=2, ge=1, le=100)
    """How many answers at one place are judged before the route counts as failed."""
    preset: Literal["corrected", "paper"] = "corrected"
    """`paper` repeats four faults of the original (see the top of `envs/route_navigation.py`), so that its figures can
    be compared."""
    dataset: Path | None = None
    """A folder with `route_infos.json`, `gps_pano_mapping.pkl` and, for pictures, `street_views/`; without one, a
    made-up city is used."""
    strict_data: bool = False
    """Whether a data set is refused as a whole where one of its routes cannot be played; otherwise that route is
    left out, and the others keep their splits and seeds."""
    city: CityConfig = CityConfig()
    """The made-up city; it is built when it is first asked for, and kept in the cache folder."""
    modality: Literal["text", "pictures"] = "text"
    """Whether the current place is described in words or shown."""
    image_size: int = Field(default=448, ge=64, le=4096)
    """Width and height of a picture in pixels; the original's are 2405."""
    asks: Literal["action", "recognition"] = "action"
    """`action`: what to do. `recognition`: only what is seen in the picture."""
    actions: Vocabulary = "absolute"
    """How turns are named: `absolute`, by the compass, or `relative`, from where one faces."""
    training_actions: Vocabulary | None = None
    """How turns were named in training, where this environment tests the other way."""
    straight_line_length: int = Field(default=5, ge=1, le=50)
    """Into how many equal parts a segment is divided; where two of them meet, the traveller may be asked."""
    drop_probability: float = Field(default=0.5, ge=0, le=1)
    """The chance of each such place to be left out, drawn anew for each episode."""
    teacher_forced: bool = False
    """Whether every place of a route is asked about once, whatever was answered before; a route is then solved when
    all answers are right. This measures each kind of action, even of a model that fails at the first."""
    route_order: Literal["random", "sequential"] = "random"
    """`sequential`: seed 0 is the first route of the split that can be played, seed 1 the second, and so on around."""
    wording: Wording = "fixed"
    """One wording for all questions, or any of several paraphrases for each episode."""
    thinking: bool = False
    """Whether the answer begins with a `thinking` field; demonstrations then say how far one has come."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        if self.dataset is not None and self.city != CityConfig():
            raise ValueError("dataset and city are both given; routes come from one of them, so leave the other out")
        if self.asks == "recognition" and self.modality == "text":
            raise ValueError("asks=recognition needs modality=pictures; in words the place would stand in the question")
        return self

    def measures(self) -> Measures:
        """Turns, the other actions, and what is seen."""
        return route_measures(are_shown=self.modality == "pictures", asks=self.asks)

    def description(self) -> Description:
        """Routes, how turns are named and, where it is seen, the city."""
        city = self.dataset.name if self.dataset else self.city.look or self.city.style
        return describe_routes(self.modality, self.actions, city)
