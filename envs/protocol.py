"""What an environment is: it poses questions in words and pictures, and never sees a token.

    Environment(config, verifier).open(seed, split)  →  OpenEpisode
    OpenEpisode.first_question()                     →  Question
    verifier.judge(answer, question.reference)       →  Verdict
    OpenEpisode.next_question(answer, verdict)       →  Question, or None when the episode is over

An environment module holds two classes, `Config` and `Environment`; that is all the registration there is
(see `envs.catalog`). Its `Config` also says what the task is measured by, and which options are its rule and its look.
`(config, split, seed)` decides every question: no clock, no global randomness, no counter.
An open episode is played once and dropped; there is no reset.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from random import Random
from typing import Any, ClassVar, Literal, Protocol, overload

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field

from verifier.protocol import Verdict, Verifier

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class EnvError(ValueError):
    """The options or the data of an environment cannot be used; the message says why and what to do."""


Shift = Literal["none", "rule", "look", "other"]
"""What a test has otherwise than training: nothing that matters, what is right, what is seen, or the task itself."""
Part = Literal["whole", "rule", "rest", "sight"]
"""What a measure tells of: the whole task, what a shifted rule changes of it, what no rule changes, what is seen."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A rate that is measured of a policy, and what people call it.

    `Measure("per_step_accuracy/turn_direction", "correct turns", "rule")`
    """

    name: str
    """As in a row of evaluations."""
    title: str
    """A noun in the plural that an axis or a sentence can bear: `correct turns` went from 58 % to 80 %."""
    part: Part = "whole"


@dataclass(frozen=True, slots=True)
class Measures:
    """What a task is measured by. Without any of its own, an environment has the tasks that were solved."""

    headline: Measure = Measure("success", "tasks solved")
    """What a figure of the task shows, and what chooses its best checkpoint; the higher the better."""
    components: tuple[Measure, ...] = ()
    """What it is made of, and what stands beside it, the first of each part being the one that a figure shows."""

    @property
    def all(self) -> tuple[Measure, ...]:
        """The headline, and the others."""
        return (self.headline, *self.components)

    def of(self, part: Part) -> tuple[Measure, ...]:
        """Those that tell of it."""
        return tuple(measure for measure in self.all if measure.part == part)


@dataclass(frozen=True, slots=True)
class Description:
    """What is asked, for someone who has read no options."""

    task: str
    """`cards in pictures`"""
    rule: str = ""
    """The rule, where another could stand in its place: `J, Q and K count 10`."""
    look: str = ""
    """What pictures look like, where they could look otherwise: `black suits`."""


def together(shifts: Iterable[Shift]) -> Shift:
    """All of them at once; several are no shift of the rule, nor one of the look: they are another task."""
    kinds: list[Shift] = [shift for shift in dict.fromkeys(shifts) if shift != "none"]
    return "other" if len(kinds) > 1 else kinds[0] if kinds else "none"


class EnvConfig(BaseModel):
    """The options that every environment has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rule_options: ClassVar[tuple[str, ...]] = ()
    """Options that decide what is right. One may have a `training_…` of its name, which tells the rule of training."""
    look_options: ClassVar[tuple[str, ...]] = ()
    """Options that decide what pictures look like, those of a section with a dot: `city.style`."""
    task_options: ClassVar[tuple[str, ...]] = ()
    """Options with which it is another task. The rest, such as how many attempts there are, shifts nothing."""

    name: str
    """The environment's module in `envs/`."""
    max_attempts: int = Field(default=5, ge=1, le=100)
    """How many answers to one question are judged before it counts as failed."""

    def measures(self) -> Measures:
        """What a policy is measured by under these options."""
        return Measures()

    def description(self) -> Description:
        """What these options ask, in words."""
        return Description(self.name.replace("_", " "))

    def shift_from(self, training: "EnvConfig") -> Shift:
        """What a test with these options shifts, for a policy that was trained with others."""
        if self.name != training.name:
            return "other"
        is_seen = getattr(self, "modality", "pictures") == "pictures"
        options: dict[Shift, tuple[str, ...]] = {
            "rule": self.rule_options,
            "look": self.look_options if is_seen else (),
            "other": self.task_options if is_seen else (*self.task_options, *self.look_options),
        }
        return together(
            shift for shift, names in options.items() if any(self._differs(name, training) for name in names)
        )

    def _differs(self, option: str, training: "EnvConfig") -> bool:
        read = attrgetter(option)
        told = getattr(self, f"training_{option}", None)
        return read(self) != (read(training) if told is None else told)


class Drawn(Sequence[Image]):
    """A picture that is drawn when it is first looked at: not everyone who walks through a task's questions does."""

    def __init__(self, draw: Callable[[], Image]) -> None:
        """`draw` is called once at most."""
        self._draw = draw

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._pictures[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._pictures == tuple(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @cached_property
    def _pictures(self) -> tuple[Image]:
        return (self._draw(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One message to the model, and what only the verifier and the demonstrator may know of it.

    Example: the second attempt at a hand carries only the new words; the first question stands above it.

        Question(text="That was not right: the formula makes 25, not 24. Answer again …",
                 reference=Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24),
                 expert_answer='{"cards": ["7", "5", "K", "4"], …, "formula": "(7-5)*10+4=24"}',
                 attempt=2)
    """

    text: str
    """What the model reads."""
    images: Sequence[Image] = ()
    """Pictures that stand before the text."""
    reference: Any
    """What the verifier judges by; it never reaches the model."""
    expert_answer: str
    """An answer that the verifier calls correct."""
    starts_new_context: bool = False
    """Whether the dialogue so far is forgotten and this question opens a new one."""
    step: int = 1
    """Which position of the episode this asks about, from 1; 1 throughout where an episode is one question."""
    attempt: int = 1
    """Which try at this step this is, from 1."""


class OpenEpisode(Protocol):
    """One episode in play: made, played once, dropped."""

    def first_question(self) -> Question:
        """The question that opens the episode."""
        ...

    def next_question(self, answer: str, verdict: Verdict) -> Question | None:
        """What follows the judged answer; None when the episode is over."""
        ...

    @property
    def solved(self) -> bool:
        """Whether all that the episode asked was answered; read it when the episode is over."""
        ...

    def mistake(self, generator: Random) -> str:
        """A wrong answer to the current question, of the kind that a learner gives; never judged correct."""
        ...


class Env(Protocol):
    """A source of episodes, and the verifier that judges them."""

    @property
    def config(self) -> EnvConfig:
        """The options it was made with."""
        ...

    @property
    def verifier(self) -> Verifier[Any]:
        """Who judges the answers to its questions."""
        ...

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The episode that `seed` stands for; the same one on any machine and in any process."""
        ...


def generator_for(purpose: str, split: Split, seed: int) -> Random:
    """A generator of its own for each purpose, so that a change of look or wording leaves the task as it was."""
    return Random(f"{purpose}/{split}/{seed}")


def first_wrong(candidates: Callable[[], str], is_wrong: Callable[[str], bool], tries: int = 1000) -> str:
    """The first candidate that is really wrong; a drawn mistake may be right by accident."""
    for _ in range(tries):
        answer = candidates()
        if is_wrong(answer):
            return answer
    raise ValueError(f"no wrong answer among {tries} drawn ones")
