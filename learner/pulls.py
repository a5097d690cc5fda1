"""How hard each loss pulls: the norm of its gradient at the model's last states, where all losses meet.

Gradients of the parameters would take a whole way back for each loss; those of the states take the output layer's. Not
at ZeRO stage 3, which puts a layer's weights together for one way back alone.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from learner.policy_model import PolicyModel

LOSSES = ("policy", "value", "entropy", "kl", "distillation", "imitation")


class Pulls:
    """Of one update; adds up squares over its micro-batches, which share no state."""

    def __init__(self, policy: PolicyModel) -> None:
        self._policy = policy
        policy.keeps_states = True
        self._squares, self._occurs = np.zeros((2, len(LOSSES)))

    def add(self, losses: Mapping[str, torch.Tensor]) -> None:
        """The losses of the micro-batch that the policy was asked about last; their graph is kept."""
        states = self._policy.states
        for name, loss in losses.items():
            at = LOSSES.index(name)
            self._occurs[at] = 1
            if states is not None and states.requires_grad and loss.requires_grad:
                [gradient] = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
                self._squares[at] += float(gradient.double().square().sum()) if gradient is not None else 0.0

    def norms(self, num_steps: int, over_ranks: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """Of one step, as the root of the mean square over the update's."""
        self._policy.keeps_states, self._policy.states = False, None
        squares, occurs = over_ranks(np.concatenate([self._squares, self._occurs])).reshape(2, -1)
        norms = np.sqrt(squares / max(num_steps, 1))
        return {f"pull_{name}": float(norm) for name, norm, any_ in zip(LOSSES, norms, occurs, strict=True) if any_}
