"""What a demonstration is: an episode in words, where it is from, and which of them there are to be.

Demonstration(turns=(DemonstratedTurn(…),), provenance=Provenance(…), …)
DemonstrationConfig     the options of the data section
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from envs.protocol import Split
from verifier.protocol import Verdict


class DemonstrationError(ValueError):
    """Demonstrations cannot be made, read or used; the message says why and what to do."""


class DemonstrationConfig(BaseModel):
    """Which demonstrations there are: the options of the data section."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["expert", "suboptimal", "search_trace", "corrupted", "recognition"] = "expert"
    """`expert`: right answers. `suboptimal`: mistakes with their verdicts before each right answer. `search_trace`: a
    worked search before the JSON (`general_points`, `countdown`). `corrupted`: some answers are made worse.
    `recognition`: the same tasks, but only what the picture shows is asked for."""
    count: int = Field(default=1000, ge=1)
    """How many are played; a file is read whole."""
    first_seed: int = Field(default=0, ge=0)
    """The first task; the others follow it. Tasks that the demonstrator does not solve are left out."""
    split: Split = "train"
    """Which tasks are played; those of the other splits measure what was learned."""
    num_mistakes: int = Field(default=1, ge=1)
    """With kind `suboptimal`, the most mistakes at one question; fewer than `env.max_attempts`."""
    mistake_probability: float = Field(default=1.0, gt=0, le=1)
    """With kind `suboptimal`, the chance of each further mistake; the first one that is not made ends them."""
    imitates_mistakes: bool = False
    """With kind `suboptimal`, whether the mistakes are imitated too, and not only shown."""
    corrupted_fraction: float = Field(default=0.3, ge=0, le=1)
    """With kind `corrupted`, the share of demonstrations whose answers are all made worse. Those of a smaller share
    are among those of a greater one."""
    corruption: Literal["wrong_value", "scrambled_thought", "scrambled"] = "wrong_value"
    """`wrong_value`: a wrong answer of the right form, such as a formula that makes another value.
    `scrambled_thought`: the right answer behind a thought whose words are in random order, which needs `env.thinking`.
    `scrambled`: the whole answer's words in random order."""
    file: str | None = None
    """A file that `ruleshift data` wrote; demonstrations are read from it, and none are played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstratedTurn:
    """One question and its answer, in words.

    `DemonstratedTurn(question="What is 2 + 3? …", answer='{"sum": 5}', verdict=Verdict(outcome="correct", …))`
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    question: str
    """What is read."""
    images: tuple[str, ...] = ()
    """The digests of the pictures that stand before the text."""
    answer: str
    """What is answered."""
    is_learned: bool = True
    """Whether the answer is imitated, or only shown to what follows."""
    starts_new_context: bool = False
    """Whether the dialogue before is forgotten; the first turn always starts one."""
    step: int = 1
    """Which position of the episode is asked about, from 1."""
    attempt: int = 1
    """Which try at this step it is, from 1."""
    verdict: Verdict
    """What the environment's verifier says of the answer, and which of its characters are which part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a demonstration is from: `Provenance(kind="expert", source="9f2c…")`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: str
    """The kind that `DemonstrationConfig` names, or `imported`."""
    is_corrupted: bool = False
    """Whether its answers were made worse on purpose."""
    source: str
    """The SHA-256 of the environment's options, or of the file that it was imported from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """An episode in words.

    `Demonstration(env="add_up", split="train", seed=7, turns=(DemonstratedTurn(…),), provenance=Provenance(…))`
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    env: str
    """The environment's name; in a mixture, that of the part."""
    part: str = ""
    """Which part of a mixture asks; empty without one."""
    split: Split
    """Which split its task is of."""
    seed: int
    """Which of the environment's tasks it is, or which item of the file that it was imported from."""
    turns: tuple[DemonstratedTurn, ...]
    """What is asked and answered, in order."""
    cards: tuple[str, ...] = ()
    """The labels of the hand, where the task is one."""
    numbers: tuple[int, ...] = ()
    """What the cards count under the rule of training."""
    provenance: Provenance
    """Where it is from."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Digest → PNG, of every picture that the turns show, each once."""

    @property
    def name(self) -> str:
        """What messages call it: `add_up/train/7`."""
        return f"{self.env}/{self.split}/{self.seed}"
