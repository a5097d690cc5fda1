"""Preference within a dialogue: the answer that was right is made likelier than the one that it corrected.

    pairs_of(sequences, …)    [chosen, rejected, chosen, …]: what was asked up to the failed answer, and one of both
    prefer(table, …)          by how much each pair still has to move, as advantages
    preference(…)             one micro-batch's share of the loss

The loss is that of direct preference optimisation (DPO, arXiv 2305.18290), −log σ(β · margin), where the margin is how
much further the policy has come from the initial one for the chosen answer than for the rejected. Its gradient is that
of log-probabilities with weights ± β · σ(−β · margin), so that a pair's two answers need not share a micro-batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch.nn import functional

from learner.loss import by_answer
from learner.policy_model import Predictions
from learner.sequence import TrainingSequence
from learner.token_table import Step, TokenTable


def pairs_of(sequences: Sequence[TrainingSequence], image_token_id: int | None) -> list[TrainingSequence]:
    """Of each right answer and every failed one that led to it; demonstrations stand behind them as they are."""
    played = [each for each in sequences if not each.is_demonstration]
    pairs = [one for each in played for pair in _pairs_in(each, image_token_id) for one in pair]
    return [*pairs, *(each for each in sequences if each.is_demonstration)]


def _pairs_in(
    sequence: TrainingSequence, image_token_id: int | None
) -> Iterator[tuple[TrainingSequence, TrainingSequence]]:
    failed: list[np.ndarray] = []
    for turn in np.unique(sequence.turns[sequence.is_sampled]):
        answer = np.flatnonzero(sequence.turns == turn)
        if not sequence.is_right[answer[0]]:
            failed.append(answer)
            continue
        for rejected in failed:
            right, wrong = (_answered(sequence, rejected[0], each, image_token_id) for each in (answer, rejected))
            yield right, wrong
        failed = []


def _answered(
    sequence: TrainingSequence, asked: int, answer: np.ndarray, image_token_id: int | None
) -> TrainingSequence:
    """What stands before a place, and an answer there."""
    at = np.concatenate([np.arange(asked), answer])
    names = [each.name for each in fields(sequence) if isinstance(getattr(sequence, each.name), np.ndarray)]
    columns = {name: getattr(sequence, name)[at] for name in names}
    columns["is_sampled"] = np.arange(len(at)) >= asked
    columns["turns"] = np.where(columns["is_sampled"], columns["turns"], -1)
    num_images = int((columns["token_ids"] == image_token_id).sum()) if image_token_id is not None else 0
    images = sequence.images[:num_images]
    pictures = {digest: sequence.pictures[digest] for digest in images}
    return replace(sequence, **columns, images=images, pictures=pictures, is_truncated=False)


def prefer(table: TokenTable, beta: float, over_ranks: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Fill in advantages; what there is to say of the pairs."""
    played = ~table.is_demonstration
    answers = table.answers[played]
    moved = (table.old_logprobs - table.reference_logprobs)[played].double()
    count = int(answers.max()) + 1 if len(answers) else 0
    chosen, rejected = by_answer(moved, torch.ones_like(moved), answers, count).reshape(count // 2, 2).unbind(1)
    margins = beta * (chosen - rejected)
    weights = beta * torch.sigmoid(-margins)
    table.advantages[played] = torch.stack([weights, -weights], 1).flatten()[answers].float()
    sums = [len(margins), float(-functional.logsigmoid(margins).sum()), float((margins > 0).sum())]
    pairs, loss, ahead = over_ranks(np.array(sums, np.float64))
    return {"pairs": float(pairs), "dpo_loss": float(loss / max(pairs, 1)), "dpo_ahead": float(ahead / max(pairs, 1))}


def preference(predictions: Predictions, numbers: torch.Tensor, step: Step) -> torch.Tensor:
    """This micro-batch's share of the global loss; `numbers` [n] are its tokens' rows in the table."""
    played = ~step.table.is_demonstration[numbers]
    weights = step.table.advantages[numbers[played]]
    return -(weights * predictions.logprobs[played]).sum() / max(step.totals.answers / 2, 1)
