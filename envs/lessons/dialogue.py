"""Lessons over any environment: its questions, its right answers, and its learner's mistakes.

answers: right    the right answer; in some lessons behind wrong ones, which are only shown
answers: mixed    right and wrong answers, all learned: a model that knows more than it usually says
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any, ClassVar, Literal

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field

from envs.catalog import make_environment
from envs.protocol import Env, EnvConfig, EnvError, OpenEpisode, Question
from verifier.config import VerifierConfig


class LessonOptions(BaseModel):
    """What lessons are made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weight: float = Field(default=1.0, gt=0)
    """How many of a stage's lessons these are, beside those of its other environments."""
    answers: Literal["right", "mixed"] = "right"
    """`right`: only right answers are learned. `mixed`: right and wrong ones."""
    revised_fraction: float = Field(default=0.25, ge=0, le=1)
    """With answers `right`, the share of lessons in which one or two wrong answers are shown first."""
    right_chance: float = Field(default=0.4, gt=0, le=1)
    """With answers `mixed`, the chance of each answer to be right."""
    max_turns: int = Field(default=4, ge=1)
    """With answers `mixed`, the most answers of a lesson; the first right one ends it."""
    last_is_right: bool = False
    """With answers `mixed`, whether the last answer of a lesson that goes on to its end is right."""
    vary: dict[str, tuple[Any, ...]] = {}
    """Values of the environment's options, one of which is drawn for each lesson, as in `{suits: [black, red]}` or
    `{city.seed: [1, 2, 3]}`; a value that stands there twice is drawn twice as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonTurn:
    """One question and its answer: `LessonTurn(question="Make 24 …", answer='{"cards": …}', is_learned=True)`."""

    question: str
    """What is asked: the task, or the verdict on the answer before."""
    images: Sequence[Image] = ()
    """What is shown beside it."""
    answer: str
    """What is answered."""
    is_learned: bool
    """Whether the answer is imitated, or only shown to what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A dialogue about one question."""

    reference: Any
    """What the answers are judged by."""
    turns: tuple[LessonTurn, ...]
    """What is asked and answered, in order."""


Lessons = LessonOptions


class DialogueTeacher:
    """Draws lessons; `env` says what is held out, and what the ordinary task is."""

    UNSAID: ClassVar[Sequence[str]] = ()
    """Options that change no wording, nor the first part of such an option's name."""

    def __init__(self, options: LessonOptions, env: EnvConfig) -> None:
        self.options, self.env = options, env
        self._environments: dict[str, Env] = {}

    def lesson(self, seed: str) -> Lesson:
        """The lesson that the seed stands for."""
        options = self.options
        generator = Random(f"lesson/{seed}")
        environment = self.draw_environment(generator)
        episode, question = self.open(environment, generator)
        reference = question.reference
        num_shown = generator.choice((1, 2)) if generator.random() < options.revised_fraction else 0
        num_turns = options.max_turns if options.answers == "mixed" else num_shown + 1
        turns: list[LessonTurn] = []
        while question is not None and len(turns) < num_turns:
            is_last = len(turns) == num_turns - 1
            if options.answers == "mixed":
                is_right = generator.random() < options.right_chance or (is_last and options.last_is_right)
            else:
                is_right = is_last
            answer, may_be_learned = question.expert_answer, True
            if not is_right:
                answer, may_be_learned = self.wrong_answer(environment, question, episode, generator, is_last)
            verdict = environment.verifier.judge(answer, question.reference)
            # A random answer that happens to be right ends the lesson early, and is as good as the expert's.
            is_learned = may_be_learned and (verdict.correct or options.answers == "mixed")
            turns.append(
                LessonTurn(question=question.text, images=question.images, answer=answer, is_learned=is_learned)
            )
            question = None if verdict.correct else episode.next_question(answer, verdict)
        return Lesson(reference=reference, turns=tuple(turns))

    def wordings(self) -> list[EnvConfig]:
        """The environments of lessons, as far as they differ in what is said."""
        said = {key: values for key, values in self.options.vary.items() if key.partition(".")[0] not in self.UNSAID}
        return [self.varied(dict(zip(said, values, strict=True))) for values in product(*said.values())]

    def words(self) -> tuple[str, ...]:
        """What stands for something by itself wherever it is said, so that a tokenizer should keep it apart."""
        return ()

    def draw_environment(self, generator: Random) -> Env:
        """Which environment the lesson is about."""
        return self.environment(self.draw_values(generator))

    def draw_values(self, generator: Random) -> dict[str, Any]:
        """What `vary` gives this time."""
        return {key: generator.choice(values) for key, values in self.options.vary.items()}

    def open(self, environment: Env, generator: Random) -> tuple[OpenEpisode, Question]:
        """An episode of the training split, and the question that the lesson is about."""
        episode = environment.open(generator.getrandbits(48), "train")
        return episode, episode.first_question()

    def wrong_answer(
        self, environment: Env, question: Question, episode: OpenEpisode, generator: Random, is_last: bool
    ) -> tuple[str, bool]:
        """A wrong answer, and whether it may be learned; a lesson's last answer always has to be."""
        return episode.mistake(generator), True

    def environment(self, values: dict[str, Any]) -> Env:
        """The environment with these options, made once."""
        key = repr(values)
        if key not in self._environments:
            # As many attempts as a lesson may have answers; that is nowhere said.
            max_attempts = max(self.env.max_attempts, self.options.max_turns, 3)
            config = self.varied({**values, "max_attempts": max_attempts})
            self._environments[key] = make_environment(config, VerifierConfig())
        return self._environments[key]

    def varied(self, values: dict[str, Any]) -> EnvConfig:
        """The environment's options with these in their place; a dot leads into a section."""
        options = self.env.model_dump()
        for key, value in values.items():
            *sections, last = key.split(".")
            section = options
            for name in sections:
                section = section.setdefault(name, {})
                if not isinstance(section, dict):
                    raise EnvError(f"vary.{key}: {name} has no options of its own")
            section[last] = value
        return type(self.env).model_validate(options)


Teacher = DialogueTeacher
