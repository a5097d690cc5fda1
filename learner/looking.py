"""Look: what policy, critic and initial policy say of an update's episodes before its first step.

    look(batches, …)      one forward pass, of what is asked for alone   values, old and reference log-probabilities
    gaps(table, …)        how far the learner's log-probabilities are from those recorded while sampling

Where an update is one step, its own forward pass says what the policy was before, and demonstrations are imitated
whatever was said of them: neither is looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from learner.batch import MicroBatch
from learner.config import LearnerConfig
from learner.scorer import Scorer
from learner.token_scorer import Mode
from learner.token_table import TokenTable
from rollout.traffic import Traffic


@torch.no_grad()
def look(
    batches: Sequence[MicroBatch], table: TokenTable, scorer: Scorer, config: LearnerConfig, num_steps: int
) -> tuple[Traffic, Traffic]:
    """Fill in the table's columns; what went through the policy, and through the initial one."""
    needs_old, needs_values = config.looks_for_logprobs(num_steps), config.advantage.needs_values
    looked = compared = Traffic()
    for batch in batches:
        if needs_old or needs_values:
            looked += batch.through(scorer.policy)
            predictions = scorer.predict(batch, table, Mode.LOGPROBS if needs_old else Mode.VALUES)
            if needs_old:
                table.old_logprobs[batch.numbers] = predictions.logprobs.float().cpu()
            if needs_values:
                table.values[batch.numbers] = predictions.values.cpu()
                table.after[batch.end_numbers] = predictions.after.cpu()
        if config.asks_the_start:
            compared += batch.through(scorer.beginning)
            reference = scorer.predict_reference(batch, table)
            table.reference_logprobs[batch.numbers] = reference.logprobs.float().cpu()
    return looked if needs_old else replace(looked, scored=0), compared


def gaps(table: TokenTable, gather: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Mean and largest distance between old and recorded log-probabilities, over all ranks' played tokens."""
    reinforced = ~table.is_demonstration
    apart = (table.old_logprobs - table.sampled_logprobs)[reinforced].abs().double().cpu().numpy()
    rows = gather(np.array([[len(apart), apart.sum(), apart.max(initial=0.0)]]))
    count = max(rows[:, 0].sum(), 1)
    return {"rollout_gap_mean": float(rows[:, 1].sum() / count), "rollout_gap_max": float(rows[:, 2].max())}
