"""Rules that stop from attempt to attempt, by hand and as properties."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.measuring.measures import evaluate_episodes
from cluster.measuring.stop_rules import _came, _halves, _need, _Rule, answers, stopped
from rollout.episode import Episode, EpisodeEnd, Turn
from tests.support.episodes import episode, right, wrong

MOST = 6


def by_seed(episodes: list[Episode]) -> list[int]:
    return [episode.seed for episode in episodes]


def failed(outcome: str, attempt: int, logprob: float = -1.0) -> Turn:
    turn = wrong(attempt=attempt)
    said = np.full(len(turn.sampled_token_ids), logprob, np.float32)
    return replace(turn, verdict=replace(turn.verdict, outcome=outcome), sampled_logprobs=said)


def played(seed: int, outcomes: list[tuple[str, float]], *, is_solved: bool) -> Episode:
    turns = [failed(outcome, attempt, logprob) for attempt, (outcome, logprob) in enumerate(outcomes, 1)]
    if is_solved:
        return episode(*turns, right(attempt=len(turns) + 1), seed=seed)
    return episode(*turns, seed=seed, end=EpisodeEnd.OUT_OF_ATTEMPTS)


def hopeful_and_hopeless(count: int) -> list[Episode]:
    """What is `near` is right after two more attempts, what is `far` never is."""
    near = [played(seed, [("near", -0.1)] * 2, is_solved=True) for seed in range(count)]
    far = [played(seed, [("far", -3.0)] * 4, is_solved=False) for seed in range(count, 2 * count)]
    return [*near, *far]


def test_attempts_go_where_they_help() -> None:
    episodes = hopeful_and_hopeless(40)
    row = evaluate_episodes(episodes, stop_at=(1, 2, 3))
    # Two for everyone solve nothing and cost two; by need the near ones have their three, the far ones one.
    assert (row["success_within/2"], row["answers@2"]) == (0.0, 2.0)
    assert (row["by_need@2"], row["answers_by_need@2"]) == (0.5, 2.0)
    assert row["by_confidence@2"] == 0.5
    assert row["by_need@1"] == 0.0 and row["answers_by_need@1"] == 1.0
    assert row["by_need@3"] == row["success_within/3"] == 0.5
    assert row["by_need@2_n"] == 80 and row["by_need@2_low"] < 0.5 < row["by_need@2_high"]


def test_without_a_second_attempt_there_is_nothing_to_stop() -> None:
    row = evaluate_episodes(
        [episode(right(), seed=1), episode(wrong(), seed=2, end=EpisodeEnd.OUT_OF_ATTEMPTS)], stop_at=(1,)
    )
    assert not [name for name in row if "by_need" in name or "answers" in name]


def test_what_is_judged_is_not_what_was_learned_from() -> None:
    """Each half is stopped by what the other knows, and not by what became of itself."""
    even = [played(2 * seed, [("a", -1.0)], is_solved=True) for seed in range(20)]
    odd = [played(2 * seed + 1, [("a", -1.0)] * 3, is_solved=False) for seed in range(20)]
    both = [one for pair in zip(even, odd, strict=True) for one in pair]
    found = stopped(both, (2,), by_seed(both))["by_need@2"]
    # The odd ones know of nothing that would help, and two attempts for each of them are too few for any that has
    # three: so the even ones stop at once, although a second attempt would have solved them.
    assert [found[place] for place in range(0, 40, 2)] == [(False, 1)] * 20
    # The even ones have seen two attempts, which solved all: so the odd ones go on to their ends.
    assert [found[place] for place in range(1, 40, 2)] == [(False, 3)] * 20


def test_a_problem_is_in_one_half_however_often_and_as_what_it_was_played() -> None:
    # One problem alone, and one that has all the second attempts: nothing can be learned of it from others.
    alone = [played(seed, [("a", -1.0)], is_solved=True) for seed in range(10)]
    assert stopped(alone, (2,), ["the same"] * 10) == {}
    assert stopped(alone, (), by_seed(alone)) == {} != stopped(alone, (2,), by_seed(alone))
    assert evaluate_episodes(alone[:1], stop_at=(2,)).keys().isdisjoint({"by_need@2", "answers@2"})
    assert stopped([*alone[:1], episode(right(), seed=1)], (2,), [0, 1]) == {}


def test_seeds_of_one_parity_are_halved_too_and_so_is_each_part_of_a_mixture() -> None:
    even = [played(2 * seed, [("a", -1.0)], is_solved=True) for seed in range(20)]
    row = evaluate_episodes(even, stop_at=(1, 2))
    assert (row["by_need@1"], row["answers_by_need@1"]) == (0.0, 1.0) == (row["success_within/1"], row["answers@1"])
    assert (row["by_need@2"], row["answers_by_need@2"]) == (1.0, 2.0)
    # Of two parts, each of one parity, each half has of both.
    parts = [
        replace(played(seed, [("ab"[seed % 2], -1.0)], is_solved=seed % 2 == 0), part="ab"[seed % 2])
        for seed in range(40)
    ]
    first, second = _halves(parts, by_seed(parts))
    assert {parts[place].part for place in first} == {parts[place].part for place in second} == {"a", "b"}
    assert sorted([*first, *second]) == list(range(40))


@st.composite
def plays(draw: st.DrawFn) -> list[Episode]:
    random = Random(draw(st.integers(0, 2**32)))
    episodes = []
    for seed in range(draw(st.integers(2, 30))):
        count, is_solved = random.randint(0, MOST - 1), random.random() < 0.6
        said = [(random.choice("abc"), -random.random()) for _ in range(count + (not is_solved))]
        episodes.append(played(seed, said, is_solved=is_solved))
    return episodes


@given(plays(), st.integers(1, MOST))
def test_a_rule_never_solves_what_was_not_and_stops_only_earlier(episodes: list[Episode], k: int) -> None:
    for came in stopped(episodes, (k, MOST), by_seed(episodes)).values():
        assert sorted(came) == list(range(len(episodes)))
        for place, (is_solved, count) in came.items():
            whole = episodes[place]
            assert count <= len(whole.turns)
            assert is_solved == (whole.end is EpisodeEnd.SOLVED and count == len(whole.turns))
    if found := stopped(episodes, (MOST,), by_seed(episodes)):
        # As many answers as there are: nothing need be stopped.
        assert all(count == len(episodes[place].turns) for place, (_, count) in found["by_need@6"].items())


@given(plays(), st.integers(1, MOST))
def test_a_bound_keeps_to_the_answers_of_what_it_was_made_from(episodes: list[Episode], k: int) -> None:
    rule = _Rule.of(episodes, _need)
    goes_on = rule.goes_on(rule.least(episodes, k))
    spent = [_came(episode, goes_on)[1] for episode in episodes]
    assert np.mean(spent) <= answers(episodes, k) + 1e-9


@given(plays())
def test_k_attempts_for_everyone_are_those_that_were_played(episodes: list[Episode]) -> None:
    assert answers(episodes, MOST) == pytest.approx(np.mean([len(episode.turns) for episode in episodes]))
    assert answers(episodes, 1) == 1
