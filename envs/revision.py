"""An episode that is one question, asked again with the verdict until it is answered or the attempts are used up."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from envs.protocol import Question, first_wrong
from verifier.protocol import Verdict, Verifier

RETRY = "That attempt failed. {feedback} Answer again in the same format."


def asked_again(words: str, feedback: str) -> str:
    """The request to try again, as `RETRY`; where nothing is said of the attempt, without a place for it."""
    return words.format(feedback=feedback) if feedback else words.replace("{feedback} ", "")


class RevisedQuestion:
    """One question, up to `max_attempts` tries."""

    def __init__(
        self,
        question: Question,
        verifier: Verifier[Any],
        *,
        max_attempts: int,
        draw_mistake: Callable[[Random], str],
        unscored_last_attempt: bool = False,
    ) -> None:
        self._question = question
        self._verifier = verifier
        self._max_attempts = max_attempts
        self._draw_mistake = draw_mistake
        self._unscored_last_attempt = unscored_last_attempt
        self._attempt = 1
        self.solved = False

    def first_question(self) -> Question:
        """The question itself."""
        return self._question

    def next_question(self, answer: str, verdict: Verdict) -> Question | None:
        """The verdict and the request to try again."""
        self.solved = verdict.correct
        self._attempt += 1
        is_scored = self._attempt <= self._max_attempts
        asks_unscored = self._unscored_last_attempt and self._attempt == self._max_attempts + 1
        if verdict.correct or not (is_scored or asks_unscored):
            return None
        reference = self._question.reference
        return replace(
            self._question,
            text=asked_again(RETRY, verdict.feedback),
            images=(),
            reference=reference if is_scored else replace(reference, scored=False),
            attempt=self._attempt,
        )

    def mistake(self, generator: Random) -> str:
        """A drawn mistake that the verifier really calls wrong."""
        return first_wrong(
            lambda: self._draw_mistake(generator),
            lambda answer: not self._verifier.judge(answer, self._question.reference).correct,
        )
