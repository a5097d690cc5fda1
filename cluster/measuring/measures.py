"""What played episodes say of a policy: the scores, and which rule it follows. Pure functions of episodes.

evaluate_episodes(episodes, …)  →  one flat row: `success`, `success_low`, `success_high`, `success_n`, …
compare_policies(first, second) →  PairedDifference

success, parse_rate, checks/…            the scores of `rollout/scores.py`, with intervals by cluster
rule_fixation                            of the wrong answers to questions that the shift changes, those that are
                                         right under the training rule
regurgitated, regurgitated_formula       of the scored answers, those that repeat a training target word for word,
                                         or whose formula does
per_step_accuracy/turn_direction         right answers of all answers, where that kind of action is the right one
thinking/statements_right, …             what thoughts state, computed again (thinking.py)
success_within/3                         episodes solved with so many attempts at each step, or fewer (repeats.py)
by_need@3, by_confidence@3               episodes solved by rules that stop, with about as many answers as three
                                         attempts for everyone take (stop_rules.py)
pass@4, vote@4, likeliest@4              the chance that one of four plays of a task solves it; that the answer does
                                         which most of them gave, or which was the likeliest
entropy                                  how undecided the policy was about its next token, in nats, where it was drawn
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import fields
from statistics import fmean

import numpy as np

from cluster.measuring.asked import Asked, TrainingRule
from cluster.measuring.intervals import PairedDifference, Share, interval, paired_difference, pass_at_k
from cluster.measuring.repeats import choices, within
from cluster.measuring.stop_rules import answers, stopped
from cluster.measuring.thinking import thoughts
from envs.catalog import make_environment
from envs.protocol import EnvConfig, Split
from rollout.episode import Episode, EpisodeEnd, Turn
from rollout.scores import Rate, Scores, score_episodes
from verifier.answer_format import read_fields
from verifier.config import VerifierConfig
from verifier.navigation import Position
from verifier.protocol import UNSCORED, Verdict

ClusterOf = Callable[[Episode], Hashable]
Rules = tuple[EnvConfig, VerifierConfig]
Task = tuple[str, Split, int]

_SUCCESS = {
    "solved": "success",
    "solved_at_first_try": "first_try_success",
    "step_solved": "step_success",
    "solved_by_attempt": "success_by_attempt",
}
"""What scores are called in a row of measures, next to which others of other runs stand."""


def evaluate_episodes(
    episodes: Sequence[Episode],
    *,
    env: Rules | None = None,
    fixation_env: Rules | None = None,
    training_targets: Collection[str] | None = None,
    cluster_of: ClusterOf | None = None,
    pass_at: Sequence[int] = (),
    stop_at: Sequence[int] = (),
) -> dict[str, float | int]:
    """Everything there is to say of episodes of one suite, in one flat row.

    `env` is what the episodes were played in: it gives accuracy by kind of action, and clusters of equal problems.
    Without it and `cluster_of`, the plays of one task are a cluster. `fixation_env` is the same environment under the
    rule of training; without it, `rule_fixation` comes from the verdicts, where `env` names that rule itself.
    """
    if fixation_env is not None and env is None:
        raise ValueError("fixation_env needs env, since it is what was asked there that is judged again")
    asked = None if env is None else Asked(make_environment(*env))
    fixation = None if asked is None or fixation_env is None else TrainingRule(asked, make_environment(*fixation_env))
    cluster_of = cluster_of or (asked.cluster if asked is not None else task_of)
    targets = None if training_targets is None else _Targets(training_targets)
    played = [episode for episode in episodes if episode.end is not EpisodeEnd.FAILED]
    most = max((turn.attempt for episode in played for turn in episode.turns), default=0)
    problems = [cluster_of(episode) for episode in played]
    stops = stopped(played, stop_at, problems)
    clusters: dict[Hashable, list[int]] = defaultdict(list)
    for place, problem in enumerate(problems):
        clusters[problem].append(place)
    shares: dict[str, list[Share]] = defaultdict(list)
    for places in clusters.values():
        cluster = [played[place] for place in places]
        for name, came in stops.items():
            shares[name].append(Share(sum(came[place][0] for place in places), len(places)))
        rates = _score_rates(score_episodes(cluster)) | _extra_rates(cluster, asked, fixation, targets)
        for name, rate in (rates | within(cluster, most)).items():
            shares[name].append(Share(rate.successes, rate.n))
        for k in pass_at:
            shares[f"pass@{k}"].append(_pass_share(cluster, k))
            for name, share in choices(cluster, k).items() if k > 1 else ():
                shares[name].append(share)
    intervals = {name: entry for rate, parts in shares.items() for name, entry in _entries(rate, parts).items()}
    spent = {f"answers_{name}": fmean(count for _, count in came.values()) for name, came in stops.items()}
    spent |= {f"answers@{k}": answers(played, k) for k in stop_at if stops}
    row = score_episodes(episodes).to_row() | intervals | {"num_clusters": len(clusters)} | _entropy(played) | spent
    return {_measured_name(name): value for name, value in row.items()}


def _entropy(episodes: Sequence[Episode]) -> dict[str, float]:
    """What drawn tokens say of it: drawn from a distribution, −log p is its entropy on average."""
    drawn = [turn.sampled_logprobs for episode in episodes for turn in episode.turns if len(turn.sampled_logprobs)]
    return {"entropy": float(-np.concatenate(drawn).astype(float).mean())} if drawn else {}


def compare_policies(
    first: Sequence[Episode],
    second: Sequence[Episode],
    *,
    cluster_of: ClusterOf | None = None,
    succeeded: Callable[[Episode], bool] = lambda episode: episode.end is EpisodeEnd.SOLVED,
) -> PairedDifference:
    """How much more often the first policy succeeds than the second, at the same tasks.

    Tasks of which every play failed by a fault of the environment, on either side, are left out.
    """
    cluster_of = cluster_of or task_of
    clusters = {task_of(episode): cluster_of(episode) for episode in (*first, *second)}
    return paired_difference(_by_task(first, succeeded), _by_task(second, succeeded), cluster_of=clusters)


def task_of(episode: Episode) -> Task:
    """What all plays of a task share."""
    return (episode.env, episode.split, episode.seed)


class _Targets:
    """Answers that were imitated."""

    def __init__(self, answers: Iterable[str]) -> None:
        self._answers = {answer.strip() for answer in answers}
        self._formulas = {formula for answer in self._answers if (formula := _formula(answer))}

    def rates(self, scored: Sequence[Turn]) -> dict[str, Rate]:
        """How many answers repeat one of them."""
        answers = [turn.answer.strip() for turn in scored]
        rates = {"regurgitated": Rate(sum(answer in self._answers for answer in answers), len(answers))}
        if self._formulas:
            repeated = sum(_formula(answer) in self._formulas for answer in answers)
            rates["regurgitated_formula"] = Rate(repeated, len(answers))
        return rates


def _formula(answer: str) -> str | None:
    field = read_fields(answer, ("formula",)).get("formula")
    return field.text.replace(" ", "") if field else None


def _score_rates(scores: Scores) -> dict[str, Rate]:
    """The rates among the scores, by the names that they have in a row."""
    rates: dict[str, Rate] = {}
    for name in (field.name for field in fields(scores)):
        entry = getattr(scores, name)
        parts = {f"{name}/{key}": part for key, part in entry.items()} if isinstance(entry, dict) else {name: entry}
        rates |= {key: part for key, part in parts.items() if isinstance(part, Rate)}
    return rates


def _measured_name(name: str) -> str:
    for score, measure in _SUCCESS.items():
        for ending in ("", "_low", "_high", "_n"):
            if name == score + ending:
                return measure + ending
        if name.startswith(f"{score}/"):
            return measure + name.removeprefix(score)
    return name


def _extra_rates(
    episodes: Sequence[Episode], asked: Asked | None, fixation: TrainingRule | None, targets: _Targets | None
) -> dict[str, Rate]:
    turns = [(episode, turn) for episode in episodes for turn in episode.turns]
    scored = [(episode, turn) for episode, turn in turns if turn.verdict.outcome != UNSCORED]
    wrong = [(episode, turn) for episode, turn in scored if not turn.verdict.correct]
    rates: dict[str, Rate] = {}
    if fixation is not None:
        told = [fixation.is_right(episode, turn) for episode, turn in wrong]
    else:
        told = [_right_by_check(turn.verdict) for _, turn in wrong]
    if known := [is_right for is_right in told if is_right is not None]:
        rates["rule_fixation"] = Rate(sum(known), len(known))
    rates |= thoughts(turn.answer for _, turn in scored)
    if targets is not None:
        rates |= targets.rates([turn for _, turn in scored])
    if asked is not None:
        rates |= _rates_by_action(turns, asked)
    return rates


def _right_by_check(verdict: Verdict) -> bool | None:
    return verdict.checks.get("right_under_training_rule")


def _rates_by_action(turns: Sequence[tuple[Episode, Turn]], asked: Asked) -> dict[str, Rate]:
    by_action: dict[str, list[bool]] = defaultdict(list)
    for episode, turn in turns:
        reference = asked.of(episode, turn)
        if isinstance(reference, Position) and reference.asks == "action":
            by_action[reference.action.partition("(")[0]].append(turn.verdict.correct)
    return {f"per_step_accuracy/{action}": Rate(sum(right), len(right)) for action, right in sorted(by_action.items())}


def _pass_share(episodes: Sequence[Episode], k: int) -> Share:
    """Over the tasks of a cluster that were played k times or more."""
    chances = [
        pass_at_k(k, len(right), sum(right))
        for right in _by_task(episodes, lambda episode: episode.end is EpisodeEnd.SOLVED).values()
        if len(right) >= k
    ]
    return Share(sum(chances), len(chances))


def _by_task(episodes: Iterable[Episode], succeeded: Callable[[Episode], bool]) -> dict[Task, list[bool]]:
    """For each task, which of its plays succeeded; failed plays are no plays."""
    by_task: dict[Task, list[bool]] = {}
    for episode in episodes:
        plays = by_task.setdefault(task_of(episode), [])
        if episode.end is not EpisodeEnd.FAILED:
            plays.append(succeeded(episode))
    return by_task


def _entries(name: str, shares: Sequence[Share]) -> dict[str, float | int]:
    """A rate's four entries, with the interval by cluster."""
    n = sum(share.n for share in shares)
    low, high = interval(shares)
    value = {name: sum(share.successes for share in shares) / n} if n else {}
    return {**value, f"{name}_n": n, f"{name}_low": low, f"{name}_high": high}
