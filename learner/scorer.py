"""What the policy says of micro-batches, and what the policy that it began as, or a teacher, says."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from learner.backbone import ModelError, adapters_off, load_backbone
from learner.batch import MicroBatch
from learner.config import LearnerConfig
from learner.deepspeed_engine import DistributedEngine, gathered
from learner.policy_model import PolicyModel, Predictions
from learner.standing import stand
from learner.token_scorer import Distributions, Mode
from learner.token_table import TokenTable
from rollout.transcript import ChatTokens


class Scorer:
    """The trained policy and its reference, called alike by all ranks."""

    def __init__(
        self, engine: DistributedEngine, policy: PolicyModel, config: LearnerConfig, temperature: float
    ) -> None:
        self._engine, self.policy, self._config, self._temperature = engine, policy, config, temperature
        self._reference: PolicyModel | None = None
        self._teacher: PolicyModel | None = None

    def load_others(self, folder: Path, chat: ChatTokens) -> None:
        """Keep the initial policy, where the loss needs it and switching low-rank additions off does not give it; and
        the model that is learned from, where there is one."""
        needs_one = self._config.asks_the_start or self._config.sft.kl_coefficient
        if needs_one and not self._config.lora.rank:
            self._reference = self._loaded(folder, chat)
        teacher = self._config.distillation
        if teacher.other_model is not None:
            self._teacher = self._loaded_teacher(Path(teacher.other_model), chat)
        elif teacher.teacher is not None:
            self._teacher = self.policy

    def _loaded_teacher(self, folder: Path, chat: ChatTokens) -> PolicyModel:
        teacher = self._loaded(folder, chat)
        # Its compute is charged as the policy's, and its distributions are held against the policy's, entry by entry.
        own, other = (
            {
                name.replace("base_layer.", ""): tuple(getattr(weight, "ds_shape", weight.shape))
                for name, weight in model.backbone.named_parameters()
                if "lora_" not in name
            }
            for model in (self.policy, teacher)
        )
        if own != other:
            raise ModelError(
                f"learner.distillation.teacher={folder}: its shape is not the policy's; "
                "name a model of the same architecture and tokenizer"
            )
        return teacher

    def _loaded(self, folder: Path, chat: ChatTokens) -> PolicyModel:
        model = PolicyModel(load_backbone(folder, self._config), self._config.value_head, chat)
        model = model.to(device=self.device, dtype=self.policy.backbone.dtype)
        return stand(model, self._config.deepspeed, self._config.dtype)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.policy.parameters()).device

    @property
    def beginning(self) -> PolicyModel:
        """What `predict_reference` asks."""
        return self._reference or self.policy

    @property
    def compared(self) -> PolicyModel:
        """What `reference_distributions` asks."""
        return self._teacher or self.beginning

    def comparing(self, compares: bool) -> AbstractContextManager[None]:
        """Around a forward and backward pass in which `reference_distributions` are asked; entered by all ranks."""
        apart = compares and self.compared is not self.policy
        return gathered(self.compared.output_layer.parameters() if apart else ())

    def predict(
        self,
        batch: MicroBatch,
        table: TokenTable,
        mode: Mode = Mode.LOGPROBS,
        reference: Distributions | None = None,
    ) -> Predictions:
        """By the policy as it is now; held against what `reference` draws from, if it is given."""
        return self._engine.module(*self._asked(batch, table), mode, reference)

    @torch.no_grad()
    def predict_reference(self, batch: MicroBatch, table: TokenTable) -> Predictions:
        """By the policy as it was in the beginning."""
        if self._reference is not None:
            return self._reference(*self._asked(batch, table))
        with adapters_off(self.policy):
            return self._engine.module(*self._asked(batch, table))

    def reference_distributions(self, batch: MicroBatch, table: TokenTable) -> Distributions:
        """What the teacher would draw from, or else what the policy drew from in the beginning."""
        model = self._teacher or self._reference
        if model is not None:
            return model.distributions(*self._asked(batch.told or batch, table))
        with adapters_off(self.policy):
            of = self.policy.distributions(*self._asked(batch, table))

        def of_beginning(rows: slice) -> torch.Tensor:
            with adapters_off(self.policy.output_layer):
                return of(rows)

        return of_beginning

    def _asked(self, batch: MicroBatch, table: TokenTable) -> tuple[MicroBatch, torch.Tensor, float]:
        is_drawn = ~table.is_demonstration[batch.numbers.to(table.is_demonstration.device)]
        return batch.to(self.device), is_drawn.to(self.device), self._temperature
