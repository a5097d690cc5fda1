"""What becomes of an iteration's episodes: which are learned from, what they cost, which are kept to read.

choose(played, version, config)   those that can be learned from
items_of(chosen)                  as the learner takes them
charge, transcripts               the ledger, and some of them to read
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from cluster.config import Config
from cluster.errors import RunError
from cluster.groups.learner_group import EpisodesLost
from cluster.iteration.rows import Episodes, flat_tasks
from cluster.record.episode_log import choose_episodes, transcribe_references
from cluster.training import Training
from learner.config import LearnerConfig
from learner.learner import UpdateReport
from learner.worker import Item
from rollout.episode import EpisodeEnd
from rollout.receivers import LOSSES
from rollout.traffic import total
from rollout.worker import Played


def choose(played: Sequence[tuple[Played, Any]], version: int, config: Config) -> Episodes:
    """Those that a policy of this version can learn from: whole, with an answer, and played by one new enough."""
    failed = [one for one, _ in played if one.end is EpisodeEnd.FAILED]
    allowed = config.rollout.max_failed_fraction
    if len(failed) > allowed * len(played):
        raise RunError(
            f"{len(failed)} of {len(played)} episodes failed by a fault of the environment, more than "
            f"rollout.max_failed_fraction={allowed}; the first, seed {failed[0].task.seed}, with\n{failed[0].error}"
        )
    chosen = [
        (one, reference)
        for one, reference in played
        if one.end is not EpisodeEnd.FAILED
        and one.num_sampled_tokens
        and version - one.oldest_version <= config.rollout.max_policy_lag
    ]
    if len(chosen) < config.learner.minibatches:
        raise RunError(
            f"only {len(chosen)} of {len(played)} episodes can be learned from, too few for "
            f"learner.minibatches={config.learner.minibatches}; look at the transcripts in the run's episodes/"
        )
    return _that_teach(chosen, config.learner)


def _that_teach(chosen: Episodes, learner: LearnerConfig) -> Episodes:
    """Without those of which nothing is learned as configured; a few of these where there are no others, so that each
    step of the update has some."""
    teach = chosen
    if learner.imitate_successes:
        teach = [(one, reference) for one, reference in chosen if one.num_right]
    elif learner.advantage.kind == "dpo":
        teach = [(one, reference) for one, reference in chosen if 0 < one.num_right < one.num_turns]
    elif learner.advantage.flat_groups != "keep":
        flat = flat_tasks(one for one, _ in chosen)
        teach = [(one, reference) for one, reference in chosen if one.task.seed not in flat]
    return teach if len(teach) >= learner.minibatches else chosen[: learner.minibatches]


def items_of(chosen: Episodes) -> list[Item]:
    """As the learner takes them; samples of one task are a group."""
    groups = {seed: number for number, seed in enumerate(dict.fromkeys(one.task.seed for one, _ in chosen))}
    return [
        Item(episode=reference, num_tokens=one.num_tokens, group=groups[one.task.seed], part=one.part)
        for one, reference in chosen
    ]


def charge(run: Training, played: Episodes, items: Sequence[Item], report: UpdateReport) -> None:
    """Put the playing and the update into the ledger."""
    summaries = [one for one, _ in played]
    parts = {one.part for one in summaries} - {""}
    run.ledger.charge_rollout(
        total(one.traffic for one in summaries),
        parts={part: total(one.traffic for one in summaries if one.part == part) for part in sorted(parts)},
        context_tokens=sum(one.num_context_tokens for one in summaries),
        num_calls=sum(one.num_turns for one in summaries),
        seconds=run.row["seconds/rollout"],
        devices=run.placement.num_devices("rollout"),
    )
    run.charge_update(report, items)


@contextmanager
def transcripts(played: Episodes, run: Training) -> Iterator[None]:
    """Write those that are due while the block runs, and however it ends."""
    number, every = run.iteration + 1, run.config.cluster.transcripts_every
    chosen = choose_episodes([one for one, _ in played], seed=number) if every else {}
    if every and number % every:
        chosen = {"failed": chosen["failed"]}
    if not any(chosen.values()):
        yield
        return
    references = {reason: [played[index][1] for index in indices] for reason, indices in chosen.items()}
    writing = ray.remote(num_cpus=0)(transcribe_references).remote(
        str(run.directory.path), f"train_{number:06d}", references, f"Training, iteration {number}"
    )
    try:
        yield
    except EpisodesLost:
        raise  # what is written may miss the same, and is written anew
    except BaseException:
        _written(writing, run)
        raise
    _written(writing, run)


def _written(writing: Any, run: Training) -> None:
    """Wait for transcripts; a run does not end for those that a host had alone that is gone."""
    try:
        ray.get(writing, timeout=run.config.cluster.step_timeout_seconds)
    except LOSSES:
        run.progress.say("some episodes were on a host that is gone, and have no transcripts")
