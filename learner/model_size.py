"""What one token, patch or pair of them costs in each part of a model; without torch, so that plans can ask too.

    model_size(weights, critic, …)  →  ModelSize    of any list of weights: a loaded model's, or those of a config.json
      .forward(traffic)                             FLOPs of sampling, and of the model without low-rank additions
      .look(traffic)                                of a forward pass of the learner
      .learn(traffic)                               of forwards and backwards

A matrix of m x n entries takes m n multiplications, and as many additions, for each token that passes it. Backwards it
takes as many again for the gradient of what it was given, where anything before it learns, and as many for its own,
where it learns itself. So a frozen vision tower costs its forward pass alone, and a frozen layer under low-rank
additions two thirds of one that learns. What is looked up, norms, biases and activations are no products of matrices
and cost nothing here.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, pairwise

from learner.parts import part_of
from rollout.traffic import Traffic

_ORDER = ("vision_tower", "projector", "language_model")
"""In which order a picture passes the parts."""
_STAGES = (
    ("q_proj", "k_proj", "v_proj", "qkv"),
    ("o_proj", "out_proj", "proj"),
    ("gate_proj", "up_proj", "fc1", "linear_fc1"),
    ("down_proj", "fc2", "linear_fc2"),
)
"""The matrices of a layer in the order in which it uses them; those of one stage are given the same."""
_ATTENTION_INPUTS, _ATTENTION_OUTPUT = 0, 1
_OF_PICTURES = {"k_proj", "v_proj"}
"""Matrices of a layer that looks across at pictures, which their states pass, and no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One tensor of a model: `Weight(name="model.layers.0.mlp.up_proj.weight", shape=(384, 128))`."""

    name: str
    """With `lora_A` or `lora_B` in it where it is a low-rank addition."""
    shape: tuple[int, ...]
    learns: bool = True
    """Whether it is trained."""
    is_looked_up: bool = False
    """Whether its rows are looked up, as those of an input embedding."""
    is_output: bool = False
    """Whether it is the output layer, which may be the input embedding too."""

    @property
    def size(self) -> int:
        """How many entries it has."""
        return math.prod(self.shape)

    @property
    def is_addition(self) -> bool:
        """Whether it is part of a low-rank addition."""
        return "lora_A" in self.name or "lora_B" in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Multiplications for each of what passes a part; as many additions come with them."""

    forward: int = 0
    """Of a forward pass, low-rank additions left out."""
    added: int = 0
    """Of low-rank additions."""
    again: int = 0
    """Of the second forward pass, where activations are computed twice instead of kept."""
    passed: int = 0
    """Of the gradients that are passed on to what comes before."""
    learned: int = 0
    """Of the gradients of what learns."""

    @property
    def whole(self) -> int:
        """Forwards and backwards."""
        return self.forward + self.added + self.again + self.passed + self.learned


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A model as the ledgers see it.

    A model of 1,000 entries a token and a vocabulary of 20 by 5, of which all learns:
    `ModelSize(parameters=1_200, layers=Costs(forward=1_000, passed=1_000, learned=1_000),
    head=Costs(forward=100, passed=100, learned=100))`.
    """

    parameters: int
    """All of the policy's, low-rank additions included and the critic's head excluded."""
    tower: Costs = Costs()
    """For each patch."""
    projector: Costs = Costs()
    """For each token that is part of a picture."""
    layers: Costs = Costs()
    """For each token."""
    head: Costs = Costs()
    """For each token whose probability is asked for."""
    critic: Costs = Costs()
    """For each state that the critic is asked about."""
    attention: Costs = Costs()
    """For each pair of tokens, in all layers."""
    sight: Costs = Costs()
    """For each pair of patches, in all layers of the vision tower."""

    def forward(self, traffic: Traffic, *, attention: bool = False) -> int:
        """FLOPs of a forward pass without low-rank additions, which a rollout engine has in its weights."""
        return sum(2 * costs.forward * units for costs, units in self._passing(traffic, attention=attention))

    def look(self, traffic: Traffic, *, attention: bool = False) -> int:
        """FLOPs of a forward pass of the learner."""
        costs_and_units = self._passing(traffic, attention=attention)
        return sum(2 * (costs.forward + costs.added) * units for costs, units in costs_and_units)

    def learn(self, traffic: Traffic, *, attention: bool = False) -> int:
        """FLOPs of forward and backward."""
        return sum(2 * costs.whole * units for costs, units in self._passing(traffic, attention=attention))

    def _passing(self, traffic: Traffic, *, attention: bool) -> list[tuple[Costs, int]]:
        of_pairs = [(self.attention, traffic.pairs), (self.sight, traffic.patch_pairs)] if attention else []
        return [
            (self.tower, traffic.patches),
            (self.projector, traffic.picture_tokens),
            (self.layers, traffic.tokens),
            (self.head, traffic.scored),
            (self.critic, traffic.valued),
            *of_pairs,
        ]


def model_size(
    weights: Iterable[Weight], critic: Sequence[int], *, critic_reaches_model: bool = True, recomputes: bool = False
) -> ModelSize:
    """The costs of a policy of these weights, and of a critic with these widths from its input to its output."""
    weights = list(weights)
    counter = _Counter(recomputes=recomputes)
    body = [weight for weight in weights if weight.is_looked_up or not weight.is_output]
    for (part, layer), of_layer in groupby(sorted(body, key=_place), key=lambda weight: _place(weight)[:2]):
        counter.count_layer(_ORDER[part], layer, list(of_layer))
    head = [weight.size for weight in weights if weight.is_output]
    learned = [weight.size for weight in weights if weight.is_output and weight.learns]
    of_head = Costs(forward=sum(head), passed=sum(head) if counter.reached else 0, learned=sum(learned))
    return ModelSize(
        parameters=sum(weight.size for weight in weights),
        tower=counter.costs("vision_tower"),
        projector=counter.costs("projector"),
        layers=counter.costs("language_model"),
        head=of_head,
        critic=_of_critic(critic, reaches_model=critic_reaches_model and counter.reached),
        attention=counter.costs("language_model attention"),
        sight=counter.costs("vision_tower attention"),
    )


class _Counter:
    """Counts layer after layer, in the order in which they are passed."""

    def __init__(self, *, recomputes: bool) -> None:
        self.reached = False
        """Whether anything so far learns, so that gradients have to come through whatever follows."""
        self._recomputes = recomputes
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def count_layer(self, part: str, layer: int, weights: Sequence[Weight]) -> None:
        """All weights of a layer, or those of a part that are in none."""
        counts, products = self._counts[part], [0]
        width, is_attended = 0, False
        for stage, of_stage in groupby(weights, key=lambda weight: _place(weight)[2]):
            learns = False
            for weight in of_stage:
                learns |= weight.learns
                if weight.is_looked_up or len(weight.shape) < 2:
                    continue
                products.append(weight.size)
                counts["added" if weight.is_addition else "forward"] += weight.size
                counts["passed"] += weight.size * (self.reached or "lora_B" in weight.name)
                counts["learned"] += weight.size * weight.learns
                if layer >= 0 and stage == _ATTENTION_OUTPUT and not weight.is_addition and part != "projector":
                    width, is_attended = weight.shape[1], self.reached
            self.reached |= learns
        again = self._recomputes and layer >= 0 and part != "projector" and self.reached
        # Recomputing ends where the input of a layer's last product is known.
        counts["again"] += sum(products[:-1]) * again
        # Scores and their sums forwards; backwards, gradients of queries, keys, values and weights.
        attention = {"forward": 2 * width, "again": 2 * width * again, "passed": 4 * width * is_attended}
        self._counts[f"{part} attention"].update(attention)

    def costs(self, part: str) -> Costs:
        """Of all its layers."""
        return Costs(**{each.name: self._counts[part][each.name] for each in fields(Costs)})


def _place(weight: Weight) -> tuple[int, int, int]:
    """Part, layer and stage within it; −1 for what is in no layer or stage."""
    words = weight.name.split(".")
    part, number = part_of(weight.name), re.search(r"\.(\d+)\.", weight.name)
    if "cross_attn" in words and _OF_PICTURES & set(words):
        part = "projector"
    layer = int(number[1]) if number else -1
    stages = (stage for stage, names in enumerate(_STAGES) if set(names) & set(words))
    # Nothing comes before the patches but pixels, wherever else the tower's loose weights stand.
    is_loose = part == "vision_tower" and layer < 0
    return _ORDER.index(part), layer, -1 if is_loose else next(stages, -1)


def _of_critic(widths: Sequence[int], *, reaches_model: bool) -> Costs:
    """All of it learns and passes gradients on; its first layer only where the model learns by it."""
    sizes = [before * after for before, after in pairwise(widths)]
    return Costs(
        forward=sum(sizes), passed=sum(sizes[1:]) + sizes[0] * reaches_model if sizes else 0, learned=sum(sizes)
    )
