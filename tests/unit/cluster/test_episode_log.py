"""Transcripts that a person can read, and records that say again what was played."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.record.episode_log import (
    append_episodes,
    choose_episodes,
    keep_pictures,
    read_episodes,
    write_transcripts,
)
from cluster.record.files import DamagedRecord
from cluster.record.run_directory import RunDirectory
from rollout.episode import Episode, EpisodeEnd
from tests.support.episodes import episode, right, wrong
from verifier.protocol import Span


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "nano")


class Letters:
    """Every token of an answer is one letter, but for the end token, which is none."""

    def character_ends(self, token_ids: Sequence[int]) -> list[int]:
        return [min(number, len(token_ids) - 1) for number in range(1, len(token_ids) + 1)]


def hand(seed: int = 7) -> Episode:
    """A hand that was shown as a picture and solved at the second attempt."""
    first = replace(wrong(reward=-1.0, num_sampled=5), images=("ab12",), answer="This", question_text="What `is` it?")
    verdict = replace(first.verdict, spans=(Span("action", 0, 4),))
    second = replace(right(attempt=2, num_sampled=3, version=4), answer="No")
    return replace(episode(replace(first, verdict=verdict), second, seed=seed), pictures={"ab12": b"the picture"})


def rewarded(*rewards: float | None) -> list[Episode]:
    """Episodes that earned so much; None for one that failed."""
    return [
        episode(right(reward=reward)) if reward is not None else episode(end=EpisodeEnd.FAILED) for reward in rewards
    ]


def test_best_worst_and_some_of_the_rest_are_chosen() -> None:
    chosen = choose_episodes(rewarded(3, None, 5, -2, 0, 1, 2), best=2, worst=1, random=2, seed=3)
    assert chosen["best"] == [2, 0]
    assert chosen["worst"] == [3]
    assert set(chosen["random"]) < {4, 5, 6} and len(chosen["random"]) == 2
    assert chosen["failed"] == [1]
    assert chosen == choose_episodes(rewarded(3, None, 5, -2, 0, 1, 2), best=2, worst=1, random=2, seed=3)


@given(
    st.lists(st.none() | st.integers(-3, 3).map(float), max_size=9),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_no_episode_is_chosen_twice_and_the_best_are_best(
    rewards: list[float | None], best: int, worst: int, random: int
) -> None:
    chosen = choose_episodes(rewarded(*rewards), best=best, worst=worst, random=random)
    indices = [index for group in chosen.values() for index in group]
    assert len(indices) == len(set(indices))
    whole = [reward for reward in rewards if reward is not None]
    assert len(indices) >= min(len(whole), best + worst + random)
    assert [rewards[index] for index in chosen["best"]] == sorted(whole, reverse=True)[:best]


def test_a_transcript_shows_question_answer_verdict_and_picture(run: RunDirectory) -> None:
    path = write_transcripts(run, "000003", {"best": [hand()], "random": []}, title="Iteration 3")
    assert path == run.episodes / "000003.md"
    text = path.read_text()
    for part in (
        "# Iteration 3",
        "## best: general_points train 7",
        "solved, reward 4, 2 answers, 8 tokens drawn",
        "![the picture](../images/ab12.png)",
        "What `is` it?",
        "**wrong_value** (-1): It is not.",
        "**correct** (+5): So it is.",
        "readable yes",
        "### step 1, attempt 2",
    ):
        assert part in text
    assert (path.parent / "../images/ab12.png").resolve().read_bytes() == b"the picture"


def test_what_a_model_writes_cannot_break_out_of_its_block(run: RunDirectory) -> None:
    said = replace(wrong(), answer="```\n# not a heading\n````")
    text = write_transcripts(run, "x", {"worst": [episode(said)]}, title="t").read_text()
    assert "`````\n```\n# not a heading\n````\n`````" in text


def test_a_failed_episode_shows_its_traceback(run: RunDirectory) -> None:
    text = write_transcripts(run, "x", {"failed": rewarded(None)}, title="t").read_text()
    assert "Traceback …" in text and "failed, reward 0" in text


def test_a_picture_is_kept_once(run: RunDirectory) -> None:
    keep_pictures(run, hand())
    (run.images / "ab12.png").write_bytes(b"as it was")
    keep_pictures(run, hand())
    assert [path.name for path in run.images.iterdir()] == ["ab12.png"]
    assert (run.images / "ab12.png").read_bytes() == b"as it was"


def test_a_record_says_all_that_a_report_shows(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append_episodes(path, [hand()], suite="look", arm="rl", iteration=3, temperature=0.5, chat=Letters())
    append_episodes(path, rewarded(None), iteration=4, temperature=1.0)
    solved, failed = read_episodes(path)
    assert (solved.suite, solved.arm, solved.iteration, solved.temperature) == ("look", "rl", 3, 0.5)
    assert (solved.env, solved.seed, solved.split, solved.sample) == ("general_points", 7, "train", 0)
    assert (solved.end, solved.reward, solved.error) == ("solved", 4.0, None)
    first, second = solved.turns
    assert (first.question_text, first.answer, first.images) == ("What `is` it?", "This", ("ab12",))
    assert (first.outcome, first.correct, first.reward, first.checks) == (
        "wrong_value",
        False,
        -1.0,
        {"readable": True},
    )
    assert (first.spans, first.finish, first.attempt) == ((("action", 0, 4),), "stop", 1)
    assert first.logprobs == (-0.5,) * 5
    assert first.tokens == ("T", "h", "i", "s", "")
    assert (second.policy_version, second.starts_new_context) == (4, False)
    assert (failed.end, failed.error, failed.turns) == ("failed", "Traceback …", ())
    assert (failed.suite, failed.arm) == ("", "")


def test_without_a_tokenizer_a_record_has_no_tokens(tmp_path: Path) -> None:
    append_episodes(tmp_path / "e.jsonl", [hand()], iteration=0, temperature=1.0)
    assert read_episodes(tmp_path / "e.jsonl")[0].turns[0].tokens == ()


texts = st.text(max_size=12) | st.just("half a pair: \ud83d")


@settings(max_examples=30)
@given(texts, texts, st.lists(st.floats(-9, 0, width=32), max_size=4), st.sampled_from([-1.5, 5.0]))
def test_whatever_was_said_is_read_again_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, question: str, answer: str, logprobs: list[float], reward: float
) -> None:
    path = tmp_path_factory.mktemp("log") / "e.jsonl"
    said = replace(
        right(reward=reward),
        question_text=question,
        answer=answer,
        sampled_logprobs=np.array(logprobs, np.float32),
    )
    append_episodes(path, [episode(said)] * 2, iteration=1, temperature=1.0)
    one, other = read_episodes(path)
    assert one == other
    assert (one.turns[0].question_text, one.turns[0].answer, one.reward) == (question, answer, reward)
    assert one.turns[0].logprobs == pytest.approx(logprobs, abs=1e-4)


def test_a_log_probability_that_is_no_number_stays_none(tmp_path: Path) -> None:
    said = replace(right(num_sampled=2), sampled_logprobs=np.array([-np.inf, -1.0], np.float32))
    append_episodes(tmp_path / "e.jsonl", [episode(said)], iteration=1, temperature=1.0)
    assert read_episodes(tmp_path / "e.jsonl")[0].turns[0].logprobs == (None, -1.0)


@pytest.mark.parametrize("row", [{"iteration": 1}, {"turns": 3}, {"turns": [{"spans": []}]}, {"turns": [], "bad": 1}])
def test_a_row_that_is_no_episode_is_named_with_its_line(row: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    append_episodes(path, [hand()], iteration=1, temperature=1.0)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(DamagedRecord, match=r"e\.jsonl, line 2: not the record of an episode"):
        read_episodes(path)


def test_a_torn_last_record_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    append_episodes(path, [hand(1), hand(2)], iteration=1, temperature=1.0)
    path.write_bytes(path.read_bytes()[:-40])
    assert [record.seed for record in read_episodes(path)] == [1]
