"""Plays episodes: many at once, each handed out as it ends.

    play_tasks(env, engine, chat, tasks, config)  ⇢  Episode, Episode, …      (an asynchronous iterator)
    play_rounds(ways, engine, chat, tasks, …)     ⇢  (Task, Episode), …       of several environments at once

    one episode:   question ─▶ tokens ─▶ engine ─▶ tokens ─▶ words ─▶ verdict ─▶ next question ─▶ tokens, or the end
                   └ environment thread ┘└ event loop ┘└─────────── environment thread ────────────────┘

Environments and verifiers run in threads of their own, so that a slow one holds up its own episode and nothing else.
What they raise is caught here and becomes the episode's end; what the engine raises is not an episode's affair and
reaches the caller.
"""

import asyncio
import hashlib
import io
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random
from typing import Any, TypeVar

import numpy as np
from PIL.Image import Image

from envs.mixture import part_of
from envs.protocol import Env, EnvConfig, OpenEpisode, Question, Split
from rollout.config import RolloutConfig
from rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from rollout.episode import Episode, EpisodeEnd, Turn
from rollout.noise import judged
from rollout.transcript import ChatTokens, Transcript
from verifier.config import VerifierConfig
from verifier.protocol import Verdict

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Which episode to play: `Task(seed=7, split="train", sample=1)` is the second play of hand 7."""

    seed: int
    split: Split = "train"
    sample: int = 0
    draw: str | None = None
    """Makes what is drawn repeatable: plays of a task with equal weights and an equal `draw` are equal."""
    round: str = ""
    """Which of the rounds that are played at once it is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What tasks of one kind are asked, where several kinds are played at once."""

    env: EnvConfig
    """The environment."""
    verifier: VerifierConfig
    """How answers are scored."""
    temperature: float
    """At which they are drawn."""


@dataclass(frozen=True, slots=True)
class Way:
    """How tasks of one kind are played."""

    env: Env
    """Who asks."""
    temperature: float
    """At which answers are drawn."""
    noise: float = 0.0
    """With which chance they are judged the other way round."""


class _EnvironmentFailed(Exception):
    """The environment or the verifier raised; the cause is what it raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question, and what the engine gets for it."""

    question: Question
    shown_token_ids: list[int]
    images: tuple[str, ...]
    starts_new_context: bool
    prompt: Prompt
    has_room: bool


@dataclass(slots=True)
class _Play:
    """An episode while it is played."""

    task: Task
    transcript: Transcript
    started: float = field(default_factory=time.monotonic)
    turns: list[Turn] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def turn(self) -> str:
        """Names what is answered now, in this play and no other."""
        task = self.task
        return f"{task.draw}/{task.split}/{task.seed}/{task.sample}/{len(self.turns)}"

    def ended(self, env: Env, end: EpisodeEnd, error: str | None = None) -> Episode:
        part, asks = part_of(env, self.task.seed)
        return Episode(
            env=asks.config.name,
            part=part,
            seed=self.task.seed,
            split=self.task.split,
            sample=self.task.sample,
            turns=tuple(self.turns),
            pictures=dict(self.pictures),  # of an episode out of time, a thread may still be adding to them
            end=end,
            error=error,
            seconds=time.monotonic() - self.started,
        )


async def play_tasks(
    env: Env, engine: RolloutEngine, chat: ChatTokens, tasks: Iterable[Task], config: RolloutConfig
) -> AsyncIterator[Episode]:
    """Every task once, in the order in which they end; at most `episodes_in_flight` at a time."""
    ways = {"": Way(env, config.temperature)}
    async with aclosing(play_rounds(ways, engine, chat, (replace(task, round="") for task in tasks), config)) as played:
        async for _, episode in played:
            yield episode


async def play_rounds(
    ways: Mapping[str, Way],
    engine: RolloutEngine,
    chat: ChatTokens,
    tasks: Iterable[Task],
    config: RolloutConfig,
) -> AsyncGenerator[tuple[Task, Episode]]:
    """The same, each task with its episode: `ways` has for each round how it is played."""
    waiting = iter(tasks)
    threads = ThreadPoolExecutor(config.environment_threads, thread_name_prefix="environment")
    players = {
        name: _Player(way, engine, chat, config.model_copy(update={"temperature": way.temperature}), threads)
        for name, way in ways.items()
    }
    playing: set[asyncio.Task[tuple[Task, Episode]]] = set()
    try:
        while True:
            free = config.episodes_in_flight - len(playing)
            playing |= {asyncio.create_task(players[task.round].play(task)) for task in islice(waiting, free)}
            if not playing:
                return
            done, playing = await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                yield finished.result()
    finally:
        for unfinished in playing:
            unfinished.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        # A thread that hangs in an environment cannot be stopped; it must not hold up the rest.
        threads.shutdown(wait=False, cancel_futures=True)


class _Player:
    """What all episodes of one round share."""

    def __init__(
        self, way: Way, engine: RolloutEngine, chat: ChatTokens, config: RolloutConfig, threads: Executor
    ) -> None:
        self._env, self._noise = way.env, way.noise
        self._engine, self._chat, self._config, self._threads = engine, chat, config, threads

    async def play(self, task: Task) -> tuple[Task, Episode]:
        """One episode, whatever becomes of it."""
        return task, await self._episode(_Play(task, Transcript(self._chat)))

    async def _episode(self, play: _Play) -> Episode:
        try:
            async with asyncio.timeout(self._config.episode_timeout_seconds):
                return play.ended(self._env, await self._turns(play))
        except TimeoutError:
            return play.ended(self._env, EpisodeEnd.OUT_OF_TIME)
        except _EnvironmentFailed as failure:
            error = "".join(traceback.format_exception(failure.__cause__))
            return play.ended(self._env, EpisodeEnd.FAILED, error)

    async def _turns(self, play: _Play) -> EpisodeEnd:
        """Turn after turn, recorded in `play`, until there is an end."""
        episode, asked = await self._aside(self._open, play)
        while asked is not None:
            if not asked.has_room:
                return EpisodeEnd.OUT_OF_TOKENS
            completion = await self._engine.generate(asked.prompt, self._sampling(play))
            asked = await self._aside(self._judge, play, episode, asked, completion)
        return EpisodeEnd.SOLVED if episode.solved else EpisodeEnd.OUT_OF_ATTEMPTS

    def _sampling(self, play: _Play) -> Sampling:
        seed = None
        if play.task.draw is not None:
            seed = int.from_bytes(hashlib.sha256(play.turn.encode()).digest()[:7])
        return Sampling(max_tokens=self._config.max_answer_tokens, temperature=self._config.temperature, seed=seed)

    async def _aside(self, call: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Run what may be slow, or raise, off the event loop."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        except Exception as error:
            raise _EnvironmentFailed from error

    def _open(self, play: _Play) -> tuple[OpenEpisode, _Asked]:
        episode = self._env.open(play.task.seed, play.task.split)
        return episode, self._ask(play, episode, episode.first_question())

    def _ask(self, play: _Play, episode: OpenEpisode, question: Question) -> _Asked:
        starts_new_context = question.starts_new_context or not play.turns
        if starts_new_context:
            play.transcript = Transcript(self._chat)
        images = tuple(_keep(image, play.pictures) for image in question.images)
        shown_token_ids = play.transcript.delta(question.text, len(images))
        return _Asked(
            question=question,
            shown_token_ids=shown_token_ids,
            images=images,
            starts_new_context=starts_new_context,
            prompt=play.transcript.show(shown_token_ids, question, episode, images),
            has_room=play.transcript.has_room(self._config),
        )

    def _judge(self, play: _Play, episode: OpenEpisode, asked: _Asked, completion: Completion) -> _Asked | None:
        """Record the turn; the next question goes along, since every hop between threads costs."""
        play.transcript.hear(completion)
        answer = self._chat.words(completion.token_ids)
        verifier = self._env.verifier
        verdict = verifier.judge(answer, asked.question.reference)
        if self._noise:
            verdict = judged(verdict, self._noise, Random(f"noise/{play.turn}"), verifier, asked.question, episode)
        following = episode.next_question(answer, verdict)
        play.turns.append(_turn(asked, completion, answer, verdict))
        return None if following is None else self._ask(play, episode, following)


def _keep(image: Image, pictures: dict[str, bytes]) -> str:
    """The picture's digest; its bytes are kept once however often it is shown."""
    content = io.BytesIO()
    image.save(content, format="PNG", compress_level=1)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    pictures.setdefault(digest, content.getvalue())
    return digest


def _turn(asked: _Asked, completion: Completion, answer: str, verdict: Verdict) -> Turn:
    return Turn(
        shown_token_ids=np.array(asked.shown_token_ids, dtype=np.int32),
        sampled_token_ids=np.array(completion.token_ids, dtype=np.int32),
        sampled_logprobs=np.array(completion.logprobs, dtype=np.float32),
        policy_versions=completion.versions,
        finish=completion.finish,
        starts_new_context=asked.starts_new_context,
        question_text=asked.question.text,
        images=asked.images,
        answer=answer,
        verdict=verdict,
        step=asked.question.step,
        attempt=asked.question.attempt,
    )
