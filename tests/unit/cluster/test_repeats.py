"""What several answers to a task come to, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.measuring.measures import evaluate_episodes
from rollout.episode import Episode, EpisodeEnd, Turn
from tests.support.episodes import episode, right, wrong

GIVEN_UP = EpisodeEnd.OUT_OF_ATTEMPTS


def said(answer: str, logprob: float, *, is_right: bool) -> Turn:
    turn = right() if is_right else wrong()
    return replace(turn, answer=answer, sampled_logprobs=np.full(len(turn.sampled_token_ids), logprob, np.float32))


def plays(*turns: Turn, seed: int = 0) -> list[Episode]:
    return [
        episode(turn, seed=seed, sample=sample, end=EpisodeEnd.SOLVED if turn.verdict.correct else GIVEN_UP)
        for sample, turn in enumerate(turns)
    ]


def test_solved_within_so_many_attempts_is_counted_over_all_episodes() -> None:
    played = [
        episode(right(), seed=1),
        episode(wrong(), right(attempt=2), seed=2),
        episode(wrong(), wrong(attempt=2), wrong(attempt=3), seed=3, end=GIVEN_UP),
        # Two steps, of which the second takes three attempts.
        episode(right(), wrong(step=2), wrong(step=2, attempt=2), right(step=2, attempt=3), seed=4),
    ]
    row = evaluate_episodes(played)
    assert [row[f"success_within/{k}"] for k in (1, 2, 3)] == [1 / 4, 2 / 4, 3 / 4]
    assert row["success_within/3"] == row["success"] and row["success_within/1_n"] == 4
    assert "success_within/4" not in row


def test_the_vote_and_the_likeliest_are_judged_over_groups_of_samples() -> None:
    voted = plays(
        said("a", -2.0, is_right=True),
        said("b", -0.5, is_right=False),
        said(" a ", -3.0, is_right=True),
        said("c", -1.0, is_right=False),
    )
    likely = plays(
        said("x", -0.1, is_right=True),
        said("y", -1.0, is_right=False),
        said("y", -1.0, is_right=False),
        said("z", -2.0, is_right=False),
        seed=1,
    )
    row = evaluate_episodes([*voted, *likely], pass_at=(1, 2, 4))
    assert (row["vote@4"], row["likeliest@4"], row["vote@4_n"]) == (0.5, 0.5, 2)
    # Of pairs: a over b, which came later; a over c; x over y; y over z. By likelihood: b, c, x, y.
    assert (row["vote@2"], row["likeliest@2"], row["vote@2_n"]) == (3 / 4, 1 / 4, 4)
    assert "vote@1" not in row


@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=9))
def test_what_all_agree_on_is_what_both_choose(answers: list[str]) -> None:
    k = len(answers)
    alike = plays(*(said("a", -1.0, is_right=True) for _ in answers))
    row = evaluate_episodes(alike, pass_at=(k,))
    assert row[f"vote@{k}"] == row[f"likeliest@{k}"] == row[f"pass@{k}"] == 1
    mixed = evaluate_episodes(plays(*(said(word, -1.0, is_right=word == "a") for word in answers)), pass_at=(k,))
    most = max(answers.count(word) for word in "abc")
    if answers.count("a") == most and sum(answers.count(word) == most for word in "abc") == 1:
        assert mixed[f"vote@{k}"] == 1
    assert mixed[f"pass@{k}"] == pytest.approx(float("a" in answers))
