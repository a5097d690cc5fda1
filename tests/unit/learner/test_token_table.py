"""Episodes become sequences, and sequences the columns that an update reads."""

import dataclasses

import numpy as np
import pytest

from learner.config import LearnerConfig
from learner.loss_config import LossConfig, SftConfig
from learner.sequence import ACTION, FORMAT, REASONING, RECOGNITION, FailedEpisode, TrainingSequence, sequences_of
from learner.token_table import TokenTable
from rollout.episode import EpisodeEnd
from rollout.scripted_engine import ScriptedEngine, Suboptimal, expert
from tests.support.chat import chat_tokens
from tests.support.episodes import episode, right, wrong
from tests.support.sequences import play

CHAT = chat_tokens()


def test_an_episode_is_one_row() -> None:
    played = episode(wrong(reward=-1, num_shown=3, num_sampled=5), right(attempt=2, num_shown=2, num_sampled=5))
    [sequence] = sequences_of(played, CHAT)
    assert sequence.is_sampled.tolist() == [False] * 3 + [True] * 5 + [False] * 2 + [True] * 5
    assert sequence.token_ids.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4]
    assert sequence.turns.tolist() == [-1] * 3 + [0] * 5 + [-1] * 2 + [1] * 5
    assert sequence.rewards.tolist() == [0] * 7 + [-1] + [0] * 6 + [5]
    assert set(sequence.versions[sequence.is_sampled]) == {0}
    assert not sequence.is_truncated


def test_contexts_come_apart_and_only_the_last_is_truncated() -> None:
    played = episode(right(), right(step=2), wrong(step=3), end=EpisodeEnd.OUT_OF_TOKENS)
    sequences = sequences_of(played, CHAT)
    assert [sequence.context for sequence in sequences] == [0, 1, 2]
    assert [sequence.is_truncated for sequence in sequences] == [False, False, True]
    assert [sequence.turns.max() for sequence in sequences] == [0, 1, 2]


def test_nothing_learns_from_a_failed_episode() -> None:
    with pytest.raises(FailedEpisode, match="general_points/train/7 failed"):
        sequences_of(episode(right(), end=EpisodeEnd.FAILED, seed=7), CHAT)


def labelled(env: str) -> dict[int, str]:
    """For each label, the text of the tokens that bear it, in a demonstration."""
    [played] = play(CHAT, ScriptedEngine(CHAT, expert), [3], env)
    sequence = sequences_of(played, CHAT)[0]
    first = sequence.turns == 0
    return {
        label: CHAT.tokenizer.decode(sequence.token_ids[first & (sequence.labels == label)])
        for label in (FORMAT, RECOGNITION, REASONING, ACTION)
    }


def test_labels_follow_the_parsed_spans() -> None:
    hand = labelled("general_points")
    assert "=24" in hand[ACTION].replace(" ", "")
    assert "cards" not in hand[RECOGNITION]
    assert "cards" in hand[FORMAT]
    route = labelled("route_navigation")
    assert "(" in route[ACTION]
    assert "landmark" in route[RECOGNITION]


def sequence_with(labels: list[int], turns: list[int], *, is_demonstration: bool = True) -> TrainingSequence:
    [base] = sequences_of(episode(right(num_shown=1, num_sampled=len(labels))), CHAT)
    return dataclasses.replace(
        base,
        labels=np.array([0, *labels], np.int8),
        turns=np.array([-1, *turns], np.int32),
        is_demonstration=is_demonstration,
    )


def test_weights_by_label() -> None:
    config = LearnerConfig(sft=SftConfig(span_weights={"recognition": 4, "format": 0.5}))
    table = TokenTable.of([sequence_with([FORMAT, RECOGNITION, ACTION], [0, 0, 0])], config)
    assert table.imitation_weights.tolist() == [0.5, 4, 1]


def test_equal_mass_for_every_part_of_an_answer() -> None:
    config = LearnerConfig(sft=SftConfig(equal_span_mass=True))
    labels = [FORMAT, FORMAT, FORMAT, ACTION, RECOGNITION, RECOGNITION]
    weights = TokenTable.of([sequence_with(labels, [0] * 6)], config).imitation_weights
    assert weights.tolist() == pytest.approx([2 / 3] * 3 + [2] + [1, 1])
    assert weights.sum() == pytest.approx(6)


def test_what_is_reinforced_is_not_imitated() -> None:
    played = sequence_with([ACTION], [0], is_demonstration=False)
    assert TokenTable.of([played], LearnerConfig()).imitation_weights.tolist() == [0]


def test_reasoning_weighs_less_until_the_action() -> None:
    config = LearnerConfig(loss=LossConfig(reasoning_weight=0.5))
    labels = [FORMAT, REASONING, ACTION, FORMAT, FORMAT, REASONING]
    table = TokenTable.of([sequence_with(labels, [0, 0, 0, 0, 2, 2])], config)
    assert table.ratio_weights.tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5]
    assert table.answers.tolist() == [0, 0, 0, 0, 1, 1]


def test_episodes_and_answers_are_numbered_over_all_sequences() -> None:
    played = play(CHAT, ScriptedEngine(CHAT, Suboptimal(1)), [1, 2], "add_up")
    table = TokenTable.of([each for one in played for each in sequences_of(one, CHAT)], LearnerConfig())
    assert sorted(set(table.episodes.tolist())) == [0, 1]
    assert sorted(set(table.answers.tolist())) == [0, 1, 2, 3]
    assert len(TokenTable.of([], LearnerConfig()).rewards) == 0
