"""Demonstrations as the learner takes them: made here while that takes a moment, and then by Ray tasks on all cores.

    Demonstrating(env, verifier, chat)
      .made(data)            ⇢  Item, Item, …    those of `make_demonstrations`, in their order, whoever makes them
      .of_tasks(data, seeds) ⇢  those of these tasks that the demonstrator solves

Routes with pictures take a second each. The driver gets references and lengths; an episode stays where it was made.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from envs.catalog import shared_environment
from envs.protocol import EnvConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from learner.demonstrations.files import read_demonstrations
from learner.demonstrations.make import Tried, enough, to_episode, try_tasks
from learner.worker import Item
from rollout.episode import Episode
from rollout.traffic import total, traffic_of
from rollout.transcript import ChatTokens
from verifier.config import VerifierConfig

PATIENCE_SECONDS = 20.0
"""So long they are made here: as long as processes that load the libraries take to begin on few and busy cores."""
CHUNK = 16
"""How many tasks' demonstrations one Ray task makes."""

Attempt = tuple[Tried, Item | None]
"""How the demonstrator fared, and what the learner takes of it where he solved the task."""


@dataclass(frozen=True, slots=True)
class Demonstrating:
    """Makes demonstrations of one environment."""

    env: EnvConfig
    """What is asked."""
    verifier: VerifierConfig
    """How it is scored."""
    chat: ChatTokens
    """In whose tokens."""

    def made(self, data: DemonstrationConfig) -> Iterator[Item]:
        """All that the config says; DemonstrationError where they cannot be made."""
        if data.file is not None:
            yield from self._named([to_episode(each, self.chat) for each in read_demonstrations(Path(data.file))])
            return
        with closing(self._attempts(data, count(data.first_seed))) as attempts:
            yield from (item for item in enough(attempts, data) if item is not None)

    def of_tasks(self, data: DemonstrationConfig, seeds: Iterable[int]) -> Iterator[Item]:
        """Those that he solves."""
        with closing(self._attempts(data, seeds)) as attempts:
            yield from (item for _, item in attempts if item is not None)

    def _named(self, episodes: Sequence[Episode]) -> list[Item]:
        """A file may hold what no mixture asks; then each environment is a part."""
        items = [item_of(ray.put(episode), episode, self.chat) for episode in episodes]
        if len({episode.env for episode in episodes}) > 1 and not any(item.part for item in items):
            return [replace(item, part=episode.env) for item, episode in zip(items, episodes, strict=True)]
        return items

    def _attempts(self, data: DemonstrationConfig, seeds: Iterable[int]) -> Generator[Attempt]:
        """Task after task."""
        waiting, began = iter(seeds), time.monotonic()
        for tried, episode in self._episodes(data, waiting):
            yield tried, None if episode is None else item_of(ray.put(episode), episode, self.chat)
            if time.monotonic() - began > PATIENCE_SECONDS:
                break
        yield from self._by_tasks(data, waiting)

    def _by_tasks(self, data: DemonstrationConfig, waiting: Iterator[int]) -> Generator[Attempt]:
        """By as many Ray tasks at once as there are cores; they say in their order what they have made."""
        begun: deque[Any] = deque()
        # They ask Ray for none: a run has reserved all that there are, and uses none while it waits for these.
        remote = _made.options(num_cpus=0, num_returns="streaming", scheduling_strategy="SPREAD")
        room = max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while True:
                while len(begun) < room and (seeds := list(islice(waiting, CHUNK))):
                    begun.append(remote.remote(self, data, seeds))
                if not begun:
                    return
                yield from _heard(begun[0])
                begun.popleft()
        finally:
            for unneeded in begun:
                ray.cancel(unneeded)

    def _episodes(self, data: DemonstrationConfig, seeds: Iterable[int]) -> Iterator[tuple[Tried, Episode | None]]:
        for tried, demonstration in try_tasks(shared_environment(self.env, self.verifier), data, seeds):
            yield tried, to_episode(demonstration, self.chat) if tried.is_solved else None


def item_of(reference: Any, episode: Episode, chat: ChatTokens) -> Item:
    """A demonstration as the learner takes it."""
    num_tokens = total(traffic_of(episode, chat)).tokens
    return Item(episode=reference, num_tokens=num_tokens, group=0, part=episode.part, is_demonstration=True)


@ray.remote
def _made(by: Demonstrating, data: DemonstrationConfig, seeds: Sequence[int]) -> Iterator[Any]:
    """For each seed what was made of it, and behind it what there is to say of that."""
    for tried, episode in by._episodes(data, seeds):
        yield episode
        yield tried, None if episode is None else item_of(None, episode, by.chat)


def _heard(chunk: Any) -> Iterator[Attempt]:
    """With the references of the episodes, which are not fetched."""
    try:
        for reference in chunk:
            # What goes wrong comes in an episode's place, with nothing behind it.
            tried, item = ray.get(next(chunk, reference))
            yield tried, item and replace(item, episode=reference)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None
