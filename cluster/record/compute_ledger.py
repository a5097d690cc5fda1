"""What training has cost, counted in tokens and told in two ledgers.

    ledger.charge_rollout(…)   ledger.charge_update(report, …)   ledger.totals()  →  one flat row

N parameters, each of which every token passes through. The paper's ledger, which is for comparison with its figures:

    imitation        6 N D                         D: tokens that went forwards and backwards, every epoch's
    reinforcement    6 N D + 2 N λ D               λ D: what it charges for playing; 6 for cards, 5.1 for routes

It charges the whole dialogue again for every token drawn (λ D = answers × mean prompt × mean answer), as a sampler
without a cache would. The real ledger:

    playing          2 N (prompt + drawn)          every prompt token once, since keys and values are kept; pictures
                                                   count as the tokens that they are for the model
    looking          2 N D                         forward alone: old values, old log-probabilities, the reference
    learning         2 N D forward                 and where activations are not kept (gradient checkpointing) again
                     + 2 (N - below) D             gradients of activations; nothing below the lowest part that learns
                     + 2 (N - below - above) D     gradients of the weights that learn

The critic's head passes every token of looking and learning: a little too much, as it sees drawn tokens alone.
Attention over the dialogue, 4 x layers x width for each token and each token before it, is left out as in 6 N D, unless
`compute.attention` is set. Evaluation is counted, and is no part of training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

Phase = Literal["rollout", "look", "learn", "sync", "evaluate"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class ComputeConfig(BaseModel):
    """How compute is counted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    paper_lambda: float | None = Field(default=6.0, ge=0)
    """The paper's charge for playing, in tokens for each token learned from: 6 for cards, 5.1 for routes. Without a
    number, it is worked out by the paper's formula from the answers that were drawn."""
    initial_tokens: int = Field(default=0, ge=0)
    """How many tokens the initial policy was fine-tuned on; both ledgers charge these too, as imitation."""
    attention: bool = False
    """Whether the real ledger counts attention over the dialogue, which grows with the square of its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A model as the ledgers see it.

    The 0.8-million nano model, all of which learns: `ModelSize(parameters=816_000)`. An 11-billion model whose
    vision tower stays as it is: `ModelSize(parameters=10_670_000_000, frozen_below=860_000_000)`.
    """

    parameters: int
    """All of the policy's parameters, the critic's head excluded."""
    looked_up: int = 0
    """Those that are looked up and not multiplied by: an input embedding that is not the output layer too."""
    frozen_below: int = 0
    """Those, but for what is looked up, that stay as they are and that no gradient has to pass: a vision tower."""
    frozen_above: int = 0
    """Those, but for what is looked up, that stay as they are and pass gradients on: under low-rank additions."""
    critic: int = 0
    """The parameters of the critic's head."""
    recomputes: bool = False
    """Whether activations are computed twice instead of kept."""
    layers: int = 0
    """How many layers attend; needed with `compute.attention` alone."""
    width: int = 0
    """All attention heads of a layer together; needed with `compute.attention` alone."""

    def __post_init__(self) -> None:
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        if negative := [name for name, count in counts.items() if count < 0]:
            raise ValueError(f"{negative[0]}={counts[negative[0]]}: a model cannot have fewer than 0")
        if self.looked_up + self.frozen_below + self.frozen_above > self.parameters:
            raise ValueError(f"of {self.parameters} parameters, more are looked up or frozen than there are")

    @property
    def passed(self) -> int:
        """The parameters that every token passes through."""
        return self.parameters - self.looked_up

    def forward(self, tokens: int) -> int:
        """FLOPs of the policy's forward pass."""
        return 2 * self.passed * tokens

    def learning(self, tokens: int) -> int:
        """FLOPs of forward and backward, critic included."""
        reached = self.passed - self.frozen_below
        again = reached if self.recomputes else 0
        return 2 * tokens * (self.passed + again + reached + (reached - self.frozen_above) + 3 * self.critic)


class Update(Protocol):
    """What a ledger reads of the learner's report on an update."""

    @property
    def num_sequences(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def forward_tokens(self) -> int: ...
    @property
    def trained_tokens(self) -> int: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


@dataclass(slots=True)
class _Counts:
    """All that a ledger has to remember; everything else follows from it."""

    prompt_tokens: int = 0
    sampled_tokens: int = 0
    num_calls: int = 0
    context_tokens: int = 0
    forward_tokens: int = 0
    trained_tokens: int = 0
    played_tokens: float = 0.0
    evaluation_tokens: int = 0


class ComputeLedger:
    """The account of one run."""

    def __init__(self, model: ModelSize | None = None, config: ComputeConfig | None = None) -> None:
        self._config = config or ComputeConfig()
        self.model = model or ModelSize(parameters=0)
        """May be set later, when it is known: only tokens are remembered."""
        self._counts = _Counts()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        # Pairs of a token and one before it that it attends to, by phase.
        self._pairs = dict.fromkeys(PHASES, 0)

    def charge_rollout(
        self,
        *,
        prompt_tokens: int,
        sampled_tokens: int,
        num_calls: int = 0,
        context_tokens: int = 0,
        num_contexts: int = 0,
        seconds: float = 0.0,
        devices: int = 1,
        phase: Literal["rollout", "evaluate"] = "rollout",
    ) -> None:
        """Episodes were played for so many seconds on so many devices, dropped ones included.

        `prompt_tokens` were shown, each counted once and not where it was in the cache already; `sampled_tokens` were
        drawn in `num_calls` answers. `context_tokens` is the length of the dialogue before each answer, summed over
        answers: the paper's formula wants it. `num_contexts` is how many dialogues these were, for attention.
        """
        if phase not in ("rollout", "evaluate"):
            raise ValueError(f"nothing is played in a phase {phase!r}; it is rollout or evaluate")
        _check(
            prompt_tokens=prompt_tokens,
            sampled_tokens=sampled_tokens,
            num_calls=num_calls,
            context_tokens=context_tokens,
            num_contexts=num_contexts,
            seconds=seconds,
            devices=devices,
        )
        counts, tokens = self._counts, prompt_tokens + sampled_tokens
        if self._config.attention and tokens and not num_contexts:
            raise ValueError("compute.attention is set, and tokens were charged without num_contexts")
        if phase == "evaluate":
            counts.evaluation_tokens += tokens
        elif self._config.paper_lambda is None and sampled_tokens and not (num_calls and context_tokens):
            raise ValueError("compute.paper_lambda is not set, and tokens were charged without num_calls")
        else:
            counts.prompt_tokens += prompt_tokens
            counts.sampled_tokens += sampled_tokens
            counts.num_calls += num_calls
            counts.context_tokens += context_tokens
        self._pairs[phase] += _pairs(tokens, num_contexts)
        self.charge_seconds(phase, seconds * devices)

    def charge_update(
        self, report: Update, *, played_share: float, seconds: float | None = None, devices: int = 1
    ) -> None:
        """An update of the learner was made on so many devices, in so many seconds or as many as its report says.

        `played_share` is the share of its tokens that were played and not demonstrated: 1 for reinforcement, 0 for
        imitation.
        """
        if not 0 <= played_share <= 1:
            raise ValueError(f"played_share={played_share}; a share lies between 0 and 1")
        counts = self._counts
        counts.forward_tokens += report.forward_tokens
        counts.trained_tokens += report.trained_tokens
        counts.played_tokens += report.trained_tokens * played_share
        # The same sequences go through the model once or several times.
        of_all, once = _pairs(report.num_tokens, report.num_sequences), max(report.num_tokens, 1)
        self._pairs["look"] += of_all * report.forward_tokens // once
        self._pairs["learn"] += of_all * report.trained_tokens // once
        looking = report.seconds.get("look", 0.0)
        whole = sum(report.seconds.values()) if seconds is None else max(seconds, looking)
        self.charge_seconds("look", looking * devices)
        self.charge_seconds("learn", (whole - looking) * devices)

    def charge_scoring(self, tokens: int) -> None:
        """Demonstrations were scored for an evaluation, without learning from them."""
        _check(tokens=tokens)
        self._counts.evaluation_tokens += tokens

    def charge_seconds(self, phase: Phase, device_seconds: float) -> None:
        """Devices were held for a phase: seconds times devices."""
        if phase not in PHASES:
            raise ValueError(f"there is no phase {phase!r}; there are {', '.join(PHASES)}")
        if device_seconds < 0:
            raise ValueError(f"{device_seconds} device-seconds of {phase}; time does not run backwards")
        self._seconds[phase] += device_seconds

    def totals(self) -> dict[str, float | int]:
        """Everything so far, in one flat row; what names no phase is of training, without evaluation."""
        counts, flops = self._counts, self._flops()
        row: dict[str, float | int] = {
            "compute/paper_flops": self._paper_flops(),
            "compute/flops": sum(flops[phase] for phase in PHASES if phase != "evaluate") + self._initial(),
            "compute/device_seconds": sum(self._seconds[phase] for phase in PHASES if phase != "evaluate"),
        }
        row |= {f"compute/{phase}_flops": count for phase, count in flops.items() if phase != "sync"}
        row |= {f"compute/{phase}_device_seconds": seconds for phase, seconds in self._seconds.items()}
        names = ("prompt_tokens", "sampled_tokens", "forward_tokens", "trained_tokens", "evaluation_tokens")
        return row | {f"compute/{name}": getattr(counts, name) for name in names}

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on exactly; it can be written as JSON."""
        return {"counts": asdict(self._counts), "seconds": dict(self._seconds), "pairs": dict(self._pairs)}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Go on from a state, this run's or that of the run whose policy it starts from."""
        self._counts = _Counts(**state["counts"])
        self._seconds = {phase: float(state["seconds"][phase]) for phase in PHASES}
        self._pairs = {phase: int(state["pairs"][phase]) for phase in PHASES}
        return self

    def _flops(self) -> dict[Phase, int]:
        model, counts = self.model, self._counts
        if self._config.attention and not (model.layers and model.width):
            raise ValueError("compute.attention needs the model's number of layers and the width of their attention")
        attention = 4 * model.layers * model.width if self._config.attention else 0
        passes = 4 if model.recomputes else 3
        return {
            "rollout": model.forward(counts.prompt_tokens + counts.sampled_tokens) + attention * self._pairs["rollout"],
            "look": model.forward(counts.forward_tokens)
            + 2 * model.critic * counts.forward_tokens
            + attention * self._pairs["look"],
            "learn": model.learning(counts.trained_tokens) + attention * passes * self._pairs["learn"],
            "sync": 0,
            "evaluate": model.forward(counts.evaluation_tokens) + attention * self._pairs["evaluate"],
        }

    def _paper_flops(self) -> float:
        counts, config, all_parameters = self._counts, self._config, self.model.parameters
        learned = 6 * all_parameters * (counts.trained_tokens + config.initial_tokens)
        if config.paper_lambda is not None:
            return learned + 2 * all_parameters * config.paper_lambda * counts.played_tokens
        # Answers x mean prompt x mean answer.
        buffer = counts.context_tokens * counts.sampled_tokens / max(counts.num_calls, 1)
        return float(learned + 2 * all_parameters * buffer)

    def _initial(self) -> int:
        return self.model.learning(self._config.initial_tokens)


def _pairs(tokens: int, contexts: int) -> int:
    """How many pairs of a token and one not behind it there are in dialogues of equal length.

    Where lengths differ there are more: the count is a lower bound, since only sums come this far.
    """
    return tokens * (tokens + contexts) // (2 * contexts) if contexts else 0


def _check(**counts: float) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}={count}; what was counted cannot be less than 0")
