"""Lessons become tokens here: rows of token ids, and which of them are learned.

lesson_row(lesson, chat)  →  LessonRow, in the tokens that a rollout of the same dialogue would record
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from envs.lessons import Lesson
from rollout.transcript import ChatTokens

Learned = Literal["answers", "documents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonRow:
    """A dialogue as tokens: `LessonRow(token_ids=[5, 9, 4, 8, 2], is_learned=[0, 0, 0, 1, 1])`."""

    token_ids: npt.NDArray[np.int64]
    """What is shown and answered; one placeholder stands for each picture."""
    is_learned: npt.NDArray[np.bool_]
    """Which tokens are imitated: those of the learned answers, end token included; of documents, what is asked too."""
    images: tuple[Image, ...]
    """The pictures, in order."""


def lesson_row(lesson: Lesson, chat: ChatTokens, learned: Learned = "answers") -> LessonRow:
    """The lesson in the tokens of a chat template."""
    token_ids: list[int] = []
    is_learned: list[bool] = []
    for turn in lesson.turns:
        num_images = len(turn.images)
        if token_ids:
            shown = chat.follow_up(turn.question, num_images, after_end_token=True)
        else:
            shown = chat.opening(turn.question, num_images)
        answer = [*chat.tokenizer(turn.answer, add_special_tokens=False)["input_ids"], min(chat.end_token_ids)]
        token_ids += shown + answer
        is_learned += [learned == "documents" and token_id != chat.image_token_id for token_id in shown]
        is_learned += [turn.is_learned] * len(answer)
    is_learned[0] = False  # nothing stands before it
    return LessonRow(
        token_ids=np.array(token_ids, np.int64),
        is_learned=np.array(is_learned, np.bool_),
        images=tuple(image for turn in lesson.turns for image in turn.images),
    )
