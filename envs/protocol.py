"""What an environment is: it poses questions in words and pictures, and never sees a token.

    Environment(config, verifier).open(seed, split)  →  OpenEpisode
    OpenEpisode.first_question()                     →  Question
    verifier.judge(answer, question.reference)       →  Verdict
    OpenEpisode.next_question(answer, verdict)       →  Question, or None when the episode is over

An environment module holds two classes, `Config` and `Environment`; that is all the registration there is
(see `envs.catalog`). `(config, split, seed)` decides every question: no clock, no global randomness, no counter.
An open episode is played once and dropped; there is no reset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, Protocol

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field

from verifier.protocol import Verdict, Verifier

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class EnvError(ValueError):
    """The options or the data of an environment cannot be used; the message says why and what to do."""


class EnvConfig(BaseModel):
    """The options that every environment has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The environment's module in `envs/`."""
    max_attempts: int = Field(default=5, ge=1, le=100)
    """How many answers to one question are judged before it counts as failed."""


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
    images: tuple[Image, ...] = ()
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
