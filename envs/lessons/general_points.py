"""Lessons over GeneralPoints: both rules equally often, other targets too, plain numbers, noise and misreadings.

Where the target is that of the given environment, only hands of its training split are dealt; of plain hands, only
those whose numbers it does not hold out.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

from pydantic import Field

from envs._cards.hands import random_formula
from envs._cards.pictures import RANKS
from envs.general_points import NAMED_RULES, Config, FaceCards
from envs.lessons.dialogue import DialogueTeacher, LessonOptions
from envs.protocol import Env, EnvConfig, OpenEpisode, Question
from verifier.hand import Hand


class Lessons(LessonOptions):
    """What lessons over GeneralPoints are made of."""

    rules: tuple[str, ...] = ("ten", "eleven_twelve_thirteen")
    """The rules in force, each equally often."""
    any_rule_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of lessons under a rule of their own, in which J, Q and K count any three numbers."""
    plain_fraction: float = Field(default=0.35, ge=0, le=1)
    """Share of lessons in which 11, 12 and 13 are dealt in place of face cards; of pictures there are none."""
    other_target_fraction: float = Field(default=0.4, ge=0, le=1)
    """Share of lessons with another target than the environment's, and with any hand."""
    largest_target: int = Field(default=60, ge=2)
    """Other targets are drawn from 1 to this."""
    misread_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of wrong answers that misread a number too; they are shown and never learned, so that cards are read anew
    after each verdict, and not copied from the answer before."""
    missee_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of wrong answers in which one card of the picture is taken for another; they are learned with the rest, so
    that there is something to gain in seeing."""


class Teacher(DialogueTeacher):
    """Draws lessons; `env` says what is held out, and what the ordinary game is."""

    UNSAID: ClassVar[Sequence[str]] = ("suits", "look", "at_least_one_face_card")
    options: Lessons
    env: Config

    def wordings(self) -> list[EnvConfig]:
        """Both ways in which a rule is told: one number for all face cards, or one for each."""
        trained = self.env.training_rule()
        return [
            type(self.env).model_validate(
                config.model_dump()
                | {"face_cards": rule, "training_face_cards": None if rule == trained else trained.model_dump()}
            )
            for config in super().wordings()
            for rule in NAMED_RULES.values()
        ]

    def draw_environment(self, generator: Random) -> Env:
        """Which rule, which target, which cards."""
        options, env = self.options, self.env
        rule: Any = NAMED_RULES[generator.choice(options.rules)].model_dump()
        if options.any_rule_fraction and generator.random() < options.any_rule_fraction:
            rule = {rank: generator.randint(1, 20) for rank in "JQK"}
        is_plain = generator.random() < options.plain_fraction and env.modality == "text"
        is_other_target = generator.random() < options.other_target_fraction
        others = [target for target in range(1, options.largest_target + 1) if target != env.target]
        target = generator.choice(others) if is_other_target else env.target
        has_face_card = not is_plain and generator.random() < 0.5
        return self.environment(
            {
                **self.draw_values(generator),
                "face_cards": rule,
                "training_face_cards": env.training_rule().model_dump(),
                "target": target,
                "splits": env.splits if target == env.target else "none",
                "split_by": "numbers" if is_plain else env.split_by,
                "face_cards_as_numbers": is_plain,
                "at_least_one_face_card": has_face_card,
                "rule_changes_numbers": False,
                "demonstration": "any",
            }
        )

    def wrong_answer(
        self, environment: Env, question: Question, episode: OpenEpisode, generator: Random, is_last: bool
    ) -> tuple[str, bool]:
        """A random formula, now and then over a misread number, or over a card that was taken for another."""
        options, hand = self.options, question.reference
        misreads = not is_last and generator.random() < options.misread_fraction
        if options.missee_fraction and not misreads and generator.random() < options.missee_fraction:
            config: Any = environment.config
            hand = _mis_seen(hand, config.face_cards, generator)
        return mixed_up(hand, generator, misreads=misreads), not misreads


def _mis_seen(hand: Hand, rule: FaceCards, generator: Random) -> Hand:
    """The hand with one of its cards taken for another, and counted as that."""
    labels = list(hand.labels)
    place = generator.randrange(len(labels))
    labels[place] = generator.choice([rank for rank in RANKS if rank != labels[place]])
    return replace(hand, labels=tuple(labels), numbers=rule.numbers(tuple(labels)))


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
