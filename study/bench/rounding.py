"""What float32 leaves uncertain: sampled log-probabilities and the learner's, each beside the same model in float64.

GeneralPoints is played with the model that its study starts from; then every drawn token is scored again. Where the two
float32 figures are as far from float64 as from each other, nothing but rounding lies between engine and learner.
"""

from pathlib import Path
from typing import Any

import ray
import torch
from transformers import AutoModelForCausalLM

from cluster.config import load_config
from cluster.planning.hardware import look
from rollout.episode import Episode
from rollout.play import Task
from rollout.worker import start_worker, stream
from study.bench import Row

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
        tasks = [Task(seed=seed) for seed in range(num_episodes)]
        played = list(stream("rollout-0", worker, config.env, config.verifier, tasks, config.rollout))
        episodes = ray.get([reference for _, reference in played])
        ray.get(worker.close.remote())
    finally:
        ray.shutdown()
    sampled = torch.tensor(
        [logprob for each in episodes for turn in each.turns for logprob in turn.sampled_logprobs.tolist()]
    )
    single, double = (_scored(model, episodes, dtype) for dtype in (torch.float32, torch.float64))
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
def _scored(model: Path, episodes: list[Episode], dtype: torch.dtype) -> torch.Tensor:
    """The log-probability of every drawn token, episode by episode, one dialogue at a time."""
    policy: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation="sdpa", dtype=dtype).eval()
    return torch.cat([found for each in episodes for found in _scored_turns(policy, each)])


def _scored_turns(policy: Any, episode: Episode) -> list[torch.Tensor]:
    token_ids: list[int] = []
    drawn: list[tuple[int, int]] = []
    for turn in episode.turns:
        assert not turn.starts_new_context or not token_ids, "these episodes are one dialogue each"
        token_ids += turn.shown_token_ids.tolist()
        drawn.append((len(token_ids), len(token_ids) + len(turn.sampled_token_ids)))
        token_ids += turn.sampled_token_ids.tolist()
    row = torch.tensor(token_ids)
    logprobs = policy(input_ids=row[None], use_cache=False).logits[0, :-1].log_softmax(-1)
    own = logprobs.gather(1, row[1:, None])[:, 0]
    return [own[start - 1 : end - 1] for start, end in drawn]
