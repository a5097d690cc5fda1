"""A model at the keyboard: answers the questions of `ruleshift play` with a real engine."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from envs.protocol import OpenEpisode, Question
from rollout.config import RolloutConfig
from rollout.engine import Sampling
from rollout.transcript import ChatTokens, Transcript
from rollout.vllm_engine import VllmEngine


class ModelPlayer:
    """One engine, and the dialogue of the episode in play; a context manager, since the engine must be closed."""

    def __init__(self, model: Path, config: RolloutConfig) -> None:
        self._config = config
        self._chat = ChatTokens.load(model)
        self._transcript = Transcript(self._chat)
        self._loop = asyncio.new_event_loop()
        starting = VllmEngine.start(model, config.engine, forbidden_token_ids=self._chat.forbidden_token_ids)
        self._engine = self._loop.run_until_complete(starting)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._engine.close())
        self._loop.close()
        del self._engine  # vLLM's engine complains if it lives until Python takes its modules apart

    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        """The model's answer; None where the question no longer fits into its context."""
        if question.starts_new_context or (question.step, question.attempt) == (1, 1):
            self._transcript = Transcript(self._chat)
        delta = self._transcript.delta(question.text, len(question.images))
        prompt = self._transcript.show(delta, question, episode)
        if not self._transcript.has_room(self._config):
            return None
        sampling = Sampling(max_tokens=self._config.max_answer_tokens, temperature=self._config.temperature)
        completion = self._loop.run_until_complete(self._engine.generate(prompt, sampling))
        self._transcript.hear(completion)
        return self._chat.words(completion.token_ids)
