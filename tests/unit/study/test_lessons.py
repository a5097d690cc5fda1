"""Lessons show only what they may, learn only what they should, and are the tokens of a rollout."""

import asyncio
import json
from collections import Counter
from functools import lru_cache
from random import Random
from typing import Any

from envs._cards.hands import hand_key, split_key
from envs.general_points import NAMED_RULES, Config
from envs.lessons import Lesson
from envs.lessons.general_points import Lessons, Teacher, mixed_up
from envs.protocol import OpenEpisode, Question
from envs.revision import RevisedQuestion
from learner.sequence import sequences_of
from rollout.config import EngineConfig, RolloutConfig
from rollout.episode import Episode
from rollout.play import Task, play_tasks
from rollout.scripted_engine import ScriptedEngine
from rollout.transcript import ChatTokens
from study.nano.lessons import lesson_row
from study.nano.tokenizer import build_nano_tokenizer
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand
from verifier.protocol import Verdict

ENV = Config(name="general_points", split_by="hand", validation_fraction=0.02, test_fraction=0.2)
RIGHT = Teacher(Lessons(answers="right"), ENV)
MIXED = Teacher(Lessons(answers="mixed"), ENV)
VERIFIER = EquationVerifier(VerifierConfig())


@lru_cache(maxsize=2)
def lessons(teacher: Teacher) -> tuple[Lesson, ...]:
    return tuple(teacher.lesson(str(number)) for number in range(600))


@lru_cache(maxsize=1)
def chat() -> ChatTokens:
    tokenizer: Any = build_nano_tokenizer()
    return ChatTokens(tokenizer, end_token_ids=[tokenizer.eos_token_id])


def verdicts(lesson: Lesson) -> list[Verdict]:
    return [VERIFIER.judge(turn.answer, lesson.reference) for turn in lesson.turns]


def is_plain(hand: Hand) -> bool:
    return bool(set(hand.labels) & {"11", "12", "13"})


def share(facts: list[bool]) -> float:
    return sum(facts) / len(facts)


def test_no_lesson_makes_24_of_held_out_cards_or_numbers() -> None:
    """Worked out from the labels: a plain 11 stands for a jack, which counts 10 in training."""
    num_checked = Counter()
    for teacher in (RIGHT, MIXED):
        hands: list[Hand] = [lesson.reference for lesson in lessons(teacher) if lesson.reference.target == 24]
        for hand in hands:
            ranks = tuple({"11": "J", "12": "Q", "13": "K"}.get(label, label) for label in hand.labels)
            assert ENV.admits(split_key(NAMED_RULES["ten"].numbers(ranks)), "train")
            if set(ranks) & set("JQK") and not is_plain(hand):
                assert ENV.admits(hand_key(ranks), "train")
            num_checked[is_plain(hand)] += 1
    assert min(num_checked[True], num_checked[False]) > 100


def test_other_targets_are_made_of_any_hand() -> None:
    others = [lesson.reference for lesson in lessons(RIGHT) if lesson.reference.target != 24]
    held_out = [not ENV.admits(hand_key(hand.labels), "train") for hand in others if not is_plain(hand)]
    assert 0.3 < len(others) / len(lessons(RIGHT)) < 0.5
    assert share(held_out) > 0.1


def test_both_rules_and_plain_hands_are_dealt_as_often_as_stated() -> None:
    asked = [lesson.turns[0].question for lesson in lessons(RIGHT)]
    assert 0.44 < share(["J counts 11, Q counts 12 and K counts 13" in text for text in asked]) < 0.56
    # Of plain hands, some hold no number above 10.
    assert 0.15 < share([is_plain(lesson.reference) for lesson in lessons(RIGHT)]) < 0.35
    assert not any(
        is_plain(lesson.reference) and set(lesson.reference.labels) & set("JQK") for lesson in lessons(RIGHT)
    )


def test_where_answers_are_right_only_the_last_is_learned_and_it_is_right() -> None:
    for lesson in lessons(RIGHT):
        assert [turn.is_learned for turn in lesson.turns] == [False] * (len(lesson.turns) - 1) + [True]
        assert [verdict.correct for verdict in verdicts(lesson)] == [turn.is_learned for turn in lesson.turns]
    assert 0.18 < share([len(lesson.turns) > 1 for lesson in lessons(RIGHT)]) < 0.32


def test_where_answers_are_mixed_all_are_learned_and_a_right_one_ends_the_lesson() -> None:
    first = [verdicts(lesson)[0].correct for lesson in lessons(MIXED)]
    for lesson in lessons(MIXED):
        assert all(turn.is_learned for turn in lesson.turns)
        assert not any(verdict.correct for verdict in verdicts(lesson)[:-1])
    # Two in five, and now and then a random formula that is right.
    assert 0.34 < share(first) < 0.5


def test_wrong_answers_are_of_the_stated_mix_and_read_the_hand_right() -> None:
    generator = Random(1)
    hand = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 13, 4), target=24)
    judged = [VERIFIER.judge(mixed_up(hand, generator), hand) for _ in range(1500)]
    outcomes = Counter(verdict.outcome for verdict in judged)
    assert all(verdict.checks["numbers_read"] for verdict in judged)
    # A gap may leave a formula that lacks a number, and a wrong number may be the right one by chance.
    assert 0.66 < (outcomes["wrong_value"] + outcomes["correct"]) / 1500 < 0.76
    assert 0.16 < outcomes["wrong_numbers"] / 1500 < 0.26
    assert 0.05 < outcomes["illegal_formula"] / 1500 < 0.12


def test_what_misreads_a_number_is_shown_and_never_learned() -> None:
    shown: list[bool] = []
    for answers in ("right", "mixed"):
        config = Lessons(answers=answers, revised_fraction=0.5, misread_fraction=0.5, max_turns=6)
        for lesson in lessons(Teacher(config, ENV)):
            for turn, verdict in zip(lesson.turns, verdicts(lesson), strict=True):
                assert turn.is_learned == (verdict.correct if answers == "right" else verdict.checks["numbers_read"])
                if not verdict.correct and turn is not lesson.turns[-1]:
                    shown.append(verdict.checks["numbers_read"])
            assert lesson.turns[-1].is_learned
    assert len(shown) > 500
    # A right answer by chance leaves out a few of the wrong ones that read rightly.
    assert 0.44 < share(shown) < 0.54


def test_a_misread_number_is_one_of_the_hand_and_the_formula_counts_with_it() -> None:
    generator = Random(2)
    hand = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 13, 4), target=24)
    judged = [VERIFIER.judge(mixed_up(hand, generator, misreads=True), hand) for _ in range(500)]
    assert not any(verdict.checks["numbers_read"] for verdict in judged)
    assert share([verdict.outcome in ("wrong_numbers", "illegal_formula") for verdict in judged]) > 0.95
    for _ in range(100):
        read = json.loads(mixed_up(hand, generator, misreads=True))["number"]
        assert sum(number != right for number, right in zip(read, hand.numbers, strict=True)) == 1


def test_the_seed_decides_the_lesson() -> None:
    again = Teacher(Lessons(answers="mixed"), ENV)
    assert [again.lesson(str(seed)) for seed in reversed(range(40))] == list(reversed(lessons(MIXED)[:40]))
    assert len({lesson.turns[0].question for lesson in lessons(MIXED)}) > 500


def test_a_row_learns_exactly_the_learned_answers() -> None:
    for lesson in (*lessons(RIGHT)[:80], *lessons(MIXED)[:80]):
        row = lesson_row(lesson, chat())
        learned = chat().tokenizer.decode(row.token_ids[row.is_learned])
        assert learned == "".join(turn.answer + "<end>" for turn in lesson.turns if turn.is_learned)
        assert json.loads(lesson.turns[-1].answer.split("<end>")[0])["cards"] == list(lesson.reference.labels)


def test_a_row_is_what_a_rollout_of_the_same_dialogue_records() -> None:
    for lesson in lessons(MIXED)[:30]:
        episode = asyncio.run(_replay(lesson))
        (sequence,) = sequences_of(episode, chat())
        row = lesson_row(lesson, chat())
        assert sequence.token_ids.tolist() == row.token_ids.tolist()
        assert sequence.is_sampled.tolist() == row.is_learned.tolist()


class _OneHand:
    """An environment whose only task is that of a lesson."""

    def __init__(self, lesson: Lesson) -> None:
        self.config, self.verifier, self._lesson = ENV, VERIFIER, lesson

    def open(self, seed: int, split: Any) -> OpenEpisode:
        question = Question(text=self._lesson.turns[0].question, reference=self._lesson.reference, expert_answer="")
        num_turns = len(self._lesson.turns)
        return RevisedQuestion(question, VERIFIER, max_attempts=num_turns, draw_mistake=lambda generator: "")


async def _replay(lesson: Lesson) -> Episode:
    """What is recorded when a script gives the lesson's answers."""
    config = RolloutConfig(max_answer_tokens=60, engine=EngineConfig(max_context_tokens=1000))
    engine = ScriptedEngine(chat(), lambda question, episode: lesson.turns[question.attempt - 1].answer)
    tasks = [Task(seed=0, split="train")]
    (episode,) = [each async for each in play_tasks(_OneHand(lesson), engine, chat(), tasks, config)]
    return episode
