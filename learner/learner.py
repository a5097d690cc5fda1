"""One rank of the learner: episodes in, optimizer steps out, every number over all ranks' tokens.

    Learner(folder, config, …)
      .update(parts, groups)  →  UpdateReport       parts: this rank's sequences, one list for each optimizer step

    an update:  look  →  weigh  →  epochs × steps

Look is a forward pass before the first step: values and old log-probabilities (learner/looking.py). Weigh is what
follows from them: advantages and returns, by GAE or against a group.

Ranks go through the same number of micro-batches, since they gather weights and gradients together; one that has
fewer takes part with empty ones.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from learner.batch import MicroBatch, ModelInput, choose_layout, empty_micro_batch, micro_batches
from learner.config import LearnerConfig
from learner.deepspeed_engine import DistributedEngine, StepReport
from learner.looking import gaps, look
from learner.policy_model import CRITIC, PolicyModel, load_policy, size_of
from learner.ppo import reinforcement, weigh
from learner.scorer import Scorer
from learner.sequence import TrainingSequence, Trajectory
from learner.sft import imitation
from learner.statistics import Statistics, explained_variance
from learner.token_scorer import Mode
from learner.token_table import Step, TokenTable, Totals
from rollout.traffic import Traffic, total
from rollout.transcript import ChatTokens

Groups = Mapping[Trajectory, int]


class FutureEpisode(ValueError):
    """An episode was played by a policy that this learner has not made yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """What an update did, over all ranks."""

    version: int
    """The policy's version after it."""
    num_sequences: int
    """How many sequences it learned from."""
    num_tokens: int
    """How many tokens these hold, pictures expanded."""
    looked: Traffic
    """What went through the model without learning."""
    compared: Traffic
    """What went through the initial policy."""
    trained: Traffic
    """What went forwards and backwards, each epoch's."""
    seconds: Mapping[str, float]
    """Of this rank, by part: prepare, look, weigh, learn."""
    metrics: Mapping[str, float]
    """Losses and diagnostics, by name."""


@dataclass(frozen=True, slots=True)
class _Work:
    """An update's sequences on this rank, their tokens, and the micro-batches of each step."""

    sequences: list[TrainingSequence]
    table: TokenTable
    steps: list[list[MicroBatch]]
    looks: list[MicroBatch]
    """Those of what was played alone, to look at beforehand."""

    def batches(self) -> Iterator[MicroBatch]:
        """All micro-batches."""
        return (batch for step in self.steps for batch in step)


class Learner:
    """The policy, its optimizer and how both change; every method is called by all ranks together."""

    def __init__(self, folder: Path, config: LearnerConfig, *, temperature: float, chat: ChatTokens) -> None:
        self._config = config
        self.policy: PolicyModel = load_policy(folder, config, chat)
        self.size = size_of(self.policy, recomputes=config.deepspeed.gradient_checkpointing)
        self.chat = chat
        self.version = 0
        attention = self.policy.backbone.config._attn_implementation
        self._layout = choose_layout(config.layout, has_flash_attention=attention == "flash_attention_2")
        options: dict[str, Any] = {"optimizer": config.optimizer, "sharing": config.deepspeed, "dtype": config.dtype}
        self.engine = DistributedEngine.start(self.policy, groups=self.policy.parameter_groups(config), **options)
        self._scorer = Scorer(self.engine, self.policy, config, temperature)
        self._scorer.load_reference(folder, chat)

    def update(self, parts: Sequence[Sequence[TrainingSequence]], groups: Groups) -> UpdateReport:
        """Learn from all parts, each an optimizer step in every epoch; `groups` numbers the tasks over all ranks."""
        clock = _Clock()
        with clock("prepare"):
            work = self._prepare(parts)
        metrics: dict[str, float] = {}
        looked = compared = Traffic()
        plays = self.engine.largest(int(any(not sequence.is_demonstration for sequence in work.sequences)))
        if plays:
            with clock("look"):
                looked, compared = look(work.looks, work.table, self._scorer, self._config, len(work.steps))
            with clock("weigh"):
                metrics = self._weigh(work, groups)
        statistics = Statistics()
        with clock("learn"):
            work = replace(work, table=work.table.to(self._scorer.device))
            steps, trained, compared_too = self._learn(work, statistics)
        if plays:
            metrics |= gaps(work.table, self.engine.gather)
        self.version += 1
        metrics |= statistics.means(self.engine.sum) | _of_steps(steps)
        return self._report(work, metrics, clock.seconds, (looked, compared + compared_too, trained))

    @torch.no_grad()
    def loss_of(self, sequences: Sequence[TrainingSequence]) -> tuple[float, Traffic]:
        """The mean cross-entropy of demonstrations, weighed as in training, without learning from them; and how much
        that was."""
        work = self._prepare([sequences])
        sums = np.zeros(2)
        for batch in work.batches():
            predictions = self._scorer.predict(batch, work.table)
            weights = work.table.imitation_weights[batch.numbers]
            sums += -float((weights * predictions.logprobs.cpu()).sum()), float(weights.sum())
        loss, weight = self.engine.sum(sums)
        [scored] = self._over_ranks(total(batch.traffic for batch in work.batches()))
        return float(loss / max(weight, 1e-12)), scored

    def _prepare(self, parts: Sequence[Sequence[TrainingSequence]]) -> _Work:
        """Columns and micro-batches, as many on every rank."""
        sequences = [sequence for part in parts for sequence in part]
        newest = max((int(each.versions.max()) for each in sequences if not each.is_demonstration), default=-1)
        if newest > self.version:
            raise FutureEpisode(
                f"an episode was played by version {newest} of the policy, but the learner is at version "
                f"{self.version}; restore the checkpoint that the rollout workers play, or send them its weights"
            )
        # Where one rank looks at pictures, all do; at stage 3 also where none does, since weights lie with all ranks.
        looks = self.engine.largest(int(any(sequence.images for sequence in sequences)))
        family = self.policy.family
        filler = family.filler() if looks or self._config.deepspeed.zero_stage == 3 else None
        steps, first_number = [], 0
        played: list[ModelInput] = []
        for part in parts:
            inputs = []
            for sequence in part:
                inputs.append(family.model_input(sequence, first_number))
                first_number += int(sequence.is_sampled.sum())
                played += [] if sequence.is_demonstration else inputs[-1:]
            steps.append(self._batches(inputs, filler))
        looks = [batch for step in steps for batch in step]
        if self.engine.largest(len(sequences) - len(played)):
            looks = self._batches(played, filler)
        return _Work(sequences, TokenTable.of(sequences, self._config), steps, looks)

    def _batches(self, inputs: Sequence[ModelInput], filler: ModelInput | None) -> list[MicroBatch]:
        """As many on every rank."""
        batches = micro_batches(
            inputs,
            max_tokens=self._config.micro_batch_tokens,
            layout=self._layout,
            family=self.policy.family,
            filler=filler,
        )
        missing = self.engine.largest(len(batches)) - len(batches)
        return [*batches, *(empty_micro_batch(filler, self.policy.family) for _ in range(missing))]

    def _weigh(self, work: _Work, groups: Groups) -> dict[str, float]:
        """Fill in advantages and returns; what there is to say of them."""
        table, gather = work.table, self.engine.gather
        advantages = weigh(table, work.sequences, groups, self._config, gather)
        if not self._config.advantage.needs_values:
            return {}
        at = advantages.is_value_target
        count, returned = gather(np.array([[at.sum(), advantages.returns[at].sum()]])).sum(axis=0)
        values = table.values[~table.is_demonstration].double().numpy()[at]
        return {
            "return_mean": float(returned / max(count, 1)),
            "explained_variance": explained_variance(values, advantages.returns[at], gather),
        }

    def _learn(self, work: _Work, statistics: Statistics) -> tuple[list[StepReport], Traffic, Traffic]:
        """All epochs and steps; the reports of the steps, what went through the policy, and through the initial one."""
        all_totals = [
            Totals(self.engine.sum(Totals.count(torch.cat([batch.numbers for batch in step]), work.table)))
            for step in work.steps
        ]
        # Where nothing was played there is no critic to warm up.
        alone = self.version < self._config.value_head.warmup_updates and any(each.value_targets for each in all_totals)
        self.policy.critic_learns_alone = alone
        is_only_one = len(work.steps) * self._config.epochs == 1
        contexts = [Step(work.table, totals, self._config, statistics, alone, is_only_one) for totals in all_totals]
        reports, trained, compared = [], Traffic(), Traffic()
        for epoch in range(self._config.epochs):
            order = list(range(len(work.steps)))
            Random(f"{self._config.seed}/{self.version}/{epoch}").shuffle(order)
            for step in order:
                for batch in work.steps[step]:
                    self.engine.accumulate(self._loss(batch, contexts[step]))
                    trained += batch.traffic
                    compared += batch.traffic if self._compares(contexts[step]) else Traffic()
                reports.append(self.engine.step(only=CRITIC if alone else None))
        return reports, trained, compared

    def _compares(self, step: Step) -> bool:
        """Whether the step holds its demonstrations against the initial policy."""
        return bool(self._config.sft.kl_coefficient and step.totals.imitation_weight and not step.critic_only)

    def _loss(self, batch: MicroBatch, step: Step) -> torch.Tensor:
        """This rank's share of the step's loss."""
        config, table, totals = self._config, step.table, step.totals
        reference = self._scorer.reference_distributions(batch, table) if self._compares(step) else None
        mode = _mode_of_play(config) if totals.tokens and not step.critic_only else Mode.LOGPROBS
        predictions = self._scorer.predict(batch, table, mode, reference)
        # Every parameter gets a gradient, if only zero, or ranks would not reduce the same ones.
        loss = 0.0 * (predictions.logprobs.sum() + predictions.values.sum() + predictions.after.sum())
        numbers = batch.numbers.to(table.rewards.device)
        if step.is_only_one and config.old_logprobs == "learner":
            table.old_logprobs[numbers] = predictions.logprobs.detach().float()
        if totals.tokens:
            part = reinforcement(predictions, numbers, step)
            loss = loss + config.rl_weight * part
        if totals.imitation_weight and not step.critic_only:
            part = imitation(predictions, numbers, step)
            loss = loss + config.sft_weight * part
        return loss

    def _over_ranks(self, *traffic: Traffic) -> list[Traffic]:
        sums = self.engine.sum(np.array([count for each in traffic for count in astuple(each)], np.float64))
        names = [each.name for each in fields(Traffic)]
        rows = sums.astype(int).reshape(len(traffic), len(names)).tolist()
        return [Traffic(**dict(zip(names, row, strict=True))) for row in rows]

    def _report(
        self, work: _Work, metrics: dict[str, float], seconds: Mapping[str, float], passed: Sequence[Traffic]
    ) -> UpdateReport:
        real = sum(batch.num_tokens for batch in work.batches())
        padded = sum(batch.token_ids.numel() for batch in work.batches())
        counts = self.engine.sum(np.array([len(work.sequences), real, padded], np.float64))
        looked, compared, trained = self._over_ranks(*passed)
        metrics["padding_waste"] = float(1 - counts[1] / counts[2])
        num_tokens = looked.tokens + compared.tokens + trained.tokens
        metrics["tokens_per_second"] = num_tokens / sum(seconds.values())
        return UpdateReport(
            version=self.version,
            num_sequences=int(counts[0]),
            num_tokens=int(counts[1]),
            looked=looked,
            compared=compared,
            trained=trained,
            seconds=dict(seconds),
            metrics=metrics,
        )


def _mode_of_play(config: LearnerConfig) -> Mode:
    return Mode.LEARNED_ENTROPIES if config.loss.entropy_coefficient > 0 else Mode.ENTROPIES


def _of_steps(steps: Sequence[StepReport]) -> dict[str, float]:
    return {
        "learning_rate": steps[-1].learning_rate,
        "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
        "gradient_clipped": float(np.mean([step.was_clipped for step in steps])),
        "optimizer_steps": float(len(steps)),
    }


class _Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - started
