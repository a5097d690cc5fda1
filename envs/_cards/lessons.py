"""Lessons: dialogues over GeneralPoints from which a model of nano size learns the game before any training run.

    Teacher(LessonConfig(), env_config).lesson(seed)  →  Lesson of turns (question, answer, is_learned)

Both rules are in force equally often, targets differ, and in some lessons 11, 12 and 13 are dealt as plain numbers.
Where the target is that of the given environment, only hands of its training split are dealt; of plain hands, only
those whose numbers it does not hold out.

    answers: right    the right answer; in some lessons behind wrong ones, which are only shown
    answers: mixed    right and wrong answers, all learned: a model that knows more than it usually says
"""

import json
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from envs._cards.hands import random_formula
from envs.general_points import NAMED_RULES, Config, Environment
from envs.protocol import Question
from verifier.config import VerifierConfig
from verifier.hand import Hand


class LessonConfig(BaseModel):
    """What lessons are made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    answers: Literal["right", "mixed"] = "right"
    """`right`: only right answers are learned. `mixed`: right and wrong ones."""
    plain_fraction: float = Field(default=0.35, ge=0, le=1)
    """Share of lessons in which 11, 12 and 13 are dealt in place of face cards."""
    other_target_fraction: float = Field(default=0.4, ge=0, le=1)
    """Share of lessons with another target than the environment's, and with any hand."""
    largest_target: int = Field(default=60, ge=2)
    """Other targets are drawn from 1 to this."""
    revised_fraction: float = Field(default=0.25, ge=0, le=1)
    """With answers `right`, the share of lessons in which one or two wrong answers are shown first."""
    right_chance: float = Field(default=0.4, gt=0, le=1)
    """With answers `mixed`, the chance of each answer to be right."""
    misread_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of wrong answers that misread a number too; they are shown and never learned, so that cards are read anew
    after each verdict, and not copied from the answer before."""
    max_turns: int = Field(default=4, ge=1)
    """With answers `mixed`, the most answers of a lesson; the first right one ends it."""


@dataclass(frozen=True, slots=True)
class LessonTurn:
    """One question and its answer: `LessonTurn("Make 24 …", '{"cards": …}', True)`."""

    question: str
    """What is asked: the task, or the verdict on the answer before."""
    answer: str
    """What is answered."""
    is_learned: bool
    """Whether the answer is imitated, or only shown to what follows."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A dialogue about one hand."""

    hand: Hand
    """The hand, with the rule already applied."""
    turns: tuple[LessonTurn, ...]
    """What is asked and answered, in order."""


class Teacher:
    """Draws lessons; `env` says what is held out, and what the ordinary game is."""

    def __init__(self, config: LessonConfig, env: Config) -> None:
        self._config, self._env = config, env
        self._environments: dict[tuple[str, int, bool, bool], Environment] = {}

    def lesson(self, seed: str) -> Lesson:
        """The lesson that the seed stands for."""
        config = self._config
        generator = Random(f"lesson/{seed}")
        environment = self._draw_environment(generator)
        episode = environment.open(generator.getrandbits(48), "train")
        question: Question | None = episode.first_question()
        hand: Hand = question.reference
        num_shown = generator.choice((1, 2)) if generator.random() < config.revised_fraction else 0
        num_turns = config.max_turns if config.answers == "mixed" else num_shown + 1
        turns: list[LessonTurn] = []
        while question is not None and len(turns) < num_turns:
            if config.answers == "mixed":
                is_right = generator.random() < config.right_chance
            else:
                is_right = len(turns) == num_shown
            is_last = len(turns) == num_turns - 1  # something has to be learned
            misreads = not (is_right or is_last) and generator.random() < config.misread_fraction
            answer = question.expert_answer if is_right else mixed_up(hand, generator, misreads=misreads)
            verdict = environment.verifier.judge(answer, hand)
            # A random formula that happens to be right ends the lesson early, and is as good as the expert's.
            is_learned = not misreads and (verdict.correct or config.answers == "mixed")
            turns.append(LessonTurn(question.text, answer, is_learned))
            question = episode.next_question(answer, verdict)
        return Lesson(hand, tuple(turns))

    def _draw_environment(self, generator: Random) -> Environment:
        """Which rule, which target, which cards."""
        config, env = self._config, self._env
        rule = generator.choice(("ten", "eleven_twelve_thirteen"))
        is_plain = generator.random() < config.plain_fraction
        is_other_target = generator.random() < config.other_target_fraction
        others = [target for target in range(1, config.largest_target + 1) if target != env.target]
        target = generator.choice(others) if is_other_target else env.target
        has_face_card = not is_plain and generator.random() < 0.5
        drawn = rule, target, is_plain, has_face_card
        if drawn not in self._environments:
            options = {
                "face_cards": NAMED_RULES[rule],
                "training_face_cards": env.training_rule(),
                "target": target,
                "splits": env.splits if target == env.target else "none",
                "split_by": "numbers" if is_plain else env.split_by,
                "face_cards_as_numbers": is_plain,
                "at_least_one_face_card": has_face_card,
                "rule_changes_numbers": False,
                "demonstration": "any",
                "max_attempts": config.max_turns + 2,
            }
            self._environments[drawn] = Environment(env.model_copy(update=options), VerifierConfig())
        return self._environments[drawn]


def mixed_up(hand: Hand, generator: Random, *, misreads: bool = False) -> str:
    """Cards and numbers as they are, and a formula drawn at random (7 in 10), with one wrong number (2) or a gap (1).

    A formula that happens to make the target stays: a random answer is random. One that misreads has one of its numbers
    wrong, and counts with it.
    """
    kind = generator.choices(("formula", "number", "gap"), (7, 2, 1))[0]
    read = list(hand.numbers)
    if misreads:
        place = generator.randrange(len(read))
        read[place] = generator.choice([number for number in range(1, 14) if number != read[place]])
    numbers = list(read)
    if kind == "number":
        numbers[generator.randrange(len(numbers))] = generator.randint(1, 13)
    formula = random_formula(numbers, generator)
    if kind == "gap":
        pieces = _pieces(formula)
        del pieces[generator.randrange(len(pieces))]
        formula = "".join(pieces)
    fields = {"cards": list(hand.labels), "number": read, "formula": f"{formula}={hand.target}"}
    return json.dumps(fields)


def _pieces(formula: str) -> list[str]:
    """Its numbers and signs."""
    pieces: list[str] = []
    for sign in formula:
        if sign.isdigit() and pieces and pieces[-1].isdigit():
            pieces[-1] += sign
        else:
            pieces.append(sign)
    return pieces
