"""Lessons become tokens here: rows of token ids, and which of them are learned.

lesson_row(lesson, chat)  →  LessonRow, in the tokens that a rollout of the same dialogue would record
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from envs._cards.lessons import Lesson
from rollout.transcript import ChatTokens


@dataclass(frozen=True, slots=True)
class LessonRow:
    """A dialogue as tokens: `LessonRow(token_ids=[5, 9, 4, 8, 2], is_learned=[0, 0, 0, 1, 1])`."""

    token_ids: npt.NDArray[np.int32]
    """What is shown and answered."""
    is_learned: npt.NDArray[np.bool_]
    """Which tokens are imitated: those of the learned answers, end token included."""


def lesson_row(lesson: Lesson, chat: ChatTokens) -> LessonRow:
    """The lesson in the tokens of a chat template."""
    token_ids: list[int] = []
    is_learned: list[bool] = []
    for turn in lesson.turns:
        shown = chat.follow_up(turn.question, 0, after_end_token=True) if token_ids else chat.opening(turn.question, 0)
        answer = [*chat.tokenizer(turn.answer, add_special_tokens=False)["input_ids"], min(chat.end_token_ids)]
        token_ids += shown + answer
        is_learned += [False] * len(shown) + [turn.is_learned] * len(answer)
    return LessonRow(np.array(token_ids, np.int32), np.array(is_learned, np.bool_))
