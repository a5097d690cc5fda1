"""`ruleshift bench learner`: tokens per second of an update, beside a bare PyTorch loop of the same model and tokens.

    bare        one process, plain padded batches, the same look and the same loss, AdamW; nothing else
    ours        1 and 2 ranks, ZeRO 0, 2 and 3; all of what an update does, sequences made from episodes included

One process has both cores, two have one each. The limit is the bare loop.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from transformers import AutoModelForCausalLM

from cluster.groups.learner_group import LearnerGroup
from learner.config import LearnerConfig
from learner.worker import Item
from study.bench import Row
from study.bench.made_up import made_up
from study.nano.random_model import write_nano_model

NUM_EPISODES = 64
NUM_UPDATES = 3
"""The first is not counted: it warms caches up."""
MICRO_BATCH_TOKENS = 4096
VARIANTS = ((1, 0), (1, 2), (1, 3), (2, 0), (2, 2), (2, 3))
"""Ranks and ZeRO stage."""


def rows(num_episodes: int = NUM_EPISODES, variants: Sequence[tuple[int, int]] = VARIANTS) -> list[Row]:
    """Measure and compare."""
    cores = len(os.sched_getaffinity(0))
    episodes = _episodes(num_episodes)
    found: list[Row] = []
    with TemporaryDirectory() as name:
        model = Path(name)
        write_nano_model(model)
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            bare = ray.get(ray.remote(_bare).options(num_cpus=0).remote(str(model), episodes, cores))
            found.append(("bare PyTorch loop", bare, "tokens/s"))
            for num_ranks, stage in variants:
                speed = _ours(model, episodes, num_ranks, stage, cores)
                title = f"{num_ranks} rank{'s' if num_ranks > 1 else ''}, ZeRO {stage}"
                found += [(title, speed, "tokens/s"), (f"{title} ÷ bare", speed / bare, "ratio")]
        finally:
            ray.shutdown()
    return found


def _episodes(count: int) -> list[Any]:
    """Episodes of one to three attempts, as long as those of GeneralPoints in nano tokens."""
    random = Random(0)

    def exchange(number: int) -> tuple[list[int], list[int]]:
        shown, sampled = 22 if number == 0 else 7, random.randint(24, 32)
        tokens = [random.randrange(5, 600) for _ in range(shown + sampled)]
        return tokens[:shown], tokens[shown:]

    lasts = random.choices(range(3), k=count)
    return [made_up(seed, [exchange(number) for number in range(last + 1)]) for seed, last in enumerate(lasts)]


def _options(model: Path, num_ranks: int, stage: int) -> Any:
    return LearnerConfig.model_validate(
        {
            "model": str(model),
            "num_ranks": num_ranks,
            "deepspeed": {"zero_stage": stage},
            "micro_batch_tokens": MICRO_BATCH_TOKENS // num_ranks,
        }
    )


def _ours(model: Path, episodes: Sequence[Any], num_ranks: int, stage: int, cores: int) -> float:
    items = [
        Item(episode=ray.put(each), num_tokens=sum(turn.num_tokens for turn in each.turns), group=number)
        for number, each in enumerate(episodes)
    ]
    group = LearnerGroup.start(
        _options(model, num_ranks, stage), 1.0, threads=max(1, cores // num_ranks), prefix=f"bench-{num_ranks}-{stage}"
    )
    try:
        speeds = []
        for _ in range(NUM_UPDATES):
            started = time.perf_counter()
            report = group.update(items)
            speeds.append((report.looked.tokens + report.trained.tokens) / (time.perf_counter() - started))
        return max(speeds[1:])
    finally:
        group.close()


def _bare(model: str, episodes: Sequence[Any], threads: int) -> float:
    """The loop that one would write for this model alone."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    policy: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation="sdpa")
    head = torch.nn.Linear(policy.config.hidden_size, 1)
    optimizer = torch.optim.AdamW([*policy.parameters(), *head.parameters()], lr=1e-6, weight_decay=0.0)
    steps = [_padded(episodes[start::2]) for start in range(2)]
    num_tokens = sum(int(batch[2].sum()) for step in steps for batch in step)
    best = 0.0
    for _ in range(NUM_UPDATES):
        started = time.perf_counter()
        with torch.no_grad():
            old = [[_bare_forward(policy, head, batch) for batch in step] for step in steps]
        for step, old_of_step in zip(steps, old, strict=True):
            count = sum(len(logprobs) for logprobs, _, _ in old_of_step)
            for batch, (old_logprobs, old_values, _) in zip(step, old_of_step, strict=True):
                logprobs, values, _ = _bare_forward(policy, head, batch)
                advantages = 1.0 - old_values
                ratios = (logprobs - old_logprobs).exp()
                gains = torch.minimum(ratios * advantages, ratios.clamp(0.8, 1.2) * advantages)
                ((-gains + 0.25 * (values - 1.0).square()).sum() / count).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        best = max(best, 2 * num_tokens / (time.perf_counter() - started))
    return best


def _bare_forward(policy: Any, head: Any, batch: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    token_ids, is_sampled, _ = batch
    hidden = policy.model(input_ids=token_ids, use_cache=False).last_hidden_state
    before = hidden[:, :-1][is_sampled[:, 1:]]
    distribution = policy.lm_head(before).log_softmax(-1)
    return distribution.gather(1, token_ids[:, 1:][is_sampled[:, 1:]][:, None])[:, 0], head(before)[:, 0], distribution


def _padded(episodes: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    """Micro-batches of episodes of nearly one length: tokens, which were sampled, which are no padding."""
    rows = []
    for each in episodes:
        parts = [
            (part, sampled)
            for turn in each.turns
            for part, sampled in ((turn.shown_token_ids, False), (turn.sampled_token_ids, True))
        ]
        tokens = np.concatenate([part for part, _ in parts])
        rows.append((tokens, np.repeat([sampled for _, sampled in parts], [len(part) for part, _ in parts])))
    rows.sort(key=lambda row: -len(row[0]))
    batches = []
    while rows:
        size = max(1, MICRO_BATCH_TOKENS // len(rows[0][0]))
        chosen, rows = rows[:size], rows[size:]
        shape = len(chosen), len(chosen[0][0])
        token_ids, is_sampled, is_real = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
        for row, (tokens, sampled) in enumerate(chosen):
            token_ids[row, : len(tokens)], is_sampled[row, : len(tokens)] = tokens, sampled
            is_real[row, : len(tokens)] = True
        batches.append(tuple(torch.from_numpy(each) for each in (token_ids, is_sampled, is_real)))
    return batches
