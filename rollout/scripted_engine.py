"""An engine without a model: it says what a script says, through the same transcript as a policy.

ScriptedEngine(chat, expert)            the demonstrations that supervised fine-tuning learns from
ScriptedEngine(chat, Suboptimal(2))     two mistakes at each step with their verdicts, then the right answer
ScriptedEngine(chat, fixed("hm"))       the same words whatever is asked
"""

from collections.abc import Callable, Sequence
from random import Random

from envs.protocol import OpenEpisode, Question
from rollout.engine import Completion, EngineState, Prompt, Sampling
from rollout.episode import VersionSpan
from rollout.transcript import ChatTokens

Script = Callable[[Question, OpenEpisode], str]


def expert(question: Question, episode: OpenEpisode) -> str:
    """The demonstrator's answer."""
    return question.expert_answer


def fixed(text: str) -> Script:
    """The same answer to everything."""
    return lambda question, episode: text


class Suboptimal:
    """Errs a few times at each step, then answers right."""

    def __init__(self, num_mistakes: int, seed: int = 0) -> None:
        self._num_mistakes = num_mistakes
        self._seed = seed

    def __call__(self, question: Question, episode: OpenEpisode) -> str:
        """A mistake that depends on nothing but the seed and the question, or the right answer."""
        if question.attempt > self._num_mistakes:
            return question.expert_answer
        return episode.mistake(Random(f"{self._seed}/{question.step}/{question.attempt}/{question.text}"))


class ScriptedEngine:
    """Answers by script, with log-probability zero: what it says, it says for certain."""

    def __init__(self, chat: ChatTokens, script: Script) -> None:
        self._chat = chat
        self._script = script
        self._end_token_id = min(chat.end_token_ids)
        self.state = EngineState.READY

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """The script's answer, cut where the limit is."""
        if prompt.asked is None:
            raise ValueError("a script answers questions; this prompt holds tokens alone")
        answer = self._script(*prompt.asked)
        token_ids = [*self._chat.tokenizer(answer, add_special_tokens=False)["input_ids"], self._end_token_id]
        is_whole = len(token_ids) <= sampling.max_tokens
        token_ids = token_ids[: sampling.max_tokens]
        return Completion(
            token_ids=token_ids,
            logprobs=[0.0] * len(token_ids),
            finish="stop" if is_whole else "length",
            versions=(VersionSpan(0, 0, len(token_ids)),),
        )

    async def score(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """Certainty, here too."""
        return [[0.0] * (len(prompt.token_ids) - 1) for prompt in prompts]

    async def close(self) -> None:
        """There is nothing to release."""
