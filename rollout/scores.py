"""What played episodes amount to: how often each thing succeeded, and how sure that is.

    episodes ─▶ score_episodes ─▶ Scores ─▶ to_row ─▶ one flat line for a table or a JSONL file

An episode that FAILED says nothing about the policy: it is counted, and enters no rate, mean or sum. An answer
whose outcome is `attempts_exceeded` was never read: it enters no rate but `per_step_accuracy`, whose denominator is
the paper's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import sqrt
from statistics import NormalDist, fmean

from rollout.episode import Episode, EpisodeEnd, Turn
from verifier.protocol import UNSCORED, Verdict


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened.

    `Rate(8, 10)` has the value 0.8 and the interval (0.4902, 0.9433); `Rate(0, 10)` has 0.0 and (0.0, 0.2775);
    `Rate(0, 0)` has no value and the interval (0.0, 1.0), which is to say that nothing is known.
    """

    successes: int
    """How often it did."""
    n: int
    """How often it could have."""

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise ValueError(f"a rate of {self.successes} out of {self.n}; successes must lie between 0 and n")

    @property
    def value(self) -> float | None:
        """The share; None where there was nothing to count."""
        return self.successes / self.n if self.n else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The Wilson score interval of the chance behind the rate. It takes the n for independent."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, both excluded")
        if not self.n:
            return 0.0, 1.0
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        share, weight = self.successes / self.n, z * z / self.n
        middle = (share + weight / 2) / (1 + weight)
        reach = z / (1 + weight) * sqrt(share * (1 - share) / self.n + weight / (4 * self.n))
        # At the ends the formula gives exactly 0 and 1, but for the last bits.
        low = middle - reach if self.successes else 0.0
        high = middle + reach if self.successes < self.n else 1.0
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a set of episodes amounts to.

    Three hands with two attempts each: the first is solved at once, the second at the second attempt, after a formula
    that makes another value, and the third not at all, once with an answer that cannot be read.

        Scores(num_episodes=3, num_failed=0, num_truncated=0,
               ends={SOLVED: 2, OUT_OF_ATTEMPTS: 1, OUT_OF_TOKENS: 0, OUT_OF_TIME: 0, FAILED: 0},
               outcomes={"correct": 2, "unreadable": 1, "wrong_value": 2},
               solved=Rate(2, 3), solved_at_first_try=Rate(1, 3), step_solved=Rate(2, 3),
               per_step_accuracy=Rate(2, 5), solved_by_attempt={1: Rate(1, 3), 2: Rate(1, 2)}, attempts_used=1.5,
               parse_rate=Rate(4, 5), checks={"numbers_read": Rate(4, 5), "readable": Rate(4, 5)},
               checks_at_first_attempt={"numbers_read": Rate(3, 3), "readable": Rate(3, 3)},
               mean_reward=1.666…, num_sampled_tokens=140, mean_sampled_tokens=28.0, num_shown_tokens=80)
    """

    num_episodes: int
    """All episodes, failed ones included."""
    num_failed: int
    """Episodes that an error ended; they are in this count, the one above and `ends`, and in nothing else."""
    num_truncated: int
    """Episodes that the token budget or the clock cut off; all rates count them as they stood then."""
    ends: dict[EpisodeEnd, int]
    """How many episodes came to each end, in the order of `EpisodeEnd`."""
    outcomes: dict[str, int]
    """How many answers had each of the verifier's outcomes, in alphabetical order, unscored ones included."""
    solved: Rate
    """Of the episodes, those in which all was answered within the attempts: the success rate, also of routes."""
    solved_at_first_try: Rate
    """Of the episodes, those that were solved without a single wrong answer."""
    step_solved: Rate
    """Of the steps that were asked about, those that were answered right within the attempts."""
    per_step_accuracy: Rate
    """Right answers of all answers, retries and unscored ones included: the paper's per-step accuracy. A policy that
    fails early is asked less, so this is weighted by how far it gets."""
    solved_by_attempt: dict[int, Rate]
    """For each attempt, the right answers of those that were given at it."""
    attempts_used: float | None
    """The mean number of attempts at the steps that were solved; None where none was."""
    parse_rate: Rate
    """Of the scored answers, those in which what was asked for could be read."""
    checks: dict[str, Rate]
    """For each side fact of the verdicts, by name, how many of the scored answers that carry it have it."""
    checks_at_first_attempt: dict[str, Rate]
    """The same of first attempts only, before any feedback could tell."""
    mean_reward: float | None
    """What an episode earned on average; None without episodes."""
    num_sampled_tokens: int
    """How many tokens the policy produced."""
    mean_sampled_tokens: float | None
    """How long an answer was on average; None without answers."""
    num_shown_tokens: int
    """How many tokens the questions added, pictures counting one each."""

    def to_row(self) -> dict[str, float | int]:
        """Everything in one flat dictionary of numbers, ready for JSON; what has no value is left out.

        A rate takes four entries: `solved` (its value), `solved_n`, `solved_low` and `solved_high`. What is counted by
        name has the name behind a slash: `ends/solved`, `outcomes/correct`, `checks/numbers_read_low`.
        """
        row: dict[str, float | int] = {}
        for name in (field.name for field in fields(self)):
            entry = getattr(self, name)
            if isinstance(entry, dict):
                for key, part in entry.items():
                    row |= _entries(f"{name}/{key}", part)
            else:
                row |= _entries(name, entry)
        return row


def score_episodes(episodes: Sequence[Episode]) -> Scores:
    """The scores of episodes of one environment, in any order."""
    played = [episode for episode in episodes if episode.end is not EpisodeEnd.FAILED]
    turns = [turn for episode in played for turn in episode.turns]
    scored = [turn for turn in turns if turn.verdict.outcome != UNSCORED]
    right = [turn for turn in scored if turn.verdict.correct]
    ends = Counter(episode.end for episode in episodes)
    checks = _check_rates(turn.verdict for turn in scored)
    num_sampled_tokens = sum(episode.num_sampled_tokens for episode in played)
    return Scores(
        num_episodes=len(episodes),
        num_failed=len(episodes) - len(played),
        num_truncated=sum(episode.end.truncated for episode in played),
        ends={end: ends[end] for end in EpisodeEnd},
        outcomes=dict(sorted(Counter(turn.verdict.outcome for turn in turns).items())),
        solved=_rate(episode.end is EpisodeEnd.SOLVED for episode in played),
        solved_at_first_try=_rate(_is_flawless(episode) for episode in played),
        step_solved=_rate(solved for episode in played for solved in _solved_steps(episode).values()),
        per_step_accuracy=Rate(len(right), len(turns)),
        solved_by_attempt=_rates_by_attempt(scored),
        attempts_used=_mean([turn.attempt for turn in right]),
        parse_rate=checks.get("readable", Rate(0, 0)),
        checks=checks,
        checks_at_first_attempt=_check_rates(turn.verdict for turn in scored if turn.attempt == 1),
        mean_reward=_mean([episode.reward for episode in played]),
        num_sampled_tokens=num_sampled_tokens,
        mean_sampled_tokens=num_sampled_tokens / len(turns) if turns else None,
        num_shown_tokens=sum(len(turn.shown_token_ids) for turn in turns),
    )


def _is_flawless(episode: Episode) -> bool:
    return episode.end is EpisodeEnd.SOLVED and all(turn.verdict.correct for turn in episode.turns)


def _solved_steps(episode: Episode) -> dict[int, bool]:
    """For each step that was asked about, whether one of its answers was right."""
    solved: dict[int, bool] = {}
    for turn in episode.turns:
        if turn.verdict.outcome != UNSCORED:
            solved[turn.step] = solved.get(turn.step, False) or turn.verdict.correct
    return solved


def _rates_by_attempt(scored: Iterable[Turn]) -> dict[int, Rate]:
    at_attempt: dict[int, list[bool]] = defaultdict(list)
    for turn in scored:
        at_attempt[turn.attempt].append(turn.verdict.correct)
    return {attempt: _rate(at_attempt[attempt]) for attempt in sorted(at_attempt)}


def _check_rates(verdicts: Iterable[Verdict]) -> dict[str, Rate]:
    by_name: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        for name, passed in verdict.checks.items():
            by_name[name].append(passed)
    return {name: _rate(by_name[name]) for name in sorted(by_name)}


def _rate(successes: Iterable[bool]) -> Rate:
    counted = list(successes)
    return Rate(sum(counted), len(counted))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _entries(name: str, entry: Rate | float | int | None) -> dict[str, float | int]:
    """A rate's four entries, a number's one; None has none."""
    if entry is None:
        return {}
    if not isinstance(entry, Rate):
        return {name: entry}
    low, high = entry.interval()
    value = {} if entry.value is None else {name: entry.value}
    return {**value, f"{name}_n": entry.n, f"{name}_low": low, f"{name}_high": high}
