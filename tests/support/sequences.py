"""Training sequences played for real, by scripts or drawn at random, for whatever learns from them."""

import asyncio
from collections.abc import Sequence
from random import Random

import numpy as np

from envs.catalog import find_environment, make_environment
from learner.sequence import ACTION, FORMAT, RECOGNITION, TrainingSequence, Trajectory
from rollout.config import RolloutConfig
from rollout.engine import RolloutEngine
from rollout.episode import Episode
from rollout.play import Task, play_tasks
from rollout.transcript import ChatTokens
from verifier.config import VerifierConfig


def play(chat: ChatTokens, engine: RolloutEngine, seeds: Sequence[int], env: str, **options: object) -> list[Episode]:
    """The episodes of these seeds, in their order."""
    environment = make_environment(find_environment(env).Config(name=env, **options), VerifierConfig())
    config = RolloutConfig.model_validate({"engine": {"max_context_tokens": 4096}, "max_answer_tokens": 512})

    async def collect() -> list[Episode]:
        tasks = [Task(seed=seed) for seed in seeds]
        return [episode async for episode in play_tasks(environment, engine, chat, tasks, config)]

    return sorted(asyncio.run(collect()), key=lambda episode: (episode.seed, episode.sample))


def random_sequence(
    random: Random,
    vocabulary: int,
    *,
    seed: int = 0,
    sample: int = 0,
    num_turns: int = 3,
    is_demonstration: bool = False,
) -> TrainingSequence:
    """A context of random tokens with random rewards."""
    parts: list[tuple[int, bool]] = []
    for _ in range(num_turns):
        parts += [(random.randint(2, 9), False), (random.randint(1, 7), True)]
    lengths = [length for length, _ in parts]
    is_sampled = np.repeat([sampled for _, sampled in parts], lengths)
    turns = np.repeat([number // 2 if sampled else -1 for number, (_, sampled) in enumerate(parts)], lengths)
    ends = np.cumsum(lengths)[1::2] - 1
    rewards = np.zeros(len(is_sampled), np.float32)
    rewards[ends] = [random.choice([-3, -2, -1, 5]) for _ in ends]
    labels = [random.choice([FORMAT, RECOGNITION, ACTION]) if sampled else 0 for sampled in is_sampled]
    return TrainingSequence(
        trajectory=Trajectory("random", "train", seed, sample),
        context=0,
        token_ids=np.array([random.randrange(5, vocabulary) for _ in is_sampled], np.int32),
        is_sampled=is_sampled,
        sampled_logprobs=np.where(is_sampled, -random.random(), 0).astype(np.float32),
        rewards=rewards,
        turns=turns.astype(np.int32),
        labels=np.array(labels, np.int8),
        versions=np.where(is_sampled, 0, -1).astype(np.int32),
        is_right=is_sampled & (np.maximum.accumulate(turns) % 2 == 1),
        is_truncated=random.random() < 0.3,
        is_demonstration=is_demonstration,
    )
