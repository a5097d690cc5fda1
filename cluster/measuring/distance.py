"""How far a policy has moved from the model that it began as, told by the tokens that it drew itself.

    Start.load(folder, learner)             the model as it was in the beginning, on a core
      .log_ratios(episodes, temperature)    →  for each episode, how much likelier each of its tokens has become
    moved(log_ratios)                       →  {"kl_to_start": …, "kl_to_start_k3": …}

The tokens are drawn by the policy, so the mean of log p(now) − log p(start) over them is its divergence from the start,
in nats a token, without bias (Schulman's k1); k3 = r − 1 − log r with r = p(start) / p(now) has the same mean, is
never negative and varies less where both are near. What was drawn without the forbidden tokens and at a temperature is
scored so.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from learner.backbone import load_backbone
from learner.batch import ModelInput, micro_batches
from learner.config import LearnerConfig
from learner.policy_model import PolicyModel
from learner.sequence import sequences_of
from rollout.episode import Episode, EpisodeEnd
from rollout.transcript import ChatTokens

LogRatios = npt.NDArray[np.float64]


class Start:
    """The model that a run began from, to be asked what it thinks of what was drawn later."""

    def __init__(self, model: PolicyModel, chat: ChatTokens, max_tokens: int) -> None:
        """`max_tokens` go through the model at once, or one whole dialogue."""
        self._model, self._chat, self._max_tokens = model.eval(), chat, max_tokens

    @classmethod
    def load(cls, folder: Path, learner: LearnerConfig) -> "Start":
        """The model of a folder, in the learner's precision."""
        chat = ChatTokens.load(folder)
        model = PolicyModel(load_backbone(folder, learner), learner.value_head, chat)
        return cls(model, chat, learner.micro_batch_tokens)

    @torch.no_grad()
    def log_ratios(self, episodes: Sequence[Episode], temperature: float) -> list[LogRatios]:
        """log p(now) − log p(start) of each drawn token; nothing for episodes that failed."""
        family = self._model.family
        inputs: list[ModelInput] = []
        drawn, ends, count = [np.zeros(0, np.float32)], [], 0
        for episode in episodes:
            for sequence in [] if episode.end is EpisodeEnd.FAILED else sequences_of(episode, self._chat):
                inputs.append(family.model_input(sequence, count))
                drawn.append(sequence.sampled_logprobs[sequence.is_sampled])
                count += len(drawn[-1])
            ends.append(count)
        most = max([self._max_tokens, *(each.num_tokens for each in inputs)])
        ratios = np.concatenate(drawn).astype(np.float64)
        for batch in micro_batches(inputs, max_tokens=most, layout="padded", family=family):
            is_drawn = torch.ones(len(batch.sampled_at), dtype=torch.bool)
            ratios[batch.numbers.numpy()] -= self._model(batch, is_drawn, temperature).logprobs.double().numpy()
        return np.split(ratios, ends[:-1])


def moved(log_ratios: Sequence[LogRatios]) -> dict[str, float]:
    """Both estimates; nothing where no token was drawn."""
    tokens = np.concatenate([np.zeros(0), *log_ratios])
    if not len(tokens):
        return {}
    return {"kl_to_start": float(tokens.mean()), "kl_to_start_k3": float((np.expm1(-tokens) + tokens).mean())}
