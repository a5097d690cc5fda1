"""Whether demonstrations give tasks away that the evaluation holds out.

    checked(demonstrations, env_config)   →  the same demonstrations; raises behind the last

Hands are compared by what the environment's own splits go by: their cards, or what these count under the rule of
training. Other tasks are compared as they are asked, with the first ones of each held-out split.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property

from envs._cards.hands import hand_key, split_key
from envs._cards.pictures import RANKS
from envs.catalog import make_environment
from envs.countdown import Config as CountdownConfig
from envs.general_points import PLAIN
from envs.general_points import Config as GeneralPointsConfig
from envs.mixture import rules_by_key
from envs.protocol import EnvConfig, EnvError, Split
from envs.splits import SplitConfig
from learner.demonstrations.demonstration import Demonstration, DemonstrationError
from learner.demonstrations.demonstrators import keep_picture
from verifier.config import VerifierConfig

HELD_OUT: tuple[Split, ...] = ("validation", "test")
NUM_NAMED = 3

_FACE_CARDS = {label: rank for rank, label in PLAIN.items()}
"""Splits take numbers that are dealt in place of face cards for these."""

Task = tuple[str, ...]


class OverlapError(DemonstrationError):
    """Demonstrations are of tasks that the evaluation holds out; the message names the first."""


def task_of(demonstration: Demonstration) -> Task:
    """Equal for equal tasks: the cards in order of their labels, or the first question with its pictures."""
    if demonstration.cards:
        return tuple(sorted(demonstration.cards))
    first = demonstration.turns[0]
    return (first.question, *first.images)


def checked(demonstrations: Iterable[Demonstration], env_config: EnvConfig) -> Iterator[Demonstration]:
    """Hands all of them on, and raises OverlapError behind the last where some are of tasks that are held out."""
    parts = [config for config, _ in rules_by_key("env", env_config, VerifierConfig()).values()]
    if all(isinstance(config, SplitConfig) and config.splits == "none" for config in parts):
        raise OverlapError(
            "env.splits=none holds nothing out: every task may be in the evaluation; set env.splits=exact"
        )
    evaluations = [EvaluationTasks(config) for config in parts]
    num_checked = num_found = 0
    named: list[str] = []
    for demonstration in demonstrations:
        num_checked += 1
        if any(evaluation.holds(demonstration) for evaluation in evaluations):
            num_found += 1
            if num_found <= NUM_NAMED:
                named.append(_named(demonstration))
        yield demonstration
    if num_found:
        more = ", …" if num_found > NUM_NAMED else ""
        raise OverlapError(
            f"{num_found} of {num_checked} demonstrations are of tasks that the evaluation holds out: "
            f"{', '.join(named)}{more}; leave them out, make them under the splits of the evaluation (env.splits, "
            "env.validation_fraction, env.test_fraction and the rule of training), or set env.splits=none, as the "
            "original did, to hold nothing out"
        )


class EvaluationTasks:
    """The tasks of the held-out splits."""

    def __init__(self, env_config: EnvConfig, num_tasks: int = 200) -> None:
        """`num_tasks`: of each split, where tasks can only be compared as they are asked."""
        self._config = env_config
        self._num_tasks = num_tasks

    def holds(self, demonstration: Demonstration) -> bool:
        """Whether the demonstration's task is one of them."""
        config = self._config
        if isinstance(config, GeneralPointsConfig) and demonstration.cards:
            return len(demonstration.cards) == config.num_cards and _is_held_out_hand(config, demonstration)
        if isinstance(config, CountdownConfig) and demonstration.numbers:
            return len(demonstration.numbers) == config.num_numbers and _is_held_out(config, demonstration.numbers)
        first = demonstration.turns[0]
        return demonstration.env == config.name and (first.question, first.images) in self._questions

    @cached_property
    def _questions(self) -> frozenset[tuple[str, tuple[str, ...]]]:
        env = make_environment(self._config, VerifierConfig())
        found = set()
        for split in HELD_OUT:
            # A split of no tasks holds nothing out.
            with suppress(EnvError):
                for seed in range(self._num_tasks):
                    question = env.open(seed, split).first_question()
                    found.add((question.text, tuple(keep_picture(image, {}) for image in question.images)))
        return frozenset(found)


def _is_held_out_hand(config: GeneralPointsConfig, demonstration: Demonstration) -> bool:
    """As the environment's splits have it: what the cards count follows from the rule of training."""
    ranks = demonstration.cards
    if demonstration.env == config.name:
        ranks = tuple(_FACE_CARDS.get(label, label) for label in ranks)
    if not set(ranks) <= set(RANKS):
        return config.split_by == "numbers" and _is_held_out(config, demonstration.numbers)
    numbers = config.training_rule().numbers(ranks)
    if config.split_by == "numbers":
        return _is_held_out(config, numbers)
    is_trained = config.admits(split_key(numbers), "train")
    return is_trained and any(config.admits(hand_key(ranks), split) for split in HELD_OUT)


def _is_held_out(config: SplitConfig, numbers: tuple[int, ...]) -> bool:
    return numbers != () and any(config.admits(split_key(numbers), split) for split in HELD_OUT)


def _named(demonstration: Demonstration) -> str:
    cards = f" ({' '.join(demonstration.cards)})" if demonstration.cards else ""
    return f"{demonstration.name}{cards}"
