"""What float32 leaves uncertain: sampled log-probabilities and the learner's, each beside the same model in float64.

The learner's are those of Transformers' own forward, which its own is tested to equal. GeneralPoints is played with the
model that its study starts from; then every drawn token is scored again. Where the two float32 figures are as far from
float64 as from each other, nothing but rounding lies between engine and learner.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from transformers import AutoModelForCausalLM

from cluster.config import load_config
from cluster.planning.hardware import look
from learner.sequence import TrainingSequence, sequences_of
from rollout.transcript import ChatTokens
from rollout.worker import start_worker
from study.bench import Row
from study.bench.rollout import play

ROOT = Path(__file__).parents[2]
NUM_EPISODES = 600


def rows(num_episodes: int = NUM_EPISODES) -> list[Row]:
    """Play, score twice, compare."""
    config = load_config([ROOT / "configs" / "nano" / "gp_l.yaml"])
    assert config.learner.model is not None
    model = ROOT / config.learner.model
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        worker = start_worker("rollout-0", model, config.rollout, num_gpus=min(1, look().num_gpus))
        ray.get(worker.start.remote())
        episodes, _ = play(worker, range(num_episodes), config.env, config.rollout)
        ray.get(worker.close.remote())
    finally:
        ray.shutdown()
    chat = ChatTokens.load(model)
    dialogues = [each for episode in episodes for each in sequences_of(episode, chat)]
    sampled = torch.cat([torch.from_numpy(each.sampled_logprobs[each.is_sampled]) for each in dialogues])
    single, double = (_scored(model, dialogues, dtype) for dtype in (torch.float32, torch.float64))
    found: list[Row] = [("drawn tokens", len(sampled), "tokens")]
    for title, one, other in (
        ("engine to float64", sampled, double),
        ("learner to float64", single, double),
        ("engine to learner", sampled, single),
    ):
        apart = (one.double() - other.double()).abs()
        found += [
            (f"{title}, mean", apart.mean().item(), "nats"),
            (f"{title}, largest", apart.max().item(), "nats"),
            (f"{title}, above 1e-5", 1e6 * (apart > 1e-5).double().mean().item(), "of a million"),
        ]
    return found


@torch.inference_mode()
def _scored(model: Path, dialogues: Sequence[TrainingSequence], dtype: torch.dtype) -> torch.Tensor:
    """The log-probability of every drawn token, one dialogue at a time."""
    policy: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation="sdpa", dtype=dtype).eval()
    found = []
    for each in dialogues:
        row = torch.from_numpy(each.token_ids.astype(np.int64))
        logprobs = policy(input_ids=row[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        found.append(logprobs.gather(1, row[1:, None])[:, 0][torch.from_numpy(each.is_sampled[1:])])
    return torch.cat(found)
