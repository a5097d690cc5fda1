"""What many workers play, heard as one: no thread waits for any of them.

    streams = Streams(env, verifier, config)
    streams.open(worker, name, actor, tasks)    a call of its own; `worker` is whatever the caller knows it by
    streams.ended(seconds)                   →  [(worker, (Played, ObjectRef[Episode])), …] as episodes end

Episodes themselves are not fetched, and all summaries that have come are fetched at once. Asking who has something
takes longer the more there are, and is done the more seldom: what an episode costs the driver is the same for two
workers and for a thousand.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.play import Round, Task
from rollout.receivers import LOSSES, WorkerDied
from verifier.config import VerifierConfig

WorkerT = TypeVar("WorkerT", bound=Hashable)

NO_ROUNDS: Mapping[str, Round] = {}
PAUSE = 9.0
"""Times as long as it takes to ask all who has something, nobody is asked again."""
SHORT_SECONDS = 0.001
"""A pause that is not worth making."""


@dataclass(eq=False, slots=True)
class _Stream:
    """One call, and how far it has been heard."""

    worker: Any
    name: str
    num_tasks: int
    num_heard: int = 0
    episode: Any = None
    """The reference of an episode whose summary has not come."""


class Streams(Generic[WorkerT]):
    """All calls that play; use it from one thread."""

    def __init__(
        self,
        env: EnvConfig,
        verifier: VerifierConfig,
        config: RolloutConfig,
        rounds: Mapping[str, Round] = NO_ROUNDS,
    ) -> None:
        """Tasks of a round are asked what that says, others what these say."""
        self._asked = env, verifier
        self._played = config, rounds
        self._open: dict[Any, _Stream] = {}
        self._quiet_until = 0.0

    def __bool__(self) -> bool:
        """Whether any call has not ended."""
        return bool(self._open)

    def close(self) -> None:
        """Ask for no more: whoever still plays for nobody is free for what comes."""
        for call in self._open:
            ray.cancel(call)
        self._open = {}

    def open(self, worker: WorkerT, name: str, actor: Any, tasks: Sequence[Task]) -> None:
        """Have an actor play these too."""
        call = actor.play.options(num_returns="streaming")
        references = call.remote(*self._asked, tasks, *self._played)
        self._open[references] = _Stream(worker, name, len(tasks))

    def ended(self, seconds: float) -> list[tuple[WorkerT, Any]]:
        """What has ended, and of whom; nothing, where nothing has for so long or a call is over. What goes wrong comes
        in an episode's place and is the last of its call: WorkerDied, or what `play` raised."""
        whole: list[tuple[_Stream, Any, Any]] = []
        ready = self._ready(seconds)
        while ready:
            whole += [pair for references in ready if (pair := self._taken(references))]
            ready = _with_news([references for references in ready if references in self._open])
        return [(stream.worker, self._told(*pair)) for pair in _fetched(whole) if (stream := pair[0])]

    def _ready(self, seconds: float) -> list[Any]:
        """The calls that have something; waits for one."""
        pause = self._quiet_until - time.monotonic()
        if pause > SHORT_SECONDS:
            time.sleep(pause)
        began, calls = time.thread_time(), list(self._open)
        ready = _with_news(calls) or _with_news(calls, seconds)
        self._quiet_until = time.monotonic() + PAUSE * (time.thread_time() - began)
        return ready

    def _taken(self, references: Any) -> tuple[_Stream, Any, Any] | None:
        """The next of a call: its episode and its summary, if it makes a pair whole."""
        stream, reference = self._open[references], next(references, None)
        if reference is None:
            del self._open[references]
            # What `play` raises comes in an episode's place, with nothing behind it.
            return None if stream.episode is None else (stream, stream.episode, stream.episode)
        if stream.episode is None:
            stream.episode = reference
            return None
        # The summary comes behind its episode: where it is, the episode is whole and outlives the worker.
        episode, stream.episode = stream.episode, None
        return stream, episode, reference

    def _told(self, stream: _Stream, episode: Any, played: Any) -> Any:
        """The pair, or what went wrong, after which nothing of the call counts."""
        if not isinstance(played, Exception):
            stream.num_heard += 1
            return played, episode
        if not isinstance(played, LOSSES):
            return played
        died = WorkerDied(
            f"rollout worker {stream.name} died after {stream.num_heard} of {stream.num_tasks} episodes; its "
            f"unfinished tasks can be played again by another worker. Ray says: {played}"
        )
        died.__cause__ = played
        return died


def _with_news(calls: list[Any], seconds: float | None = None) -> list[Any]:
    """Those that have something now, or the first that has within so many seconds."""
    if not calls:
        return []
    most = len(calls) if seconds is None else 1
    return ray.wait(calls, num_returns=most, timeout=seconds or 0, fetch_local=False)[0]


def _fetched(whole: Sequence[tuple[_Stream, Any, Any]]) -> list[tuple[_Stream, Any, Any]]:
    """With the summaries, or the errors in their places, instead of their references."""
    try:
        found = ray.get([summary for _, _, summary in whole])
    except Exception:
        found = [_fetched_alone(summary) for _, _, summary in whole]
    return [(stream, episode, played) for (stream, episode, _), played in zip(whole, found, strict=True)]


def _fetched_alone(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except Exception as error:
        return error
