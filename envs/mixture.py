"""A mixture: several environments in one run, each of which asks its share of the seeds.

    env:
      name: mixture
      parts:
        cards: {weight: 2, env: {name: general_points}}
        streets: {env: {name: route_navigation}, verifier: {rewards: {wrong_action: -0.5}}}

Of any three seeds in a row, two are cards and one is streets. Of any other number in a row, each part has its share to
within one seed, or within two where three or more parts weigh differently. So batches are balanced, and all samples of
a task are of one part. A part asks of a seed what that environment asks of it alone, and its own verifier judges.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, StringConstraints, field_validator

from envs.catalog import find_environment, make_environment
from envs.protocol import Env, EnvConfig, EnvError, OpenEpisode, Question, Shift, Split, together
from verifier.config import Preset, UnknownOutcome, VerifierConfig
from verifier.protocol import Verdict

PartName = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]
Rules = tuple[EnvConfig, VerifierConfig]
_MILDEST_FIRST: tuple[Shift, ...] = ("none", "rule", "look", "other")


def _by_name(given: Any) -> Any:
    """Options as those of the environment that they name."""
    return (
        find_environment(str(given.get("name"))).Config.model_validate(given) if isinstance(given, Mapping) else given
    )


class PartVerifierConfig(BaseModel):
    """How a part's answers are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: Preset | None = None
    """As `verifier.preset` where not set."""
    rewards: Mapping[str, float] = {}
    """Rewards that differ from the preset's, by outcome label."""


class PartConfig(BaseModel):
    """One environment of a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weight: int = Field(default=1, ge=1, le=1000)
    """Of as many seeds in a row as all weights together, so many are this part's."""
    env: Annotated[SerializeAsAny[EnvConfig], BeforeValidator(_by_name)]
    """What is asked: a `name`, and that environment's options."""
    verifier: PartVerifierConfig = PartVerifierConfig()
    """How it is scored, where otherwise than the rest."""

    @field_validator("env")
    @classmethod
    def _is_no_mixture(cls, env: EnvConfig) -> EnvConfig:
        if isinstance(env, Config):
            raise ValueError("a part cannot be a mixture itself; write its parts beside the others")
        return env


class Config(EnvConfig):
    """The options of `mixture`."""

    max_attempts: int = Field(default=100, ge=1, le=100)
    """No part has more answers to one question judged than this; each has a number of its own, which may be less."""
    parts: dict[PartName, PartConfig] = Field(min_length=1)
    """Each environment by a name, which metrics and records call it; one that is null is left out."""

    @field_validator("parts", mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        return {name: part for name, part in given.items() if part is not None} if isinstance(given, dict) else given

    def rules(self, verifier: VerifierConfig) -> dict[str, Rules]:
        """What each part asks, and how it is scored in a run with that verifier."""
        if verifier.rewards:
            label = next(iter(verifier.rewards))
            raise EnvError(
                f"verifier.rewards.{label}: the parts of a mixture have outcomes of their own; write it in "
                f"env.parts.{next(iter(self.parts))}.verifier.rewards"
            )
        return {
            name: (
                part.env.model_copy(update={"max_attempts": min(part.env.max_attempts, self.max_attempts)}),
                VerifierConfig(preset=part.verifier.preset or verifier.preset, rewards=part.verifier.rewards),
            )
            for name, part in self.parts.items()
        }


@dataclass(frozen=True, slots=True)
class PartReference:
    """What an answer is judged by, and the part whose verifier does it."""

    part: str
    reference: Any


class Environment:
    """Asks what the part asks that a seed is of."""

    def __init__(self, config: Config, verifier_config: VerifierConfig) -> None:
        self.config = config
        self._order = order_of(tuple((name, part.weight) for name, part in config.parts.items()))
        self.parts: dict[str, Env] = {}
        for name, (env, verifier) in config.rules(verifier_config).items():
            with _naming(name):
                self.parts[name] = make_environment(env, verifier)
        self.verifier = _Verifiers(self.parts)

    @property
    def left_out(self) -> tuple[Any, ...]:
        """What of the parts' data cannot be played."""
        return tuple(each for part in self.parts.values() for each in getattr(part, "left_out", ()))

    def part(self, seed: int) -> str:
        """The name of the part that a seed is of, in every split."""
        return self._order[seed % len(self._order)]

    def open(self, seed: int, split: Split) -> OpenEpisode:
        """The part's episode of that seed."""
        name = self.part(seed)
        with _naming(name):
            return _PartEpisode(name, self.parts[name].open(seed, split))


class _Verifiers:
    """Judges by the verifier of the part that a reference is of."""

    def __init__(self, parts: Mapping[str, Env]) -> None:
        self._parts = parts

    def judge(self, answer: str, reference: PartReference) -> Verdict:
        """As that part judges."""
        return self._parts[reference.part].verifier.judge(answer, reference.reference)


class _PartEpisode:
    """An episode of a part, whose references tell which."""

    def __init__(self, part: str, episode: OpenEpisode) -> None:
        self._part, self._episode = part, episode

    def first_question(self) -> Question:
        """The part's."""
        with _naming(self._part):
            return self._told(self._episode.first_question())

    def next_question(self, answer: str, verdict: Verdict) -> Question | None:
        """The part's."""
        with _naming(self._part):
            question = self._episode.next_question(answer, verdict)
        return None if question is None else self._told(question)

    @property
    def solved(self) -> bool:
        """Whether the part's episode is."""
        return self._episode.solved

    def mistake(self, generator: Random) -> str:
        """As the part draws it."""
        return self._episode.mistake(generator)

    def _told(self, question: Question) -> Question:
        return replace(question, reference=PartReference(self._part, question.reference))


def part_of(env: Env, seed: int) -> tuple[str, Env]:
    """The part that asks a seed, under its name; of any other environment, itself and no name."""
    if not isinstance(env, Environment):
        return "", env
    name = env.part(seed)
    return name, env.parts[name]


def rules_by_key(key: str, env: EnvConfig, verifier: VerifierConfig) -> dict[str, Rules]:
    """All that is asked under a key, as `env`; of a mixture each part under its own, as `env.parts.cards.env`."""
    if not isinstance(env, Config):
        return {key: (env, verifier)}
    return {f"{key}.parts.{name}.env": rules for name, rules in env.rules(verifier).items()}


def shift_between(tested: EnvConfig, trained: EnvConfig) -> Shift:
    """What a test shifts for a policy that was trained otherwise; of a mixture, each part beside the nearest to it."""
    return together(_nearest(part, trained) for part in _parts(tested))


def _nearest(part: EnvConfig, trained: EnvConfig) -> Shift:
    found = [part.shift_from(known) for known in _parts(trained)]
    return next(shift for shift in _MILDEST_FIRST if shift in found)


def _parts(env: EnvConfig) -> list[EnvConfig]:
    return [part.env for part in env.parts.values()] if isinstance(env, Config) else [env]


@lru_cache
def order_of(weights: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Whose each seed of a period is: at each place, the part that has to come soonest of those whose turn has come.

    >>> order_of((("cards", 3), ("streets", 2)))
    ('cards', 'streets', 'cards', 'cards', 'streets')
    """
    whole, had = sum(weight for _, weight in weights), dict.fromkeys((name for name, _ in weights), 0)
    order = []
    for place in range(1, whole + 1):
        waiting = [(name, weight) for name, weight in weights if had[name] * whole < weight * place]
        # Its next seed has to come before its share is a whole seed more than it has had.
        name, _ = min(waiting, key=lambda part: -(-(had[part[0]] + 1) * whole // part[1]))
        had[name] += 1
        order.append(name)
    return tuple(order)


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """Whatever goes wrong inside tells the part."""
    try:
        yield
    except EnvError as error:
        raise EnvError(f"part {part} of the mixture: {error}") from error
    except UnknownOutcome as error:
        raise UnknownOutcome(f"env.parts.{part}.{error}") from error
    except Exception as error:
        error.add_note(f"in part {part} of the mixture")
        raise
