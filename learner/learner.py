"""One rank of the learner: episodes in, optimizer steps out, every number over all ranks' tokens.

    Learner(folder, config, …)
      .update(parts, groups)  →  UpdateReport       parts: this rank's sequences, one list for each optimizer step

    an update:  look  →  weigh  →  epochs × steps

Look is a forward pass before the first step: values and old log-probabilities (learner/looking.py). Weigh is what
follows from them: advantages and returns, by GAE or against a group.

Ranks go through the same number of micro-batches, since they gather weights and gradients together; one that has
fewer takes part with empty ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learner.config import LearnerConfig
from learner.deepspeed_engine import DistributedEngine
from learner.device_peak import peak_flops, peak_memory
from learner.distillation import Telling
from learner.hybrid import entropy_of, weights_of
from learner.looking import gaps, look
from learner.policy_model import PolicyModel, choose_layout, load_policy, size_of
from learner.ppo import weigh
from learner.preference import pairs_of, prefer
from learner.scorer import Scorer
from learner.sequence import TrainingSequence, Trajectory
from learner.statistics import Clock, explained_variance
from learner.stepping import Stepping
from learner.token_table import TokenTable
from learner.work import Preparing, Work
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
    imitates: bool = True
    """Whether demonstrations counted."""


class Learner:
    """The policy, its optimizer and how both change; every method is called by all ranks together."""

    def __init__(self, folder: Path, config: LearnerConfig, *, temperature: float, chat: ChatTokens) -> None:
        self._config = config
        self.policy: PolicyModel = load_policy(folder, config, chat)
        self.size = size_of(self.policy, recomputes=config.deepspeed.gradient_checkpointing)
        self.chat = chat
        self._peak = peak_flops(self.policy.backbone.dtype)
        self.version = 0
        self.reward_kl = config.loss.reward_kl.coefficient
        layout = choose_layout(config.layout, self.policy)
        options: dict[str, Any] = {"optimizer": config.optimizer, "sharing": config.deepspeed, "dtype": config.dtype}
        self.engine = DistributedEngine.start(self.policy, groups=self.policy.parameter_groups(config), **options)
        context = config.distillation.context
        telling = Telling(chat, context) if context else None
        self._preparing = Preparing(self.policy.family, self.engine, config, layout, telling)
        self._scorer = Scorer(self.engine, self.policy, config, temperature)
        self._scorer.load_others(folder, chat)
        self._stepping = Stepping(self.engine, self._scorer, self.policy, config)

    def update(
        self, parts: Sequence[Sequence[TrainingSequence]], groups: Groups, success: float | None = None
    ) -> UpdateReport:
        """Learn from all parts, each an optimizer step in every epoch; `groups` numbers the tasks over all ranks, and
        `success` is the share of all that was played which ended right, for gates to go by."""
        clock, config = Clock(), self._config
        entropy = entropy_of(parts, self.engine.sum) if "entropy" in config.gates else None
        weights = weights_of(config, self.version, success, entropy)
        with clock("prepare"):
            work = self.prepared(weights.count(parts, is_taught=config.distillation.teacher is not None))
        metrics: dict[str, float] = {}
        looked = compared = Traffic()
        plays = self.engine.largest(int(any(not sequence.is_demonstration for sequence in work.sequences)))
        if plays:
            with clock("look"):
                looked, compared = look(work.looks, work.table, self._scorer, self._config, len(work.steps))
            with clock("weigh"):
                metrics = self._weigh(work, groups)
        with clock("learn"):
            work = replace(work, table=work.table.to(self._scorer.device))
            stepped = self._stepping.steps(work, weights, self.version)
        # What a pair prefers was drawn further on in the dialogue, and is no measure of the engine there.
        if plays and self._config.advantage.kind != "dpo":
            metrics |= gaps(work.table, self.engine.gather)
        self.version += 1
        metrics |= stepped.metrics
        if config.gates:
            metrics |= {"rl_weight": weights.play, "sft_weight": weights.imitation}
        passed = looked, compared + stepped.compared, stepped.trained
        return replace(self._report(work, metrics, clock.seconds, passed), imitates=bool(weights.imitation))

    @torch.no_grad()
    def loss_of(self, sequences: Sequence[TrainingSequence]) -> tuple[float, Traffic]:
        """The mean cross-entropy of demonstrations, weighed as in training, without learning from them; and how much
        that was."""
        work = self.prepared([sequences])
        sums = np.zeros(2)
        for batch in work.batches():
            predictions = self._scorer.predict(batch, work.table)
            weights = work.table.imitation_weights[batch.numbers]
            sums += -float((weights * predictions.logprobs.cpu()).sum()), float(weights.sum())
        loss, weight = self.engine.sum(sums)
        [scored] = self._over_ranks(total(batch.traffic for batch in work.batches()))
        return float(loss / max(weight, 1e-12)), scored

    def state(self) -> dict[str, Any]:
        """What the next update depends on besides weights and the optimizer; it can be written as JSON."""
        return {"version": self.version, "reward_kl": self.reward_kl}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.version = state["version"]
        self.reward_kl = state.get("reward_kl", self.reward_kl)

    def prepared(self, parts: Sequence[Sequence[TrainingSequence]]) -> Work:
        """Columns and micro-batches, as many on every rank."""
        versions = [int(each.versions.max()) for part in parts for each in part if not each.is_demonstration]
        newest = max(versions, default=-1)
        if newest > self.version:
            raise FutureEpisode(
                f"an episode was played by version {newest} of the policy, but the learner is at version "
                f"{self.version}; restore the checkpoint that the rollout workers play, or send them its weights"
            )
        if self._config.advantage.kind == "dpo":
            parts = [pairs_of(part, self.chat.image_token_id) for part in parts]
        return self._preparing.work(parts)

    def _weigh(self, work: Work, groups: Groups) -> dict[str, float]:
        """Fill in advantages and returns; what there is to say of them."""
        table, gather = work.table, self.engine.gather
        if self._config.advantage.kind == "dpo":
            return prefer(table, self._config.loss.preference_beta, self.engine.sum)
        metrics = self._reward_kl(table)
        advantages = weigh(table, work.sequences, groups, self._config, gather, metrics.get("reward_kl", 0.0))
        if not self._config.advantage.needs_values:
            return metrics
        at = advantages.is_value_target
        count, returned = gather(np.array([[at.sum(), advantages.returns[at].sum()]])).sum(axis=0)
        values = table.values[~table.is_demonstration].double().numpy()[at]
        return metrics | {
            "return_mean": float(returned / max(count, 1)),
            "explained_variance": explained_variance(values, advantages.returns[at], gather),
        }

    def _reward_kl(self, table: TokenTable) -> dict[str, float]:
        """What a nat away from the initial policy costs in this update, and how far away an episode is; the next one
        may cost more or less."""
        options = self._config.loss.reward_kl
        if not options.coefficient:
            return {}
        played = ~table.is_demonstration
        away = (table.old_logprobs - table.reference_logprobs)[played].double().sum()
        episodes = len(torch.unique(table.episodes[played]))
        total, count = self.engine.sum(np.array([float(away), episodes], np.float64))
        used, distance = self.reward_kl, float(total / max(count, 1))
        self.reward_kl = options.adapted(used, distance, int(count))
        return {"reward_kl": used, "kl_start_per_episode": distance}

    def _over_ranks(self, *traffic: Traffic) -> list[Traffic]:
        sums = self.engine.sum(np.array([count for each in traffic for count in astuple(each)], np.float64))
        names = [each.name for each in fields(Traffic)]
        rows = sums.astype(int).reshape(len(traffic), len(names)).tolist()
        return [Traffic(**dict(zip(names, row, strict=True))) for row in rows]

    def _report(
        self, work: Work, metrics: dict[str, float], seconds: Mapping[str, float], passed: Sequence[Traffic]
    ) -> UpdateReport:
        real = sum(batch.num_tokens for batch in work.batches())
        padded = sum(batch.token_ids.numel() for batch in work.batches())
        counts = self.engine.sum(np.array([len(work.sequences), real, padded], np.float64))
        looked, compared, trained = self._over_ranks(*passed)
        metrics["padding_waste"] = float(1 - counts[1] / counts[2]) if counts[2] else 0.0
        num_tokens = looked.tokens + compared.tokens + trained.tokens
        metrics["tokens_per_second"] = num_tokens / sum(seconds.values())
        metrics["peak_memory_gib"] = self.engine.largest(peak_memory()) / 2**30
        flops = self.size.look(looked) + self.size.forward(compared) + self.size.learn(trained)
        if self._peak is not None:
            busy = self._config.num_ranks * (seconds.get("look", 0.0) + seconds["learn"])
            metrics["mfu"] = flops / busy / self._peak
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
