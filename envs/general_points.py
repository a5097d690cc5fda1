"""GeneralPoints: make 24 (or another target) from four cards, given in words or as a picture.

What can shift between training and test: the rule (what J, Q and K count), the look (suits, font, layout, rotation),
the target, the number of cards and the wording. `training_face_cards` names the rule of training where a test
uses another; splits follow the training rule, so that a hand held out stays held out under every rule.

    split_by    train                    test
    numbers     numbers 2 4 6 10         numbers 3 5 7 10: every hand that counts so, K 3 5 7 as well as J 3 5 7
    hand        K 6 4 2, not Q 6 4 2     Q 6 4 2: an unseen hand, whose numbers training has met in another
"""

import json
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from PIL.Image import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from envs._cards.hands import demonstrate, hand_key, mistaken, split_key
from envs._cards.measures import card_measures
from envs._cards.pictures import RANKS, Card, CardLook, draw_hand
from envs._cards.wording import AnswerFormat, as_original, look_text, solve_text
from envs.protocol import Description, Drawn, Measures, OpenEpisode, Question, Split, generator_for
from envs.revision import RevisedQuestion
from envs.splits import SplitConfig, draw_until
from envs.wording import Wording
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand
from verifier.solver import is_solvable

SUITS = {"black": "SC", "red": "HD", "mixed": "SHDC"}
PLAIN = {"J": "11", "Q": "12", "K": "13"}
"""What stands for the face cards where every card but the ace is a number."""


class FaceCards(BaseModel):
    """What the face cards count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    J: int = Field(ge=1, le=99)
    Q: int = Field(ge=1, le=99)
    K: int = Field(ge=1, le=99)

    def numbers(self, ranks: tuple[str, ...]) -> tuple[int, ...]:
        """What each card counts; an ace counts 1."""
        return tuple(getattr(self, rank) if rank in PLAIN else 1 if rank == "A" else int(rank) for rank in ranks)

    def sentence(self) -> str:
        """The rule as the question states it."""
        if self.J == self.Q == self.K:
            return f"A counts 1; J, Q and K each count {self.J}."
        return f"A counts 1, J counts {self.J}, Q counts {self.Q} and K counts {self.K}."

    def __str__(self) -> str:
        """The rule in passing."""
        counts = str(self.J) if self.J == self.Q == self.K else f"{self.J}, {self.Q} and {self.K}"
        return f"J, Q and K count {counts}"


NAMED_RULES = {"ten": FaceCards(J=10, Q=10, K=10), "eleven_twelve_thirteen": FaceCards(J=11, Q=12, K=13)}


def _named_rule(value: Any) -> Any:
    if isinstance(value, str) and value not in NAMED_RULES:
        raise ValueError(
            f"the rules with a name are {', '.join(NAMED_RULES)}; any other is written {{J: 5, Q: 6, K: 7}}"
        )
    return NAMED_RULES[value] if isinstance(value, str) else value


FaceCardRule = Annotated[FaceCards, BeforeValidator(_named_rule)]


class Config(SplitConfig):
    """The options of `general_points`."""

    rule_options: ClassVar = ("face_cards",)
    look_options: ClassVar = ("suits", "look")
    task_options: ClassVar = (
        *("modality", "asks", "target", "num_cards", "face_cards_as_numbers", "wording", "thinking", "written"),
    )

    modality: Literal["text", "pictures"] = "text"
    """Whether the hand is written in the question or drawn beside it."""
    asks: Literal["solution", "cards"] = "solution"
    """`solution`: a formula. `cards`: only what the cards in the picture are (recognition)."""
    target: int = Field(default=24, ge=1, le=1000)
    """The value to make."""
    num_cards: int = Field(default=4, ge=3, le=6)
    """How many cards a hand has."""
    face_cards: FaceCardRule = NAMED_RULES["ten"]
    """What J, Q and K count: `ten`, `eleven_twelve_thirteen`, or any `{J: 5, Q: 6, K: 7}`."""
    training_face_cards: FaceCardRule | None = None
    """The rule of training, where this environment tests another one."""
    draw: Literal["deck", "with_replacement"] = "deck"
    """`deck`: no card twice. `with_replacement`: every card is drawn from all ranks, as the original did; so did it
    with a face card that a hand must hold, which is why such hands hold more of them than others do."""
    suits: Literal["black", "red", "mixed"] = "black"
    """The suits in play."""
    split_by: Literal["numbers", "hand"] = "numbers"
    """What is held out. `numbers`: number multisets, with every hand that counts so. `hand`: hands whose numbers the
    other choice leaves in training, so that training on them meets neither kind and each can be tested apart."""
    face_cards_as_numbers: bool = False
    """Whether 11, 12 and 13 are dealt in place of J, Q and K; then no rule changes what a card counts. Splits take
    them for the face cards that they replace."""
    at_least_one_face_card: bool = False
    """Whether every hand holds a J, Q or K."""
    rule_changes_numbers: bool = False
    """Whether only hands are drawn whose numbers differ between `face_cards` and `training_face_cards`."""
    wording: Wording = "fixed"
    """One wording for all questions, or any of several paraphrases for each."""
    thinking: bool = False
    """Whether the answer begins with a `thinking` field; demonstrations then show a search."""
    demonstration: Literal["shortest", "any"] = "shortest"
    """Which of a hand's solutions a demonstration shows."""
    unscored_last_attempt: bool = False
    """Whether one more answer is asked for after the last scored one, and punished unread, as the original did."""
    written: AnswerFormat = "json"
    """How answers are to be written, and demonstrations are. `original`: in the original's form, which is no JSON; of
    a picture's cards, `verifier.preset=paper` reads hardly anything else."""
    look: CardLook = CardLook()
    """How pictures are drawn."""

    @model_validator(mode="after")
    def _options_go_together(self) -> "Config":
        if self.asks == "cards" and self.modality == "text":
            raise ValueError("asks=cards needs modality=pictures; in words the cards would stand in the question")
        if self.rule_changes_numbers and self.training_rule() == self.face_cards:
            raise ValueError("rule_changes_numbers needs a training_face_cards that differs from face_cards")
        if self.face_cards_as_numbers:
            if self.modality == "pictures":
                raise ValueError("face_cards_as_numbers needs modality=text; there are no pictures of an 11")
            if self.at_least_one_face_card or self.rule_changes_numbers or self.split_by == "hand":
                raise ValueError(
                    "face_cards_as_numbers deals no face card: leave at_least_one_face_card and rule_changes_numbers "
                    "false, and split_by at numbers"
                )
        return self

    def training_rule(self) -> FaceCards:
        """The rule that splits follow."""
        return self.training_face_cards or self.face_cards

    def measures(self) -> Measures:
        """Hands solved; and whether cards are seen, counted by the rule, and put together rightly."""
        return card_measures(self.target, are_shown=self.modality == "pictures", asks=self.asks)

    def description(self) -> Description:
        """Cards, what they count and, where they are seen, of what suits."""
        if self.modality == "text":
            return Description("cards in words", str(self.face_cards))
        return Description("cards in pictures", str(self.face_cards), f"{self.suits} suits")


class Environment:
    """Asks for a formula over a hand of cards."""

    def __init__(self, config: Config, verifier_config: VerifierConfig) -> None:
        self.config = config
        self.verifier = EquationVerifier(verifier_config)

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The hand that `seed` stands for; look and wording have seeds of their own, so they change no hand."""
        config = self.config
        ranks = draw_until(
            generator_for("general_points hand", split, seed),
            self._draw_ranks,
            lambda ranks: self._accepts(ranks, split),
            f"target={config.target}, num_cards={config.num_cards}, face_cards={config.face_cards.sentence()!r} "
            f"in the {split} split",
        )
        hand = self._hand(ranks)
        question = Question(
            text=self._text(hand, generator_for("general_points wording", split, seed)),
            images=self._pictures(ranks, generator_for("general_points look", split, seed)),
            reference=hand,
            expert_answer=self._written(
                demonstrate(
                    hand,
                    generator_for("general_points demonstration", split, seed),
                    with_cards=True,
                    thinks=config.thinking,
                    shortest=config.demonstration == "shortest",
                )
            ),
        )
        return RevisedQuestion(
            question,
            self.verifier,
            max_attempts=config.max_attempts,
            draw_mistake=lambda generator: self._written(mistaken(hand, generator, with_cards=True)),
            unscored_last_attempt=config.unscored_last_attempt,
        )

    def _draw_ranks(self, generator: Random) -> tuple[str, ...]:
        config = self.config
        if config.draw == "deck":
            ranks = generator.sample(RANKS * len(SUITS[config.suits]), config.num_cards)
        else:
            # As the original did: one card is a face card, wherever it lies, and the others are drawn from all ranks.
            forced = generator.choices("JQK") if config.at_least_one_face_card else []
            ranks = generator.choices(RANKS, k=config.num_cards - len(forced)) + forced
            if forced:
                generator.shuffle(ranks)
        return tuple(ranks)

    def _written(self, answer: str) -> str:
        return answer if self.config.written == "json" else as_original(answer)

    def _accepts(self, ranks: tuple[str, ...], split: Split) -> bool:
        """Cheap conditions first; the solver remembers the hands it has seen."""
        config = self.config
        if config.at_least_one_face_card and not set(ranks) & set("JQK"):
            return False
        numbers, trained = config.face_cards.numbers(ranks), config.training_rule().numbers(ranks)
        if config.rule_changes_numbers and sorted(numbers) == sorted(trained):
            return False
        if config.split_by == "numbers":
            is_admitted = config.admits(split_key(trained), split)
        else:
            is_admitted = config.admits(split_key(trained), "train") and config.admits(hand_key(ranks), split)
        return is_admitted and is_solvable(self._hand(ranks).numbers, config.target)

    def _hand(self, ranks: tuple[str, ...]) -> Hand:
        config = self.config
        trained = config.training_face_cards
        labels = tuple(PLAIN.get(rank, rank) for rank in ranks) if config.face_cards_as_numbers else ranks
        return Hand(
            labels=labels,
            numbers=config.face_cards.numbers(labels),
            target=config.target,
            training_numbers=trained.numbers(labels) if trained else None,
            cards_are_shown=config.modality == "pictures",
            asks=config.asks,
        )

    def _text(self, hand: Hand, generator: Random) -> str:
        config = self.config
        if config.asks == "cards":
            return look_text(num=config.num_cards, wording=config.wording, generator=generator, written=config.written)
        return solve_text(
            target=config.target,
            num=config.num_cards,
            hand=self._listed(hand) if config.modality == "text" else "",
            rule=config.face_cards.sentence(),
            one="card",
            thinks=config.thinking,
            wording=config.wording,
            generator=generator,
            written=config.written,
        )

    def _listed(self, hand: Hand) -> str:
        return json.dumps(hand.labels) if self.config.written == "json" else str(list(hand.labels))

    def _pictures(self, ranks: tuple[str, ...], generator: Random) -> Sequence[Image]:
        if self.config.modality == "text":
            return ()
        cards = _dealt(ranks, SUITS[self.config.suits], self.config.draw, generator)
        return Drawn(partial(draw_hand, cards, self.config.look, generator))


def _dealt(ranks: tuple[str, ...], suits: str, draw: str, generator: Random) -> list[Card]:
    """The ranks with suits; from a deck, equal ranks have different ones."""
    cards: list[Card] = []
    for rank in ranks:
        free = [suit for suit in suits if draw != "deck" or Card(rank=rank, suit=suit) not in cards]
        cards.append(Card(rank=rank, suit=generator.choice(free)))
    return cards
