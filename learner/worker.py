"""A learner rank: a Ray actor that fetches its own episodes, learns from them and sends the weights on.

    start_rank(name, rank, …)  ─▶  LearnerWorker (actor)

`cluster/groups/learner_group.py` speaks to all ranks at once; nobody speaks to one alone.
"""

import gc
import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from learner.checkpoint_files import CheckpointFiles, Written, digests, room_for_copies
from learner.config import LearnerConfig
from learner.deepspeed_engine import join_ranks
from learner.device_peak import peak_memory
from learner.learner import Learner, UpdateReport
from learner.meeting import Meeting, gather
from learner.model_size import ModelSize
from learner.sequence import TrainingSequence, Trajectory, sequences_of
from learner.zero_source import DeepSpeedZeroSource
from rollout.engine import Prompt
from rollout.episode import Episode
from rollout.probe import expected_logprobs
from rollout.receivers import LOSSES, Receivers, own_place
from rollout.sign import Phase, Sign
from rollout.traffic import Traffic
from rollout.transcript import ChatTokens
from rollout.weight_transfer import Place, SyncReport, WeightSender, make_sender, meeting

HEALTH = "health"
"""The group of calls that do not wait for those that learn."""
NO_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An episode that a rank is to learn from, as the driver knows it."""

    episode: Any
    """The reference of the episode."""
    num_tokens: int
    """How long it is, to balance ranks by."""
    group: int
    """The number of its task among the update's."""
    part: str = ""
    """Which part of a mixture asked; each optimizer step has all parts' shares."""
    is_demonstration: bool = False
    """Whether it is imitated, not reinforced."""


class LearnerWorker:
    """One rank."""

    def __init__(self, rank: int, config: LearnerConfig, temperature: float) -> None:
        self._rank = rank
        self._phase = Phase()
        self._meeting: Meeting | None = None
        self.prepare(config, temperature)

    def prepare(self, config: LearnerConfig, temperature: float) -> None:
        """Be what one is before `start`, also for a second policy."""
        self._config, self._temperature = config, temperature
        self._model = Path(config.model or "")
        self._chat = ChatTokens.load(self._model)
        self._sender: WeightSender | None = None
        self._fetched: tuple[list[list[TrainingSequence]], dict[Trajectory, int]] = ([], {})

    def meet(self) -> str:
        """The host and a port of it that is held for the ranks to meet at; asked of rank 0."""
        self._meeting = self._meeting or Meeting(ray.util.get_node_ip_address())
        return self._meeting.address

    def address(self) -> str:
        """A host and a free port of it, for this rank and the engines that it serves to meet at."""
        with socket.socket() as found:
            found.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{found.getsockname()[1]}"

    def start(self, address: str, threads: int, timeout_seconds: float) -> ModelSize:
        """Meet the others, unless that was before, and load the model; what a token costs in each of its parts."""
        torch.set_num_threads(threads)
        if not torch.distributed.is_initialized():
            num_ranks = self._config.num_ranks
            gather(address, self._rank, num_ranks, timeout_seconds=timeout_seconds, meeting=self._meeting)
            join_ranks(self._rank, num_ranks, address, timeout_seconds=timeout_seconds)
        self._learner = Learner(self._model, self._config, temperature=self._temperature, chat=self._chat)
        self._source = DeepSpeedZeroSource(self._learner.policy.backbone, self._model)
        return self._learner.size

    def leave(self) -> None:
        """Forget the policy and all that was made for it; the others, whom this rank has met, it stays with."""
        self.forget_workers()
        self._learner.engine.close()
        del self._learner, self._source
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        peak_memory()  # the next policy's begins here

    def alive(self) -> Sign:
        """A sign of life; it is called in a thread of its own."""
        return self._phase.sign()

    def fetch(self, parts: Sequence[Sequence[Item]]) -> list[Item]:
        """Have this rank's items of each optimizer step ready for `update`; those whose episodes are nowhere any more.

        Apart from the update, in which ranks wait for each other: one that missed something would miss in it.
        """
        groups: dict[Trajectory, int] = {}
        with self._phase.of("fetch"):
            try:
                self._fetched = ([self._fetch(part, groups) for part in parts], groups)
                return []
            except LOSSES:
                return [item for part in parts for item in part if _is_lost(item)]

    def update(self, success: float | None = None) -> UpdateReport:
        """Learn from what was fetched; `success` is the share of what was played, on any rank, that ended right."""
        with self._phase.of("update"):
            (sequences, groups), self._fetched = self._fetched, ([], {})
            return self._learner.update(sequences, groups, success)

    def loss_of(self, items: Sequence[Item]) -> tuple[float, Traffic]:
        """The mean cross-entropy of demonstrations over all ranks, and how much that was."""
        return self._learner.loss_of(self._fetch(items, {}))

    def _fetch(self, items: Sequence[Item], groups: dict[Trajectory, int]) -> list[TrainingSequence]:
        episodes: list[Episode] = ray.get([item.episode for item in items])
        sequences = []
        for item, episode in zip(items, episodes, strict=True):
            is_imitated = item.is_demonstration or self._config.imitate_successes
            imitates = "all" if item.is_demonstration else "right"
            of_episode = sequences_of(episode, self._chat, is_demonstration=is_imitated, imitates=imitates)
            # A demonstration may be of a task that is played too, and is no sample to compare the others with.
            if not is_imitated:
                groups |= {sequence.trajectory: item.group for sequence in of_episode}
            sequences += of_episode
        return sequences

    def place(self) -> Place:
        """Where this rank is."""
        return own_place()

    def connect(self, workers: Receivers, backend: str, options: dict[str, Any]) -> None:
        """Make ready to send to these workers, if that is not done; a rank without any only takes part in gathering."""
        if self._sender is None:
            sends = bool(workers.actors)
            options = {**options, **meeting(backend, workers.places, self.address(), workers.seconds)}
            self._sender = make_sender(backend, client=workers, source=self._source, sends=sends, **options)

    def send_weights(self, version: int, perturbation: float = 0.0, with_digest: bool = False) -> SyncReport:
        """Make the weights of this rank's workers those of this policy, or such that are all off by so much."""
        if self._sender is None:
            raise RuntimeError(f"learner rank {self._rank} was asked to send weights before connect()")
        with self._phase.of("send weights"):
            return self._sender.send(version, perturbation=perturbation, with_digest=with_digest)

    def forget_workers(self) -> None:
        """The workers have changed: connect anew at the next sending."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def expected(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """What a rollout engine with these weights says of the prompts."""
        try:
            return expected_logprobs(self._learner.policy.backbone, prompts, self._chat.processor)
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # an engine on the same GPU has woken up, and needs the room

    def version(self) -> int:
        """How many updates the policy has had."""
        return self._learner.version

    def save(self, folder: str) -> None:
        """Copy everything that the next update depends on, and begin to write it; the folder is the caller's to rename
        into place once `written` says that it is there."""
        self._files = CheckpointFiles(room_for_copies(self._config.num_ranks))
        self._learner.engine.save(Path(folder), self._files)
        if self._rank == 0:
            self._files.write(json.dumps(self._learner.state()), Path(folder) / "learner.json")

    def written(self, wait: bool) -> Written | None:
        """What has become of this rank's part of what was saved last; None while it is being written."""
        return self._files.written(wait=wait)

    def digests(self, paths: Sequence[Path]) -> list[str]:
        """The SHA-256 of files, read on this host."""
        return digests(paths)

    def restore(self, folder: str) -> int:
        """Go on from a folder that `save` wrote; the policy's version."""
        self._learner.engine.restore(Path(folder))
        self._learner.load_state(json.loads((Path(folder) / "learner.json").read_text()))
        self.forget_workers()
        return self._learner.version

    def export(self, folder: str) -> None:
        """Write the policy as Hugging Face has it, so that `from_pretrained` and vLLM load it; no critic."""
        from huggingface_hub import save_torch_state_dict

        # Each step of the source gathers one tensor from all ranks, so all go through it.
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous() if self._rank == 0 else tensor
            for name, tensor in self._source
        }
        if self._rank == 0:
            beside = Path(f"{folder}.partial-{os.getpid()}")
            try:
                shutil.copytree(self._model, beside, ignore=shutil.ignore_patterns(*NO_WEIGHTS), dirs_exist_ok=True)
                save_torch_state_dict(tensors, beside, metadata={"format": "pt"})
                shutil.rmtree(folder, ignore_errors=True)
                beside.rename(folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)

    def rest(self) -> None:
        """Leave the GPU to a rollout worker, but for the weights; a rank that rests can send them and be asked."""
        self._learner.engine.rest()

    def work(self) -> None:
        """Take the GPU back."""
        self._learner.engine.work()


def _is_lost(item: Item) -> bool:
    """Whether the host that had the episode is no more, and nobody else has it."""
    try:
        ray.get(item.episode)
    except LOSSES:
        return True
    return False


def start_rank(name: str, rank: int, config: LearnerConfig, temperature: float, **resources: Any) -> Any:
    """The actor, under a name that tells a reader of the Ray dashboard what it does."""
    # Signs of life come from a thread beside the one that learns.
    actor: Any = ray.remote(concurrency_groups={HEALTH: 1})(LearnerWorker)  # pyright: ignore[reportCallIssue]
    return actor.options(name=name, **resources).remote(rank, config, temperature)
