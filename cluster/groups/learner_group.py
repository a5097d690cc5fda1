"""All ranks of the learner as one: what the driver speaks to.

LearnerGroup.start(config, temperature)
  .update(items)                 →  UpdateReport, or EpisodesLost
  .send_weights(workers, …)      →  SyncReport
  .rest(), .work()                  leave the GPUs to the rollout workers, take them back
  .save / .written / .restore / .export
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayTaskError

from cluster.errors import RunError
from cluster.groups.crew import Crew, Left, end, shape_of
from cluster.groups.dealing import deal
from cluster.groups.health import Health, Watched
from cluster.groups.whereabouts import end_of_log, named, where
from cluster.stopping import wait
from learner.batch import balance
from learner.checkpoint_files import Written
from learner.config import LearnerConfig
from learner.learner import UpdateReport
from learner.model_size import ModelSize
from learner.worker import HEALTH, Item, start_rank
from rollout.engine import Prompt
from rollout.receivers import DEATHS, Receivers
from rollout.traffic import Traffic
from rollout.weight_transfer import Place, SyncReport, shares

SURE_SECONDS = 60.0
"""How long it may take until Ray tells that a host is gone; a rank that is there answers at once."""


class LearnerDied(RunError):
    """A rank's process ended, or did not answer in time: all ranks have to be started again from a checkpoint."""


class EpisodesLost(RunError):
    """Episodes were on a host that is no more; nothing was learned of the others yet."""

    def __init__(self, episodes: Sequence[Any]) -> None:
        super().__init__(
            f"{len(episodes)} episodes are nowhere any more: the host that had them is gone. Nothing was learned of "
            "the others; go on with --resume"
        )
        self.episodes = episodes
        """Their references."""


class LearnerGroup:
    """Handles of all ranks; every call goes to all of them at once."""

    def __init__(
        self, ranks: Sequence[Any], config: LearnerConfig, timeout_seconds: float, health: Health | None = None
    ) -> None:
        """Use `start`."""
        self._health = health
        self._silent: dict[int, str] = {}
        self._ranks, self._config, self._timeout_seconds = list(ranks), config, timeout_seconds
        self.size = ModelSize(parameters=0)
        self._places: list[Place] = []
        self._names: list[str] = []
        # All ranks get their calls in one order, whichever thread makes them, or they would wait for each other.
        self._submitting = Lock()

    @classmethod
    def start(
        cls,
        config: LearnerConfig,
        temperature: float,
        *,
        resources: Callable[[int], Mapping[str, Any]] = lambda rank: {"num_cpus": 0},
        threads: int = 1,
        timeout_seconds: float = 1800.0,
        start_seconds: float = 1800.0,
        prefix: str = "learner",
        health: Health | None = None,
        launch: Callable[..., Any] = start_rank,
        crew: Crew | None = None,
    ) -> "LearnerGroup":
        """Start all ranks, or go on with those that a run before has left; `resources` gives Ray's options for each,
        `threads` is how many cores each may use."""
        group = cls([], config, timeout_seconds, health)
        ranks, names = group._ranks, [f"{prefix}-rank-{rank}" for rank in range(config.num_ranks)]
        left = group._left(crew, temperature)
        try:
            ranks += [each.actor for each in left]
            names[: len(left)] = [each.name for each in left]
            for rank in range(len(ranks), config.num_ranks):
                ranks.append(launch(names[rank], rank, config, temperature, **resources(rank)))
            address = group._wait("meeting", [ranks[0].meet.remote()], start_seconds)[0]
            calls = [rank.start.remote(address, threads, timeout_seconds) for rank in ranks]
            group.size = group._wait("starting", calls, start_seconds)[0]
            group._places = group._all("place")
        except BaseException as error:
            group.close()
            if left and isinstance(error, Exception):  # it may be for what is left of a policy before
                raise LearnerDied(f"learner ranks that a run before had left did not start: {error}") from error
            raise
        group._names = names
        for number, rank in enumerate(ranks):
            if health is not None:
                health.watch(Watched(names[number], rank, partial(group._is_silent, number)))
        return group

    def _left(self, crew: Crew | None, temperature: float) -> Sequence[Left]:
        if crew is None:
            return ()
        return crew.take("learner", self._fits, lambda rank: rank.prepare.remote(self._config, temperature))

    def _fits(self) -> Hashable:
        config = self._config
        shared = config.deepspeed.model_dump_json(), config.dtype, config.num_ranks, config.kernels
        return *shared, self._timeout_seconds, shape_of(Path(config.model or ""))

    def _is_silent(self, number: int, why: str) -> None:
        """End a rank that gives no sign of life, so that whoever waits for it hears of that."""
        self._silent[number] = why
        ray.kill(self._ranks[number])

    def update(self, items: Sequence[Item], success: float | None = None) -> UpdateReport:
        """One update from all items, each once an epoch; `success` is the share of what was played that ended right."""
        parts = deal(items, self._config)
        with self._submitting:
            calls = [rank.fetch.remote(part) for rank, part in zip(self._ranks, parts, strict=True)]
        if lost := [item.episode for found in self._wait("fetching episodes", calls) for item in found]:
            raise EpisodesLost(lost)
        return self._all("update", success)[0]

    def loss_of(self, items: Sequence[Item]) -> tuple[float, Traffic]:
        """The mean cross-entropy of demonstrations, without learning, and how much that was."""
        shares = balance([item.num_tokens for item in items], len(self._ranks))
        with self._submitting:
            calls = [
                rank.loss_of.remote([items[index] for index in share])
                for rank, share in zip(self._ranks, shares, strict=True)
            ]
        return self._wait("scoring demonstrations", calls)[0]

    def send_weights(
        self,
        workers: Receivers,
        version: int,
        backend: str,
        *,
        held_as: str = "float32",
        perturbation: float = 0.0,
        with_digest: bool = False,
        **options: Any,
    ) -> SyncReport:
        """Give the workers this policy, or one whose weights are all off by so much; they still have to verify it.

        `held_as` is the dtype of their weights.
        """
        # All ranks are connected before any gathers: one that could not connect would be waited for in vain.
        with self._submitting:
            calls = [
                rank.connect.remote(workers.among(served), backend, {"held_as": getattr(torch, held_as), **options})
                for rank, served in zip(self._ranks, shares(backend, self._places, workers.places), strict=True)
            ]
        # Of a few steps each ends by itself first; ranks that do not answer even then are given up.
        seconds = min(self._timeout_seconds, 4 * workers.seconds)
        self._wait("connecting to rollout workers", calls, seconds)
        with self._submitting:
            calls = [rank.send_weights.remote(version, perturbation, with_digest) for rank in self._ranks]
        return max(self._wait("sending weights", calls, seconds), key=lambda report: report.num_calls)

    def forget_workers(self) -> None:
        """Connect to the workers anew at the next sending."""
        self._all("forget_workers")

    def rest(self) -> None:
        """Hold no more of the GPUs than the weights; ranks at rest can be asked and sent, but not learn."""
        self._all("rest")

    def work(self) -> None:
        """Take the GPUs back."""
        self._all("work")

    def expected(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """What a rollout engine with this policy says of the prompts."""
        return self._all("expected", prompts)[0]

    def version(self) -> int:
        """How many updates the policy has had."""
        return self._all("version")[0]

    def save(self, folder: Path) -> None:
        """Have everything that the next update depends on written into a folder; nothing is renamed here."""
        self._all("save", str(folder))

    def written(self, *, wait: bool) -> list[Written] | None:
        """What has become of each rank's part of what was saved last; None while one is being written."""
        found: list[Written | None] = self._all("written", wait)
        done = [each for each in found if each is not None]
        return done if len(done) == len(found) else None

    def digests(self, paths: Sequence[Path]) -> list[str]:
        """The SHA-256 of files that all hosts see, each read by one of the ranks."""
        shares = balance([path.stat().st_size for path in paths], len(self._ranks))
        with self._submitting:
            calls = [
                rank.digests.remote([paths[index] for index in share])
                for rank, share in zip(self._ranks, shares, strict=True)
            ]
        found = zip(shares, self._wait("reading a checkpoint", calls), strict=True)
        by_index = {index: digest for share, part in found for index, digest in zip(share, part, strict=True)}
        return [by_index[index] for index in range(len(paths))]

    def restore(self, folder: Path) -> int:
        """Go on from such a folder; the policy's version."""
        return self._all("restore", str(folder))[0]

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder."""
        self._all("export", str(folder))

    def leave(self, crew: Crew) -> None:
        """Leave all ranks to the next run, without their policy."""
        if self._config.deepspeed.real_stage(self._config.dtype) == 3:
            self.close()
            return
        try:
            self._all("leave")
            fits = self._fits()
        except (Exception, KeyboardInterrupt):  # this run has ended well, and the next starts its own
            self.close()
            return
        self._forget()
        crew.leave("learner", fits, [Left(*each) for each in zip(self._names, self._ranks, strict=True)])

    def close(self) -> None:
        """End all ranks."""
        self._forget()
        end(self._ranks, closes=False)

    def _forget(self) -> None:
        if self._health is not None:
            for rank in self._ranks:
                self._health.forget(rank)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        with self._submitting:
            calls = [getattr(rank, method).remote(*arguments) for rank in self._ranks]
        return self._wait(method, calls)

    def _wait(self, phase: str, calls: list[Any], seconds: float | None = None) -> list[Any]:
        """The answers; an error as soon as one rank has one, since the others wait for it in vain."""
        started, waiting = time.monotonic(), list(calls)
        seconds = seconds or self._timeout_seconds
        while waiting:
            left = seconds - (time.monotonic() - started)
            done, waiting = wait(waiting, max(left, 0))
            if not done:
                late = [calls.index(call) for call in waiting]
                told = f"learner ranks {late} have not ended {phase} after {seconds:.0f} s"
                raise self._died(late[0], told, "")
            try:
                ray.get(done)
            except RayTaskError as error:
                # Of a host that is lost, those who spoke with it hear at once, and the driver only when Ray is sure.
                if (gone := self._gone_beside(calls.index(done[0]))) is not None:
                    told = f"learner rank {gone} is gone, as another found in {phase}"
                    raise self._died(gone, told, self._silent.get(gone, "")) from error
                raise error.as_instanceof_cause() from None
            except (*DEATHS, GetTimeoutError) as error:
                number = calls.index(done[0])
                why = self._silent.get(number) or f"Ray says: {error}"
                raise self._died(number, f"learner rank {number} died in {phase}", why) from error
        return ray.get(calls)

    def _gone_beside(self, number: int) -> int | None:
        """Which other rank is no more, where one has failed at what they do together."""
        others = [each for each in range(len(self._ranks)) if each != number]
        calls = [self._ranks[each].alive.options(concurrency_group=HEALTH).remote() for each in others]
        ends, waiting = time.monotonic() + SURE_SECONDS, calls
        while waiting and (left := ends - time.monotonic()) > 0:
            done, waiting = wait(waiting, left)
            try:
                ray.get(done)
            except DEATHS:
                return others[calls.index(done[0])]
        return others[calls.index(waiting[0])] if waiting else None

    def _died(self, number: int, told: str, why: str) -> LearnerDied:
        """One line of what was last heard of the rank, and behind it all that is known."""
        rank, (first, *rest) = self._ranks[number], why.splitlines() or [""]
        found, heard = where(rank), self._health.last_heard(rank) if self._health else ""
        line = ". ".join(filter(None, (told, first.rstrip(". "))))
        return LearnerDied("\n".join([named("; ".join(filter(None, (line, heard))), found), *rest, end_of_log(found)]))
