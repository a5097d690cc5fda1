"""What `rl` and `sft` share: the groups, their weights, evaluations, checkpoints and records of one run.

    with open_training(config, "rl", directory) as run:
        while run.goes_on(): …                      cluster/train_rl.py, cluster/train_sft.py

The driver sees references and summaries; no token of an episode passes through it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
from transformers import AutoConfig

from cluster.config import Config, to_yaml
from cluster.errors import RunError
from cluster.evaluate import Evaluator
from cluster.hardware import Hardware, look, of_nodes
from cluster.placement import Command, Placement, place, reserved
from cluster.record.compute_ledger import ComputeLedger, ModelSize
from cluster.record.console import Progress
from cluster.record.metrics import MetricsRecorder
from cluster.record.run_directory import RunDirectory
from cluster.rollout_group import RolloutGroup
from cluster.session import StopRequest, ray_session, stop_signals
from cluster.weight_sync import WeightSync
from learner.group import LearnerDied, LearnerGroup
from rollout.probe import make_probe
from rollout.transcript import ChatTokens

STATE_FILE = "run.json"
LEARNER_FOLDER = "learner"
POLICY_FOLDER = "policy"
SPEED = "seconds/"
"""What metrics of time begin with: they alone differ between two runs of one config."""

ResultT = TypeVar("ResultT")


class Training:
    """One run, from its first iteration or from its newest checkpoint."""

    def __init__(
        self, config: Config, kind: Command, directory: RunDirectory, placement: Placement, stop: StopRequest
    ) -> None:
        self.config, self.kind, self.directory, self._stop = config, kind, directory, stop
        self.iteration = 0
        self.ledger = ComputeLedger(config=config.cluster.compute)
        self.best: dict[str, Any] = {}
        self.row: dict[str, float] = {}
        self.recorder = MetricsRecorder(directory, config.cluster.tracking)
        self.progress = Progress(kind, config.cluster.iterations, log=directory.log)
        self.model = Path(config.learner.model or "")
        self.chat = ChatTokens.load(self.model)
        self._placement = placement
        self._restarts_left = config.cluster.max_learner_restarts
        self._pushed_version = 0
        self.rollouts = RolloutGroup(
            self.model,
            config.rollout,
            resources=self._placement.rollout_options,
            max_restarts=config.cluster.max_worker_restarts,
            start_timeout_seconds=config.cluster.start_timeout_seconds,
            step_timeout_seconds=config.cluster.step_timeout_seconds,
            prefix=f"{config.cluster.name}-rollout",
        )
        self.learner: LearnerGroup
        self._sync: WeightSync

    def begin(self, cleaning: ExitStack) -> None:
        """Start both groups at the same time, and go on from the newest checkpoint where there is one."""
        started = time.monotonic()
        cleaning.callback(self.rollouts.close)
        self.rollouts.begin(self.config.cluster.num_rollout_workers)
        self._start_learner()
        cleaning.callback(self._close_learner)
        self.rollouts.wait()
        self._restore()
        seconds = time.monotonic() - started
        workers = self.config.cluster.num_rollout_workers
        self.progress.say(
            f"{self.learner.num_parameters / 1e6:.2f} M parameters; {self.config.learner.num_ranks} learner "
            f"rank(s) and {workers} rollout worker(s) started in {seconds:.0f} s; records in {self.directory.path}"
        )

    def goes_on(self) -> bool:
        """Whether another iteration is to be made; when it is not, or was asked to stop, what was done is safe."""
        if self._stop.is_made:
            self.save()
            self.progress.say(f"stopped after iteration {self.iteration}; go on with --resume {self.directory.path}")
            return False
        return self.iteration < self.config.cluster.iterations

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it."""
        return self._stop.is_made

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Its seconds go into the iteration's row and the ledger."""
        self.progress.stage(name)
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self.row[f"{SPEED}{name}"] = self.row.get(f"{SPEED}{name}", 0.0) + seconds

    def with_learner(self, call: Callable[[], ResultT]) -> ResultT | None:
        """What the call gives; None where a rank died, and the run is back at its newest checkpoint."""
        try:
            return call()
        except LearnerDied as error:
            if not self._restarts_left:
                raise RunError(f"{error} No more restarts are left (cluster.max_learner_restarts).") from error
            self._restarts_left -= 1
            self.progress.say(f"{error}\nstarting all learner ranks anew from the newest checkpoint")
            self.learner.close()
            self._start_learner()
            self._restore()
            return None

    def push(self) -> None:
        """Give all rollout workers the learner's weights, unless they have them."""
        version = self.learner.version()
        if version == self._pushed_version:
            return
        with self.phase("push"):
            report = self._sync.push(self.rollouts.workers)
        self._pushed_version = version
        self.row |= {"push/gap": report.gap, "push/bytes": report.sync.num_bytes}

    def adopt(self, workers: Any) -> None:
        """Give new workers the newest weights."""
        self._sync.push(workers)

    def evaluate_if_due(self) -> None:
        """Measure the present policy on all suites, where the config says so for this iteration."""
        cluster = self.config.cluster
        at_ends = cluster.evaluate_at_ends and self.iteration in (0, cluster.iterations)
        is_due = at_ends or (cluster.evaluate_every and self.iteration % cluster.evaluate_every == 0)
        if not is_due or self.directory.has_row("evaluations", "iteration", self.iteration):
            return
        self.push()
        with self.phase("evaluate"):
            evaluator = Evaluator(self.config, self.rollouts, self.adopt, self.directory, self.chat)
            rows = evaluator.run(self.iteration, self.progress)
            loss = evaluator.generalisation_loss(self.learner)
        for row in rows:
            self.recorder.record("evaluations", {"iteration": self.iteration, **row, **loss, **self.ledger.totals()})
        self._note_best(rows)

    def end_iteration(self, row: Mapping[str, float]) -> None:
        """Record the iteration and save it where that is due."""
        self.iteration += 1
        self.row |= row
        self.recorder.record("metrics", {"iteration": self.iteration, **self.row, **self.ledger.totals()})
        self.progress.update(self.iteration, self.row)
        self.row = {}
        cluster = self.config.cluster
        if self.iteration % cluster.checkpoint_every == 0 or self.iteration == cluster.iterations:
            with self.phase("checkpoint"):
                self.save()
        if cluster.export_every and self.iteration % cluster.export_every == 0:
            self.learner.export(self.directory.path / "exports" / f"iteration_{self.iteration:06d}")

    def save(self) -> None:
        """Keep everything that the next iteration depends on."""
        if any(iteration == self.iteration for iteration, _ in self.directory.checkpoints()):
            return
        partial = self.directory.checkpoint_partial(self.iteration)
        (partial / LEARNER_FOLDER).mkdir()
        self.learner.save(partial / LEARNER_FOLDER)
        state = {"iteration": self.iteration, "ledger": self.ledger.state(), "best": self.best}
        (partial / STATE_FILE).write_text(json.dumps(state))
        self.directory.commit_checkpoint(partial, self.iteration)
        self.directory.prune(self.config.cluster.keep_checkpoints, self.best.get("iteration"))

    def finish(self) -> None:
        """Evaluate the last policy and leave it as a Hugging Face folder."""
        self.evaluate_if_due()
        self.learner.export(self.directory.path / POLICY_FOLDER)
        self.recorder.close()
        self.progress.close()

    def _start_learner(self) -> None:
        self.learner = LearnerGroup.start(
            self.config.learner,
            self.config.rollout.temperature,
            resources=self._placement.learner_options,
            threads=self._placement.learner_threads,
            timeout_seconds=self.config.cluster.step_timeout_seconds,
            prefix=f"{self.config.cluster.name}-learner-{self._restarts_left}",
        )
        self._sync = WeightSync(
            self.learner,
            make_probe(
                _vocabulary(self.model),
                forbidden_token_ids=self.chat.forbidden_token_ids,
                picture_token_id=self.chat.image_token_id,
            ),
            backend=self.config.rollout.engine.weight_transfer,
            dtype=self.config.rollout.engine.dtype,
            options={},
        )
        self.ledger.model = ModelSize(
            parameters=self.learner.num_parameters, recomputes=self.config.learner.deepspeed.gradient_checkpointing
        )

    def _close_learner(self) -> None:
        self.learner.close()  # whichever it is by then

    def _restore(self) -> None:
        """Back to the newest whole checkpoint, or to the beginning; rows of what is undone go."""
        found = self.directory.newest_checkpoint()
        self.iteration, self.row = 0, {}
        if found is not None:
            state = json.loads((found / STATE_FILE).read_text())
            self.learner.restore(found / LEARNER_FOLDER)
            self.iteration, self.best = state["iteration"], state["best"]
            self.ledger.restore(state["ledger"])
        else:
            self.ledger.restore(ComputeLedger().state())
        for name in ("metrics", "evaluations"):
            self.directory.truncate_after(name, "iteration", self.iteration)
        self._pushed_version = -1

    def _note_best(self, rows: list[dict[str, Any]]) -> None:
        wanted = self.config.cluster.best_metric or f"{next(iter(self.config.evaluation.suites))}/success"
        suite, _, metric = wanted.rpartition("/")
        value = next((row.get(metric) for row in rows if row["suite"] == suite), None)
        if value is not None and value > self.best.get("value", float("-inf")):
            self.best = {"iteration": self.iteration, "metric": wanted, "value": value}


def _vocabulary(model: Path) -> int:
    config = AutoConfig.from_pretrained(model)
    return (getattr(config, "text_config", None) or config).vocab_size


@contextmanager
def open_training(config: Config, kind: Command, resume: Path | None = None) -> Iterator[Training]:
    """A run in a directory of its own, or the one that is resumed, with Ray around it."""
    directory = RunDirectory.open(resume) if resume else RunDirectory.create(config.cluster.folder, config.cluster.name)
    directory.write_config(to_yaml(config))
    with ray_session(config.cluster), stop_signals() as stop, ExitStack() as cleaning:
        placement = place(config, _hardware(config), kind)
        placement = cleaning.enter_context(reserved(placement, config.cluster.start_timeout_seconds))
        run = Training(config, kind, directory, placement, stop)
        run.begin(cleaning)
        yield run


def _hardware(config: Config) -> Hardware:
    """What the Ray cluster has; one that was started here is this machine."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    here = look()
    return here if len(nodes) == 1 else of_nodes(nodes, here.gpu_memory_gib)
