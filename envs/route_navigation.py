"""Route navigation: follow written instructions through a city, in words or with street views.

    question ─▶ answer ─▶ right: one place further, and the dialogue starts anew with the longer record
                       └▶ wrong: the same place again with the verdict, until the attempts are used up

What can shift between training and test: the rule (turns named by the compass or from where one faces), the
look (another city, or the same with another `city.look`), the wording. `training_actions` names the vocabulary of
training where a test uses the other one. Preset `paper` differs from `corrected` in four things, each a fault of the
original:

    |                         | corrected                      | paper                                    |
    | word for a turn         | difference of headings wrapped | as it stands: from 350° to 10° is "left" |
    | views of a picture      | front, right, back, left       | 45° between these, under the same labels |
    | text beside a picture   | leaves intersections to it     | says whether this is an intersection     |
    | after the last attempt  | the episode is over            | one more answer, punished unread         |

A fifth fault of the original is not repeated: after a segment of at most 5 m its count of sentences stays one
behind for the rest of the route, so that the sentence it holds to be the current one is not. It scores nothing
by that sentence.
"""

import json
from dataclasses import replace
from functools import partial
from random import Random

from PIL.Image import Image

from envs._city.cache import city_folder
from envs._routes.dataset import LeftOut, Route, load_routes
from envs._routes.options import Config
from envs._routes.rail import DIRECTIONS, FORWARD, STOP, RailPosition, Vocabulary, lay_rail, turn_to, turn_words
from envs._routes.wording import RouteWords, landmark_text, observation
from envs.protocol import (
    SPLITS,
    Drawn,
    EnvError,
    OpenEpisode,
    Question,
    Split,
    first_wrong,
    generator_for,
)
from verifier.config import VerifierConfig
from verifier.navigation import NavigationVerifier, Position
from verifier.protocol import Verdict


class Environment:
    """Asks for one action after another along a route."""

    def __init__(self, config: Config, verifier_config: VerifierConfig) -> None:
        self.config = config
        self.verifier = NavigationVerifier(verifier_config)
        pictures = config.modality == "pictures"
        self._set = load_routes(
            config.dataset or city_folder(config.city, pictures=pictures),
            places_per_segment=config.straight_line_length,
            pictures=pictures,
            strict=config.strict_data,
        )
        self._entries: dict[Split, tuple[Route | LeftOut, ...]] = {
            split: tuple(e for e in self._set.entries if e.identity and config.admits(f"route {e.identity}", split))
            for split in SPLITS
        }
        self.routes: dict[Split, tuple[Route, ...]] = {
            split: tuple(entry for entry in entries if isinstance(entry, Route))
            for split, entries in self._entries.items()
        }

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The routes of the data set that cannot be played, each with the reason."""
        return self._set.left_out

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The route that `seed` stands for; where it asks and which way one faces at first are drawn too."""
        routes = self.routes[split]
        if not routes:
            unplayable = f" ({len(self.left_out)} more cannot be played)" if self.left_out else ""
            raise EnvError(
                f"none of the {len(self._set.routes)} routes in {self._set.folder}{unplayable} "
                f"is in the {split} split; "
                "change env.validation_fraction or env.test_fraction, add routes, or set env.splits: none"
            )
        if self.config.route_order == "sequential":
            route = routes[seed % len(routes)]
        else:
            # Drawn again where the lot falls on a route that is left out, so that the other seeds keep their routes.
            generator = generator_for("route_navigation route", split, seed)
            while not isinstance(route := generator.choice(self._entries[split]), Route):
                pass
        return _Walk(self, route, seed, split)

    def picture(self, position: RailPosition) -> Image:
        """What is seen around a place."""
        # Loads numpy, which routes in words do without.
        from envs._routes.street_views import four_views, load_panorama

        panorama = position.stop.panorama
        return four_views(
            load_panorama(self._set.picture(panorama)),
            heading=position.heading,
            rotation=self._set.rotations[panorama],
            size=self.config.image_size,
            preset=self.config.preset,
        )


class _Walk:
    """One route in play."""

    def __init__(self, environment: Environment, route: Route, seed: int, split: Split) -> None:
        self._environment = environment
        self._config = config = environment.config
        heading = route.initial_heading
        if heading is None:
            heading = float(generator_for("route_navigation heading", split, seed).randrange(360))
        turns = turn_words(route, heading, wrap=config.preset == "corrected")
        places = generator_for("route_navigation places", split, seed)
        self._rail = lay_rail(route, heading, turns, drop_probability=config.drop_probability, generator=places)
        self._words = RouteWords.draw(config.wording, generator_for("route_navigation wording", split, seed))
        self._sentences = self._words.sentences(route, turns)
        self._landmarks = tuple(segment.landmark.name for segment in route.segments if segment.landmark)
        self._index = 0
        self._attempt = 1
        self._all_right = True
        self.solved = False

    def first_question(self) -> Question:
        """The question at the start."""
        return self._question()

    @property
    def num_places(self) -> int:
        """At how many places one is asked, from the start to the destination."""
        return len(self._rail)

    @property
    def turning_places(self) -> tuple[int, ...]:
        """Those at which to turn."""
        actions = [position.actions["absolute"] for position in self._rail]
        return tuple(place for place, action in enumerate(actions) if action not in (FORWARD, STOP))

    def question_at(self, place: int) -> Question:
        """The question of someone who has come as far as this place, from 0, by right answers alone."""
        self._index, self._attempt = place, 1
        return self._question()

    def next_question(self, answer: str, verdict: Verdict) -> Question | None:
        """The next place after a right answer, the same place again after a wrong one."""
        if verdict.correct or self._config.teacher_forced:
            self._all_right &= verdict.correct
            self._index += 1
            self._attempt = 1
            if self._index == len(self._rail):
                self.solved = self._all_right
                return None
            return replace(self._question(), starts_new_context=True)
        self._attempt += 1
        is_scored = self._attempt <= self._config.max_attempts
        asks_unscored = self._config.preset == "paper" and self._attempt == self._config.max_attempts + 1
        if not (is_scored or asks_unscored):
            return None
        return Question(
            text=self._words.retry_request(verdict.feedback),
            reference=replace(self._reference(), scored=is_scored),
            expert_answer=self._answer(self._here),
            step=self._index + 1,
            attempt=self._attempt,
        )

    def mistake(self, generator: Random) -> str:
        """What someone answers who has lost the way, reads the rule wrongly or sees something else."""
        reference = self._reference()
        return first_wrong(
            lambda: self._draw_mistake(generator),
            lambda answer: not self._environment.verifier.judge(answer, reference).correct,
        )

    @property
    def _here(self) -> RailPosition:
        return self._rail[self._index]

    def _question(self) -> Question:
        config = self._config
        shown = config.modality == "pictures"
        return Question(
            text=self._words.question(
                self._sentences,
                self._rail[: self._index + 1],
                vocabulary=config.actions,
                fields=self._fields,
                in_picture=shown,
                tells_intersection=config.preset == "paper",
            ),
            images=Drawn(partial(self._environment.picture, self._here)) if shown else (),
            reference=self._reference(),
            expert_answer=self._answer(self._here),
            step=self._index + 1,
        )

    def _reference(self) -> Position:
        config, here = self._config, self._here
        action = here.actions[config.actions]
        trained = here.actions[config.training_actions or config.actions]
        landmark = here.landmark.name if here.landmark else None
        return Position(
            action=action,
            intersection=here.intersection,
            landmark=landmark,
            landmark_text=landmark_text(here),
            instruction=self._sentences[here.sentence],
            other_landmarks=tuple(name for name in self._landmarks if name != landmark),
            choices=(FORWARD, STOP, *map(turn_to, DIRECTIONS[config.actions])),
            training_action=trained if trained != action else None,
            asks=config.asks,
        )

    @property
    def _fields(self) -> tuple[str, ...]:
        asked = ("current observation",)
        if self._config.asks == "action":
            asked += ("current instruction", "action")
        return ("thinking", *asked) if self._config.thinking else asked

    def _answer(self, seen: RailPosition, sentence: int | None = None, action: str | None = None) -> str:
        """The answer of someone who sees that place, and does the right thing if nothing else is said."""
        sentence = self._here.sentence if sentence is None else sentence
        action = action or self._here.actions[self._config.actions]
        values = {
            "thinking": f"I have taken {self._index} actions. Here: {observation(seen)}. "
            f"Sentence {sentence + 1} is next: {self._sentences[sentence]} So I choose {action}.",
            "current observation": observation(seen),
            "current instruction": self._sentences[sentence],
            "action": action,
        }
        return json.dumps({field: values[field] for field in self._fields}, ensure_ascii=False)

    def _draw_mistake(self, generator: Random) -> str:
        here = self._here
        misread = generator.choice([replace(here, intersection=not here.intersection), generator.choice(self._rail)])
        if self._config.asks == "recognition":
            return self._answer(misread)
        turn = turn_to(generator.choice(DIRECTIONS[self._config.actions]))
        other_rule: Vocabulary = "relative" if self._config.actions == "absolute" else "absolute"
        return self._answer(
            seen=generator.choice([here, here, misread]),
            sentence=generator.choice([here.sentence, here.sentence, generator.randrange(len(self._sentences))]),
            action=generator.choice([turn, turn, FORWARD, STOP, here.actions[other_rule]]),
        )
