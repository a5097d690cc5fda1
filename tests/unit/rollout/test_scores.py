"""Scores of episodes, against tables worked out by hand, and Wilson's interval against published values."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.episode import Episode, EpisodeEnd
from rollout.scores import Rate, score_episodes
from tests.support.episodes import episode, right, turn, wrong

READ = {"readable": True, "numbers_read": True}
MISREAD = {"readable": True, "numbers_read": False}
UNREAD = {"readable": False, "numbers_read": False}


def three_hands() -> list[Episode]:
    """The example of `Scores`."""
    return [
        episode(right(checks=READ, num_sampled=28, num_shown=22)),
        episode(
            wrong(checks=READ, num_sampled=28, num_shown=22),
            right(checks=READ, attempt=2, num_sampled=28, num_shown=7),
        ),
        episode(
            wrong(checks=READ, num_sampled=28, num_shown=22),
            wrong("unreadable", reward=-3.0, checks=UNREAD, attempt=2, num_sampled=28, num_shown=7),
            end=EpisodeEnd.OUT_OF_ATTEMPTS,
        ),
    ]


rates = st.integers(0, 500).flatmap(lambda n: st.builds(Rate, st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("rate", "low", "high"),
    [
        (Rate(8, 10), 0.4902, 0.9433),
        (Rate(2, 10), 0.0567, 0.5098),
        (Rate(0, 10), 0.0, 0.2775),
        (Rate(10, 10), 0.7225, 1.0),
        (Rate(1, 1), 0.2065, 1.0),
        (Rate(0, 20), 0.0, 0.1611),
        (Rate(1, 29), 0.0061, 0.1718),
        (Rate(15, 148), 0.0624, 0.1605),
        (Rate(81, 263), 0.2553, 0.3662),
        (Rate(0, 0), 0.0, 1.0),
    ],
)
def test_wilson_agrees_with_published_values(rate: Rate, low: float, high: float) -> None:
    """The four above the last are Newcombe's examples (1998)."""
    assert rate.interval() == pytest.approx((low, high), abs=6e-5)


@given(rates, st.floats(0.01, 0.999))
def test_an_interval_holds_its_value_within_the_possible(rate: Rate, confidence: float) -> None:
    low, high = rate.interval(confidence)
    assert 0 <= low <= high <= 1
    if rate.value is not None:
        assert low <= rate.value <= high


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_one_more_success_raises_both_ends(counts: tuple[int, int]) -> None:
    successes, n = counts
    fewer, more = Rate(successes, n).interval(), Rate(successes + 1, n).interval()
    assert fewer[0] < more[0] and fewer[1] < more[1]


@given(rates)
def test_a_failure_is_a_success_of_the_opposite(rate: Rate) -> None:
    low, high = rate.interval()
    assert Rate(rate.n - rate.successes, rate.n).interval() == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(rates.filter(lambda rate: rate.n > 0))
def test_more_evidence_and_less_confidence_narrow_an_interval(rate: Rate) -> None:
    low, high = rate.interval()
    again = Rate(rate.successes * 4, rate.n * 4).interval()
    bold = rate.interval(0.5)
    assert again[1] - again[0] < high - low
    assert bold[1] - bold[0] < high - low


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_an_impossible_rate_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} out of {n}"):
        Rate(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Rate(1, 2).interval(confidence)


def test_the_example_of_three_hands_is_right() -> None:
    scores = score_episodes(three_hands())
    assert (scores.num_episodes, scores.num_failed, scores.num_truncated) == (3, 0, 0)
    assert [scores.ends[end] for end in EpisodeEnd] == [2, 1, 0, 0, 0]
    assert list(scores.outcomes.items()) == [("correct", 2), ("unreadable", 1), ("wrong_value", 2)]
    assert scores.solved == scores.step_solved == Rate(2, 3)
    assert scores.solved_at_first_try == Rate(1, 3)
    assert scores.per_step_accuracy == Rate(2, 5)
    assert scores.solved_by_attempt == {1: Rate(1, 3), 2: Rate(1, 2)}
    assert scores.attempts_used == 1.5
    assert scores.parse_rate == Rate(4, 5)
    assert scores.checks == {"numbers_read": Rate(4, 5), "readable": Rate(4, 5)}
    assert scores.checks_at_first_attempt == {"numbers_read": Rate(3, 3), "readable": Rate(3, 3)}
    assert scores.mean_reward == pytest.approx((5 + 4 - 4) / 3)
    assert (scores.num_sampled_tokens, scores.mean_sampled_tokens) == (140, 28.0)
    assert scores.num_shown_tokens == 80


def test_a_route_counts_its_steps_and_stops_where_it_fails() -> None:
    """Steps 1 and 3 at once, step 2 at the second attempt, step 4 never; two steps of another route."""
    scores = score_episodes(
        [
            episode(
                right(step=1),
                wrong(step=2),
                right(step=2, attempt=2),
                right(step=3),
                wrong(step=4),
                wrong(step=4, attempt=2),
                end=EpisodeEnd.OUT_OF_ATTEMPTS,
            ),
            episode(right(step=1), right(step=2)),
        ]
    )
    assert scores.solved == scores.solved_at_first_try == Rate(1, 2)
    assert scores.step_solved == Rate(5, 6)
    assert scores.per_step_accuracy == Rate(5, 8)
    assert scores.solved_by_attempt == {1: Rate(4, 6), 2: Rate(1, 2)}
    assert scores.attempts_used == pytest.approx(6 / 5)


def test_a_route_solved_with_a_retry_is_not_solved_at_first_try() -> None:
    scores = score_episodes([episode(wrong(step=1), right(step=1, attempt=2), right(step=2))])
    assert scores.solved == Rate(1, 1)
    assert scores.solved_at_first_try == Rate(0, 1)


def test_an_unscored_answer_counts_only_where_the_paper_counts_it() -> None:
    unscored = wrong("attempts_exceeded", attempt=3, checks=UNREAD)
    scores = score_episodes([episode(wrong(), wrong(attempt=2), unscored, end=EpisodeEnd.OUT_OF_ATTEMPTS)])
    assert scores.per_step_accuracy == Rate(0, 3)
    assert scores.outcomes == {"attempts_exceeded": 1, "wrong_value": 2}
    assert scores.solved_by_attempt == {1: Rate(0, 1), 2: Rate(0, 1)}
    assert scores.parse_rate == Rate(2, 2)
    assert scores.step_solved == Rate(0, 1)
    assert scores.attempts_used is None
    assert scores.num_sampled_tokens == 15
    assert scores.mean_reward == -3.0


def test_a_failed_episode_is_counted_and_enters_nothing_else() -> None:
    failed = episode(wrong(num_sampled=1000), end=EpisodeEnd.FAILED)
    with_failure, without = score_episodes([*three_hands(), failed]), score_episodes(three_hands())
    assert (with_failure.num_episodes, with_failure.num_failed) == (4, 1)
    assert with_failure.ends[EpisodeEnd.FAILED] == 1
    apart = {"num_episodes", "num_failed", "ends/failed"}
    kept = {name: value for name, value in with_failure.to_row().items() if name not in apart}
    assert kept == {name: value for name, value in without.to_row().items() if name not in apart}


def test_a_truncated_episode_is_unsolved_and_its_answers_count() -> None:
    scores = score_episodes(
        [
            episode(right(step=1), wrong(step=2), end=EpisodeEnd.OUT_OF_TOKENS),
            episode(right(step=1), end=EpisodeEnd.OUT_OF_TIME),
            episode(end=EpisodeEnd.OUT_OF_TOKENS),
        ]
    )
    assert scores.num_truncated == 3
    assert scores.solved == Rate(0, 3)
    assert scores.step_solved == Rate(2, 3)


def test_a_check_is_counted_over_the_answers_that_carry_it() -> None:
    scores = score_episodes(
        [
            episode(
                wrong(checks=MISREAD),
                right(attempt=2, checks={**READ, "right_under_training_rule": True}),
            ),
            episode(turn("correct", checks={"cards_recognised": False})),
        ]
    )
    assert scores.checks == {
        "cards_recognised": Rate(0, 1),
        "numbers_read": Rate(1, 2),
        "readable": Rate(2, 2),
        "right_under_training_rule": Rate(1, 1),
    }
    assert scores.checks_at_first_attempt == {
        "cards_recognised": Rate(0, 1),
        "numbers_read": Rate(0, 1),
        "readable": Rate(1, 1),
    }


def test_no_episodes_give_no_values() -> None:
    scores = score_episodes([])
    assert scores.solved.value is scores.mean_reward is scores.mean_sampled_tokens is scores.attempts_used is None
    row = scores.to_row()
    assert "solved" not in row
    assert (row["solved_n"], row["solved_low"], row["solved_high"]) == (0, 0.0, 1.0)


def test_a_row_is_flat_and_survives_json() -> None:
    row = score_episodes(three_hands()).to_row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in row.values())
    assert row["solved"] == pytest.approx(2 / 3)
    assert row["solved_n"] == 3
    assert row["solved_low"] == pytest.approx(Rate(2, 3).interval()[0])
    assert row["solved_by_attempt/2"] == 0.5
    assert row["ends/out_of_attempts"] == 1
    assert row["outcomes/wrong_value"] == 2
    assert row["checks/numbers_read_n"] == 5
    assert row["checks_at_first_attempt/numbers_read"] == 1.0
