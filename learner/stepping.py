"""The steps of an update: each micro-batch's losses, their gradients, a step of the optimizer with the sum of them.

Stepping(engine, scorer, policy, config).steps(work, weights, version)   →  Stepped(metrics, trained, compared)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from learner.config import LearnerConfig
from learner.deepspeed_engine import DistributedEngine, StepReport
from learner.distillation import distillation
from learner.hybrid import Weights
from learner.parts import CRITIC
from learner.policy_model import PolicyModel, Predictions
from learner.ppo import reinforcement
from learner.pulls import Pulls
from learner.scorer import Scorer
from learner.sft import imitation
from learner.statistics import Statistics
from learner.token_scorer import Mode
from learner.token_table import Step, Totals
from learner.work import Work
from rollout.traffic import Traffic

_NONE = torch.zeros(0, dtype=torch.long)
"""The numbers of no tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What the steps of an update were."""

    metrics: dict[str, float]
    """Over all ranks."""
    trained: Traffic
    """What went through the policy on this rank."""
    compared: Traffic
    """And through the initial one or a teacher."""


@dataclass(frozen=True, slots=True)
class Stepping:
    """Called alike by all ranks."""

    engine: DistributedEngine
    scorer: Scorer
    policy: PolicyModel
    config: LearnerConfig

    def steps(self, work: Work, weights: Weights, version: int) -> Stepped:
        """All epochs of the update behind which the policy is of the next version."""
        statistics = Statistics()
        every = self.config.pulls_every
        pulls = Pulls(self.policy) if every and version % every == 0 else None
        contexts = self._contexts(work, weights, version, statistics)
        alone = self.policy.critic_learns_alone
        reports, trained, compared = list[StepReport](), Traffic(), Traffic()
        for step in self._order(len(work.steps), version):
            context = contexts[step]
            if not context.totals.teach:
                continue
            before = statistics.sums.copy()
            for batch in work.steps[step]:
                compares = self._compares(context)
                trained += batch.through(self.policy)
                compared += (batch.told or batch).through(self.scorer.compared) if compares else Traffic()
                reference = self.scorer.reference_distributions(batch, work.table) if compares else None
                with self.scorer.comparing(compares):
                    predictions = self.scorer.predict(batch, work.table, self._mode(context), reference)
                    found = losses(predictions, batch.numbers.to(work.table.rewards.device), context)
                    if pulls is not None:
                        pulls.add(found)
                    self.engine.accumulate(sum(found.values(), _nothing(predictions)))
            reports.append(self.engine.step(only=CRITIC if alone else None))
            limit = self.config.loss.target_kl
            if limit is not None and statistics.since(before, "kl_old", self.engine.sum) > limit:
                break
        metrics = statistics.means(self.engine.sum) | _of_steps(reports)
        if pulls is not None:
            metrics |= pulls.norms(len(reports), self.engine.sum)
        return Stepped(metrics=metrics, trained=trained, compared=compared)

    def _contexts(self, work: Work, weights: Weights, version: int, statistics: Statistics) -> list[Step]:
        """What the losses of each step's micro-batches share."""
        all_totals = [
            Totals(self.engine.sum(Totals.count(torch.cat([_NONE, *(batch.numbers for batch in step)]), work.table)))
            for step in work.steps
        ]
        # Where nothing was played there is no critic to warm up.
        warms_up = version < self.config.value_head.warmup_updates
        alone = warms_up and any(each.value_targets for each in all_totals)
        self.policy.critic_learns_alone = alone
        return [
            Step(
                work.table,
                totals,
                self.config,
                statistics,
                rl_weight=weights.play,
                sft_weight=weights.imitation,
                critic_only=alone,
                is_only_one=len(work.steps) * self.config.epochs == 1,
            )
            for totals in all_totals
        ]

    def _order(self, num_steps: int, version: int) -> Iterator[int]:
        """Of the steps of all epochs."""
        for epoch in range(self.config.epochs):
            order = list(range(num_steps))
            Random(f"{self.config.seed}/{version}/{epoch}").shuffle(order)
            yield from order

    def _mode(self, step: Step) -> Mode:
        if not step.totals.tokens or step.critic_only:
            return Mode.LOGPROBS
        return Mode.LEARNED_ENTROPIES if self.config.loss.entropy_coefficient > 0 else Mode.ENTROPIES

    def _compares(self, step: Step) -> bool:
        """Whether the step holds demonstrations against the initial policy, or what was played against a teacher."""
        imitates = self.config.sft.kl_coefficient and step.totals.imitation_weight
        is_taught = self.config.distillation.teacher and step.totals.tokens
        return bool((imitates or is_taught) and not step.critic_only)


def losses(predictions: Predictions, numbers: torch.Tensor, step: Step) -> dict[str, torch.Tensor]:
    """This rank's share of the step's losses, each weighed; `numbers` [n] are the tokens' rows in the table."""
    table, totals, config = step.table, step.totals, step.config
    if step.is_only_one and config.old_logprobs == "learner":
        table.old_logprobs[numbers] = predictions.logprobs.detach().float()
    found: dict[str, torch.Tensor] = {}
    if totals.tokens:
        found = {name: step.rl_weight * loss for name, loss in reinforcement(predictions, numbers, step).items()}
    if totals.tokens and config.distillation.teacher and not step.critic_only:
        found["distillation"] = distillation(predictions, numbers, step)
    if totals.imitation_weight and not step.critic_only:
        found["imitation"] = step.sft_weight * imitation(predictions, numbers, step)
    return found


def _nothing(predictions: Predictions) -> torch.Tensor:
    """Every parameter gets a gradient, if only zero, or ranks would not reduce the same ones."""
    return 0.0 * (predictions.logprobs.sum() + predictions.values.sum() + predictions.after.sum())


def _of_steps(steps: Sequence[StepReport]) -> dict[str, float]:
    if not steps:
        return {"optimizer_steps": 0.0}
    return {
        "learning_rate": steps[-1].learning_rate,
        "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
        "gradient_clipped": float(np.mean([step.was_clipped for step in steps])),
        "optimizer_steps": float(len(steps)),
    }
