"""Whether those who work still answer: a cheap question to each of them, on a schedule.

    Health(timeout_seconds, say).watch(Watched(name, actor, died))
      .ask(actors)       now, before they are needed: those that do not answer are given up
      .forget(actor)

Ray tells of a process that has ended. Of one that hangs nobody tells, and whoever needs it would wait for good.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.record.ticking import SECONDS_BETWEEN_TICKS, Ticking
from cluster.stopping import wait
from learner.worker import HEALTH
from rollout.receivers import DEATHS, transfer_seconds
from rollout.sign import Sign

SECONDS_BETWEEN_QUESTIONS = 5.0


@dataclass(eq=False, slots=True)
class Watched:
    """Somebody who is asked."""

    name: str
    actor: Any
    died: Callable[[str], None]
    """Told once why it is given up; from the thread that asks."""
    doubted: Callable[[bool], None] = lambda is_late: None
    """Told that an answer is late, and that it has come after all."""
    group: str | None = HEALTH
    """Ray's group of calls in which it answers."""
    num_bytes: int = 0
    """What it moves in its long phases."""
    call: Any = None
    asked: float = 0.0
    heard: float = 0.0
    sign: Sign | None = None
    is_doubted: bool = False

    def ask(self) -> Any:
        """The call of a question."""
        return (
            self.actor.alive.options(concurrency_group=self.group).remote() if self.group else self.actor.alive.remote()
        )

    def last_heard(self, now: float) -> str:
        """For errors."""
        if self.sign is None:
            return "it has never answered"
        return f"last heard {now - self.heard:.0f} s ago: {self.sign}"


class Health:
    """Asks everybody who is under watch, in a thread of its own."""

    def __init__(self, timeout_seconds: float, say: Callable[[str], None]) -> None:
        """Who has not answered after `timeout_seconds` is given up."""
        self._timeout_seconds, self._say = timeout_seconds, say
        self._watched: dict[Any, Watched] = {}
        self._changing = Lock()
        self._looked = time.monotonic()
        self._ticking = Ticking(self._look)

    def watch(self, watched: Watched) -> None:
        """Ask from now on."""
        with self._changing:
            watched.heard = time.monotonic()
            self._watched[watched.actor] = watched

    def last_heard(self, actor: Any) -> str:
        """What an actor said last, and when; nothing of one that is not under watch or has said nothing."""
        with self._changing:
            watched = self._watched.get(actor)
        return watched.last_heard(time.monotonic()) if watched and watched.sign else ""

    def forget(self, actor: Any) -> None:
        """Ask no more."""
        with self._changing:
            self._watched.pop(actor, None)

    def close(self) -> None:
        """Ask nobody any more."""
        self._ticking.stop()

    def ask(self, actors: Iterable[Any]) -> None:
        """Ask these now, all at once, and wait; those that do not answer in time are given up when this returns."""
        with self._changing:
            asked = {watched.ask(): watched for actor in actors if (watched := self._watched.get(actor))}
        late, ends, back = list(asked), time.monotonic() + self._timeout_seconds, list[Watched]()
        while late and (left := ends - time.monotonic()) > 0:
            answered, late = wait(late, left)
            for call in answered:
                self._hear(asked[call], call, back)
        self._tell([], back, time.monotonic())
        for call in late:
            self._give_up(asked[call], f"has not answered for {self._timeout_seconds:.0f} s")

    def _look(self) -> None:
        now = time.monotonic()
        # A driver that stood still, or a machine, has heard nobody meanwhile.
        stood_still = max(0.0, now - self._looked - 2 * SECONDS_BETWEEN_TICKS)
        with self._changing:
            everybody = list(self._watched.values())
        calls = [watched.call for watched in everybody if watched.call is not None]
        answered = set(ray.wait(calls, num_returns=len(calls), timeout=0)[0]) if calls else set()
        late, back = list[Watched](), list[Watched]()
        for watched in everybody:
            watched.asked += stood_still if watched.call is not None else 0.0
            if watched.call in answered:
                call, watched.call = watched.call, None
                self._hear(watched, call, back)
            else:
                self._look_at(watched, now, late)
        self._tell(late, back, now)
        self._looked = time.monotonic()

    def _look_at(self, watched: Watched, now: float, late: list[Watched]) -> None:
        silent = now - watched.asked
        if watched.call is None:
            if silent >= SECONDS_BETWEEN_QUESTIONS:
                watched.call, watched.asked = watched.ask(), now
        elif silent > self._timeout_seconds:
            self._give_up(watched, f"has not answered for {silent:.0f} s")
        elif silent > self._timeout_seconds / 2 and not watched.is_doubted:
            watched.is_doubted = True
            late.append(watched)
            watched.doubted(True)

    def _tell(self, late: Sequence[Watched], back: Sequence[Watched], now: float) -> None:
        """Who is late and who is back, a line for all that are so at once: they may be a thousand."""
        if late:
            verb, which = ("has", "") if len(late) == 1 else ("have", "of the first: ")
            told = f"{now - late[0].asked:.0f} s; {which}{late[0].last_heard(now)}"
            self._say(f"{_named(late)} {verb} not answered for {told}")
        if back:
            self._say(f"{_named(back)} {'answers' if len(back) == 1 else 'answer'} again")

    def _hear(self, watched: Watched, call: Any, back: list[Watched]) -> None:
        try:
            sign: Any = ray.get(call)
        except (*DEATHS, RayTaskError) as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            self._give_up(watched, f"is dead: {cause}")
            return
        watched.sign, watched.heard = sign, time.monotonic()
        if watched.is_doubted:
            watched.is_doubted = False
            back.append(watched)
            watched.doubted(False)
        # The sender's own time comes first: it knows who is late, and engines wait for each other in some phases.
        allowed = self._timeout_seconds + transfer_seconds(watched.num_bytes)
        if sign.is_long and sign.seconds > allowed:
            self._give_up(watched, f"has been at '{sign.phase}' for more than {allowed:.0f} s")

    def _give_up(self, watched: Watched, why: str) -> None:
        with self._changing:
            if self._watched.get(watched.actor) is not watched:
                return
            del self._watched[watched.actor]
        first, *rest = why.splitlines()
        first = f"{watched.name} {first.rstrip('. ')}; {watched.last_heard(time.monotonic())}"
        watched.died("\n".join([first, *rest]))


def _named(several: Sequence[Watched]) -> str:
    others = len(several) - 1
    return several[0].name + (f" and {others} other{'s' if others > 1 else ''}" if others else "")
