"""What an iteration says of itself: the names and numbers of its row in `metrics.jsonl`.

rollout_row(played, chosen, …) | parts_row(played, counted(items, report)) | learner_row(report)

and the seconds of each phase, from `Training`
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from cluster.record.metrics import SPEED
from learner.device_peak import OF_THE_MACHINE
from learner.learner import UpdateReport
from learner.worker import Item
from rollout.episode import EpisodeEnd
from rollout.worker import Played

Episodes = list[tuple[Played, Any]]
"""Summary and reference of each."""
PLAYING = f"{SPEED}playing"
"""How long an iteration's episodes took, whatever else was done meanwhile."""


def rollout_row(played: Episodes, chosen: Episodes, *, version: int, max_lag: int) -> dict[str, float]:
    """What was played, as metrics; `version` is that of the policy which learns from it."""
    summaries = [one for one, _ in played]
    lags = [version - one.oldest_version for one in summaries if one.num_sampled_tokens]
    sampled = Counter(one.task.seed for one in summaries)
    groups = {"rollout/flat_groups": len(flat_tasks(summaries)) / len(sampled)} if len(sampled) < len(played) else {}
    ends = {f"rollout/{end.value}": float(np.mean([one.end is end for one in summaries])) for end in EpisodeEnd}
    return {
        "rollout/episodes": len(played),
        "rollout/learned_from": len(chosen),
        "rollout/stale": sum(lag > max_lag for lag in lags),
        "rollout/policy_lag": max(lags, default=0),
        "rollout/reward": float(np.mean([one.reward for one in summaries])),
        "rollout/success": share_solved(played),
        "rollout/turns": float(np.mean([one.num_turns for one in summaries])),
        "rollout/sampled_tokens": sum(one.num_sampled_tokens for one in summaries),
        # Which tasks, whatever came of them; a float holds it exactly.
        "rollout/tasks": float(sum(map(_checksum, summaries)) % 2**48),
        # So that two runs can be told to have drawn the same; a float holds it exactly.
        "rollout/drawn": float(sum(one.drawn for one in summaries) % 2**48),
        **groups,
        **ends,
    }


def _checksum(one: Played) -> int:
    return crc32(f"{one.task.split}/{one.task.seed}/{one.task.sample}".encode())


def share_solved(played: Episodes) -> float:
    """Of all that was played, whatever is learned from it."""
    return float(np.mean([one.end is EpisodeEnd.SOLVED for one, _ in played]))


def counted(items: Sequence[Item], report: UpdateReport) -> list[Item]:
    """Without demonstrations, where these counted for nothing."""
    return [item for item in items if report.imitates or not item.is_demonstration]


def token_shares(items: Sequence[Item]) -> tuple[float, dict[str, float]]:
    """Which share of the tokens was played, and which is of each part of a mixture."""
    whole = max(sum(item.num_tokens for item in items), 1)
    of_parts = Counter[str]()
    for item in items:
        of_parts[item.part] += item.num_tokens
    played = sum(item.num_tokens for item in items if not item.is_demonstration)
    return played / whole, {part: count / whole for part, count in of_parts.items() if part}


def flat_tasks(played: Iterable[Played]) -> set[int]:
    """The seeds of those whose samples all earned the same."""
    earned: defaultdict[int, set[float]] = defaultdict(set)
    for one in played:
        earned[one.task.seed].add(one.reward)
    return {seed for seed, rewards in earned.items() if len(rewards) == 1}


def failed_tasks(played: Iterable[Played]) -> list[int]:
    """The seeds of those that no sample solved; not where environment or verifier failed, as they would again."""
    summaries = list(played)
    others = {one.task.seed for one in summaries if one.end in (EpisodeEnd.SOLVED, EpisodeEnd.FAILED)}
    return sorted({one.task.seed for one in summaries} - others)


def parts_row(played: Episodes, items: Sequence[Item]) -> dict[str, float]:
    """What was played and imitated of each part of a mixture, as metrics; empty without one."""
    row: dict[str, float] = {}
    for part in sorted(({one.part for one, _ in played} | {item.part for item in items}) - {""}):
        summaries = [one for one, _ in played if one.part == part]
        if summaries:
            row |= {
                f"train/{part}/episodes": len(summaries),
                f"train/{part}/success": float(np.mean([one.end is EpisodeEnd.SOLVED for one in summaries])),
                f"train/{part}/reward": float(np.mean([one.reward for one in summaries])),
                f"train/{part}/turns": float(np.mean([one.num_turns for one in summaries])),
            }
        of_part = [item for item in items if item.part == part]
        row[f"train/{part}/learned_from"] = sum(not item.is_demonstration for item in of_part)
        row[f"train/{part}/demonstrations"] = sum(item.is_demonstration for item in of_part)
    return row


def learner_row(report: UpdateReport) -> dict[str, float]:
    """An update as metrics."""
    row = {f"learner/{name}": value for name, value in report.metrics.items() if name not in OF_THE_MACHINE}
    seconds = {f"{SPEED}learner_{part}": value for part, value in report.seconds.items()}
    speed = {f"{SPEED}learner_{name}": report.metrics[name] for name in OF_THE_MACHINE if name in report.metrics}
    return {"version": report.version, **row, **seconds, **speed}
