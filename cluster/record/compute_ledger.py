"""What training has cost, by what went through which part of the model, and told in two ledgers.

    ledger.charge_rollout(traffic, …)   ledger.charge_update(report, …)   ledger.totals()  →  one flat row

The paper's ledger, which is for comparison with its figures, has one N, all parameters, for every token:

    imitation        6 N D                         D: tokens that went forwards and backwards, every epoch's
    reinforcement    6 N D + 2 N λ D               λ D: what it charges for playing; 6 for cards, 5.1 for routes

It charges the whole dialogue again for every token drawn (λ D = answers × mean prompt × mean answer), as a sampler
without a cache would. The real ledger has the products of matrices that are made, part by part (learner/model_size.py):

    layers of the language model   each token; what was shown is read once, since keys and values are kept
    output layer, critic           each token that is drawn or learned; the critic not in playing
    vision tower, projector        each patch, each token of a picture: where it is shown, and at each pass of learning

    playing          forward
    looking          forward: old values, old log-probabilities; and the initial policy's, where the loss compares
    learning         forward; again where activations are not kept; gradients of what is passed on and of what learns

Nothing is charged for what is looked up, for padding, or for gradients that no part needs. Attention over the dialogue
and the picture is left out as in 6 N D, unless `compute.attention` is set. Evaluation is counted, and is no part of
training.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from learner.model_size import ModelSize
from rollout.traffic import Traffic

Phase = Literal["rollout", "look", "learn", "sync", "evaluate"]
PHASES: tuple[Phase, ...] = get_args(Phase)
PASSES = ("rollout", "look", "compare", "learn", "evaluate")
"""What traffic is counted by; `compare` is what goes through the initial policy, and part of looking."""


class ComputeConfig(BaseModel):
    """How compute is counted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    paper_lambda: float | None = Field(default=6.0, ge=0)
    """The paper's charge for playing, in tokens for each token learned from: 6 for cards, 5.1 for routes. Without a
    number, it is worked out by the paper's formula from the answers that were drawn."""
    initial_tokens: int = Field(default=0, ge=0)
    """How many tokens the initial policy was fine-tuned on; both ledgers charge these too, as imitation of words."""
    attention: bool = False
    """Whether the real ledger counts attention over dialogues and pictures, which grows with the square of their
    length."""


class Update(Protocol):
    """What a ledger reads of the learner's report on an update."""

    @property
    def looked(self) -> Traffic: ...
    @property
    def compared(self) -> Traffic: ...
    @property
    def trained(self) -> Traffic: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


@dataclass(slots=True)
class _Counts:
    """What the paper's formula wants besides traffic."""

    num_calls: int = 0
    context_tokens: int = 0
    played_tokens: float = 0.0


@dataclass(slots=True)
class _PartCounts:
    """What is told of each part of a mixture."""

    prompt_tokens: int = 0
    sampled_tokens: int = 0
    trained_tokens: int = 0


class ComputeLedger:
    """The account of one run."""

    def __init__(self, model: ModelSize | None = None, config: ComputeConfig | None = None) -> None:
        self._config = config or ComputeConfig()
        self.model = model or ModelSize(parameters=0)
        """May be set later, when it is known: only traffic is remembered."""
        self._counts = _Counts()
        self._traffic = dict.fromkeys(PASSES, Traffic())
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._parts: defaultdict[str, _PartCounts] = defaultdict(_PartCounts)

    def charge_rollout(
        self,
        traffic: Traffic,
        *,
        parts: Mapping[str, Traffic] | None = None,
        num_calls: int = 0,
        context_tokens: int = 0,
        seconds: float = 0.0,
        devices: int = 1,
        phase: Literal["rollout", "evaluate"] = "rollout",
    ) -> None:
        """Episodes were played for so many seconds on so many devices, dropped ones included.

        `num_calls` answers were drawn; `context_tokens` is the length of the dialogue before each, summed over
        answers: the paper's formula wants them. `parts` tell the parts of a mixture apart.
        """
        if phase not in ("rollout", "evaluate"):
            raise ValueError(f"nothing is played in a phase {phase!r}; it is rollout or evaluate")
        _check(num_calls=num_calls, context_tokens=context_tokens, seconds=seconds, devices=devices, **asdict(traffic))
        if phase == "rollout":
            if self._config.paper_lambda is None and traffic.scored and not (num_calls and context_tokens):
                raise ValueError("compute.paper_lambda is not set, and tokens were charged without num_calls")
            self._counts.num_calls += num_calls
            self._counts.context_tokens += context_tokens
        self._traffic[phase] += traffic
        for part, of_part in (parts or {}).items():
            self._parts[part].prompt_tokens += of_part.tokens - of_part.scored
            self._parts[part].sampled_tokens += of_part.scored
        self.charge_seconds(phase, seconds * devices)

    def charge_update(
        self,
        report: Update,
        *,
        played_share: float,
        part_shares: Mapping[str, float] | None = None,
        seconds: float | None = None,
        devices: int = 1,
    ) -> None:
        """An update of the learner was made on so many devices, in so many seconds or as many as its report says.

        `played_share` is the share of its tokens that were played and not demonstrated: 1 for reinforcement, 0 for
        imitation. `part_shares` are those of the parts of a mixture.
        """
        if not 0 <= played_share <= 1:
            raise ValueError(f"played_share={played_share}; a share lies between 0 and 1")
        self._traffic["look"] += report.looked
        self._traffic["compare"] += report.compared
        self._traffic["learn"] += report.trained
        self._counts.played_tokens += report.trained.tokens * played_share
        for part, share in (part_shares or {}).items():
            self._parts[part].trained_tokens += round(report.trained.tokens * share)
        looking = report.seconds.get("look", 0.0)
        whole = sum(report.seconds.values()) if seconds is None else max(seconds, looking)
        self.charge_seconds("look", looking * devices)
        self.charge_seconds("learn", (whole - looking) * devices)

    def charge_scoring(self, traffic: Traffic) -> None:
        """Demonstrations were scored for an evaluation, without learning from them."""
        self._traffic["evaluate"] += traffic

    def charge_seconds(self, phase: Phase, device_seconds: float) -> None:
        """Devices were held for a phase: seconds times devices."""
        if phase not in PHASES:
            raise ValueError(f"there is no phase {phase!r}; there are {', '.join(PHASES)}")
        if device_seconds < 0:
            raise ValueError(f"{device_seconds} device-seconds of {phase}; time does not run backwards")
        self._seconds[phase] += device_seconds

    def totals(self) -> dict[str, float | int]:
        """Everything so far, in one flat row; what names no phase is of training, without evaluation."""
        traffic, flops = self._traffic, self._flops()
        row: dict[str, float | int] = {
            "compute/paper_flops": self._paper_flops(),
            "compute/flops": sum(flops[phase] for phase in PHASES if phase != "evaluate") + self._initial(),
            "compute/device_seconds": sum(self._seconds[phase] for phase in PHASES if phase != "evaluate"),
        }
        row |= {f"compute/{phase}_flops": count for phase, count in flops.items() if phase != "sync"}
        row |= {f"compute/{phase}_device_seconds": seconds for phase, seconds in self._seconds.items()}
        row |= {f"compute/{part}/{name}": n for part, each in self._parts.items() for name, n in asdict(each).items()}
        return row | {
            "compute/prompt_tokens": traffic["rollout"].tokens - traffic["rollout"].scored,
            "compute/sampled_tokens": traffic["rollout"].scored,
            "compute/forward_tokens": traffic["look"].tokens + traffic["compare"].tokens,
            "compute/trained_tokens": traffic["learn"].tokens,
            "compute/evaluation_tokens": traffic["evaluate"].tokens,
            "compute/patches": sum(traffic[each].patches for each in PASSES if each != "evaluate"),
        }

    def is_nearest(self, budget: float, account: str, iterations: int) -> bool:
        """Whether after so many iterations the budget is met as nearly as it can be: one more, of the mean cost, would
        miss it by more. So runs with large iterations and runs with small ones end at equal compute."""
        spent = self.totals()[account]
        before = ComputeLedger(self.model, self._config).totals()[account]
        return spent + (spent - before) / max(iterations, 1) / 2 >= budget

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on exactly; it can be written as JSON."""
        traffic = {name: asdict(each) for name, each in self._traffic.items()}
        parts = {name: asdict(each) for name, each in self._parts.items()}
        return {"counts": asdict(self._counts), "traffic": traffic, "seconds": dict(self._seconds), "parts": parts}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Go on from a state, this run's or that of the run whose policy it starts from."""
        self._counts = _Counts(**state["counts"])
        self._traffic = {name: Traffic(**state["traffic"][name]) for name in PASSES}
        self._seconds = {phase: float(state["seconds"][phase]) for phase in PHASES}
        self._parts.clear()
        self._parts.update({part: _PartCounts(**counts) for part, counts in state["parts"].items()})
        return self

    def _flops(self) -> dict[Phase, int]:
        model, traffic, attention = self.model, self._traffic, self._config.attention
        compared = model.forward(traffic["compare"], attention=attention)
        return {
            "rollout": model.forward(traffic["rollout"], attention=attention),
            "look": model.look(traffic["look"], attention=attention) + compared,
            "learn": model.learn(traffic["learn"], attention=attention),
            "sync": 0,
            "evaluate": model.forward(traffic["evaluate"], attention=attention),
        }

    def _paper_flops(self) -> float:
        counts, config, all_parameters = self._counts, self._config, self.model.parameters
        learned = 6 * all_parameters * (self._traffic["learn"].tokens + config.initial_tokens)
        if config.paper_lambda is not None:
            return learned + 2 * all_parameters * config.paper_lambda * counts.played_tokens
        # Answers x mean prompt x mean answer.
        buffer = counts.context_tokens * self._traffic["rollout"].scored / max(counts.num_calls, 1)
        return float(learned + 2 * all_parameters * buffer)

    def _initial(self) -> int:
        tokens = self._config.initial_tokens
        return self.model.learn(Traffic(tokens=tokens, scored=tokens))


def _check(**counts: float) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}={count}; what was counted cannot be less than 0")
