"""What `rl` and `sft` share: the phases, evaluations, checkpoints and records of one run.

    with open_training(config, "rl", resume) as run:        cluster/open_training.py
        while run.goes_on(): …                             cluster/train_rl.py, cluster/train_sft.py

The driver sees references and summaries; no token of an episode passes through it.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cluster.config import Config
from cluster.groups.actors import Actors
from cluster.groups.crew import Crew
from cluster.groups.streaming import EpisodeStream, away
from cluster.iteration.rows import counted, token_shares
from cluster.measuring.choosing import best_metric, noted
from cluster.measuring.due import has_arrived, is_exported, is_measured
from cluster.measuring.evaluate import Evaluator
from cluster.planning.demonstration_checks import left_out_routes
from cluster.planning.disk_checks import expected_checkpoint_bytes
from cluster.planning.placement import Command, Placement
from cluster.record.alerts import Alerts
from cluster.record.compute_ledger import ComputeLedger
from cluster.record.console import Progress
from cluster.record.files import replace
from cluster.record.metrics import SPEED, MetricsRecorder
from cluster.record.run_directory import POLICY_FOLDER, RunDirectory
from cluster.saving import LEARNER_FOLDER, STATE_FILE, Saver
from cluster.stopping import StopRequest
from cluster.supervisor import Supervisor, learn
from learner.learner import UpdateReport
from learner.worker import Item
from rollout.probe import TOLERANCES
from rollout.traffic import Traffic
from rollout.transcript import ChatTokens

UNDIVIDED = ("learn", "push", "checkpoint", "export")
"""Phases that a request to stop waits for, as long as it can."""
AT_ONCE = ("demonstrations",)
"""Phases that a signal breaks off wherever they are."""


class Training:
    """One run, from its first iteration or from its newest checkpoint."""

    def __init__(
        self,
        config: Config,
        kind: Command,
        directory: RunDirectory,
        placement: Placement,
        crew: Crew,
        stop: StopRequest,
        progress: Progress,
    ) -> None:
        self.config, self.kind, self.directory = config, kind, directory
        self.placement, self.stop = placement, stop
        self.iteration = 0
        self.present = "start"
        """The phase that it is in, or was in last."""
        self._state: Mapping[str, Any] = {}
        self.ledger = ComputeLedger(config=config.cluster.compute)
        self.best: Mapping[str, Any] = {}
        self.row: dict[str, float] = {}
        self.recorder: MetricsRecorder
        self.progress = progress
        self.chat = ChatTokens.load(Path(config.learner.model or ""))
        self.actors = Actors(config, placement, crew, self.chat, self.progress.say)
        self.stream = EpisodeStream(away(placement))
        self._saver = Saver(
            self.actors,
            directory,
            keep=config.cluster.keep_checkpoints,
            expected_bytes=expected_checkpoint_bytes(config),
            say=self.progress.say,
        )
        self.supervisor = Supervisor(self._restart_learner, config.cluster.max_learner_restarts, self.progress.say)
        tolerance = TOLERANCES[config.rollout.engine.dtype]
        self._alerts = Alerts(max_failed=config.rollout.max_failed_fraction, tolerance=tolerance)
        self._evaluator = Evaluator(config, self.actors, directory, self.chat)
        self._iteration_began, self._driver_began = time.perf_counter(), time.process_time()

    def begin(self, cleaning: ExitStack) -> None:
        """Start both groups, and go on from the newest checkpoint where there is one."""
        started = time.monotonic()
        self.actors.begin(cleaning, self.progress.starts)
        cleaning.callback(self._saver.forget)
        self.ledger.model = self.actors.learner.size
        self._restore()
        resumed_after = self.iteration or None
        self.recorder = MetricsRecorder(self.directory, self.config.cluster.tracking, resumed_after=resumed_after)
        cleaning.callback(self.actors.watched(self.recorder.observe).stop)
        for told in left_out_routes(self.config):
            self.progress.say(told)
        self.progress.say(
            f"{self.ledger.model.parameters / 1e6:.2f} M parameters; {self.config.learner.num_ranks} learner rank(s) "
            f"and {self.config.cluster.num_workers} rollout worker(s) started in {time.monotonic() - started:.0f} s; "
            f"records in {self.directory.path}"
        )
        self.progress.stage("prepares")

    def goes_on(self) -> bool:
        """Whether another iteration is to be made; Interrupted where it was asked to stop."""
        self.stop.check()
        return not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether all iterations are made, the budget is met as nearly as whole iterations can, or the policy is as
        good as it was to become."""
        cluster = self.config.cluster
        if self.iteration >= cluster.iterations or self._has_arrived():
            return True
        return bool(cluster.budget) and self.ledger.is_nearest(cluster.budget, cluster.ledger, self.iteration)

    def _has_arrived(self) -> bool:
        return bool(self.config.cluster.until) and has_arrived(self.config, self._measured())

    def _measured(self) -> list[dict[str, Any]]:
        """The evaluations of the present policy."""
        return [row for row in self.directory.rows("evaluations") if row["iteration"] == self.iteration]

    def _spent(self) -> float:
        return self.ledger.totals()[self.config.cluster.ledger]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Its seconds go into the iteration's row and the ledger. A request to stop is heard before it and, unless the
        learner is being changed, in it; what was learned is the iteration's only when that has ended."""
        self.stop.check()
        self.present = name
        self.progress.stage(name)
        self.stop.is_patient |= name in UNDIVIDED
        self._saver.settle(wait=False)
        started = time.perf_counter()
        with self.stop.starting() if name in AT_ONCE else nullcontext():
            yield
        seconds = time.perf_counter() - started
        self.stop.is_patient &= name not in UNDIVIDED or name == "learn"
        self.row[f"{SPEED}{name}"] = self.row.get(f"{SPEED}{name}", 0.0) + seconds

    def learn(self, items: Sequence[Item], success: float | None = None) -> UpdateReport:
        """One update; `success` is the share of what was played that ended right."""
        with self.actors.at_work(), self.phase("learn"):
            return learn(self.actors.learner, items, success, self.directory, self.iteration)

    def charge_update(self, report: UpdateReport, items: Sequence[Item]) -> None:
        """Put the update from these items into the ledger, with the time that it took the driver."""
        played_share, part_shares = token_shares(counted(items, report))
        self.ledger.charge_update(
            report,
            played_share=played_share,
            part_shares=part_shares,
            seconds=self.row["seconds/learn"],
            devices=self.placement.num_devices("learner"),
        )

    def push(self) -> None:
        """Give all rollout workers the learner's weights, unless they have them."""
        if not self.actors.workers_are_behind:
            return
        with self.phase("push"):
            report = self.actors.push()
        self.ledger.charge_seconds("sync", self.row["seconds/push"] * self.placement.num_devices())
        self.row |= {"push/gap": report.gap, "push/bytes": report.sync.num_bytes}

    def evaluate_if_due(self) -> None:
        """Measure the present policy on all suites, where the config says so for this iteration."""
        cluster = self.config.cluster
        rows = self.directory.rows("evaluations") if cluster.budget and cluster.evaluations else []
        before = [row for row in rows if 0 < row["iteration"] < self.iteration]
        last, spent = max((row[cluster.ledger] for row in before), default=0.0), self._spent()
        if is_measured(cluster, self.iteration, is_over=self.is_over, spent=spent, measured_at=last):
            self.evaluate()
        every = self.config.evaluation.kl_every
        if every and self.iteration and self.iteration % every == 0 and not self.is_over:
            self.push()
            with self.phase("distance"):
                told, played = self._evaluator.distances(self.progress)
            self.row |= told  # that of the iteration which begins with this policy
            self._charge_evaluation(played, self.row["seconds/distance"])

    def evaluate(self, *, is_final: bool = False) -> None:
        """Measure the present policy on all suites where it was not, on those that wait for the end if it is that."""
        done = {(row["suite"], float(row["temperature"])) for row in self._measured()}
        wanted = [pair for pair in self.config.evaluation.wanted(is_final=is_final or self.is_over) if pair not in done]
        if not wanted:
            return
        self.push()
        with self.phase("evaluate"):
            rows, played = self._evaluator.run(self.iteration, wanted, self.progress)
            loss, scored = self._evaluator.generalisation_loss()
        self._charge_evaluation(played, self.row["seconds/evaluate"])
        self.ledger.charge_scoring(scored)
        for row in rows:
            self.recorder.record("evaluations", {"iteration": self.iteration, **row, **loss, **self.ledger.totals()})
        self.best = noted(self.best, best_metric(self.config), [{**row, **loss} for row in rows], self.iteration)
        self._note_state()
        if self.kind != "evaluate":
            # It has what a checkpoint of the iteration lacks that was written before it was measured.
            replace(self.directory.path / STATE_FILE, json.dumps(self._state).encode())

    def _charge_evaluation(self, played: Traffic, seconds: float) -> None:
        devices = self.placement.num_devices("rollout")
        self.ledger.charge_rollout(played, seconds=seconds, devices=devices, phase="evaluate")

    def end_iteration(self, row: Mapping[str, float]) -> None:
        """Record the iteration and save it where that is due."""
        self.iteration += 1
        now, driver = time.perf_counter(), time.process_time()
        spent = {f"{SPEED}iteration": now - self._iteration_began, f"{SPEED}driver": driver - self._driver_began}
        self._iteration_began, self._driver_began = now, driver
        self.row |= {**row, **spent}
        self.recorder.record("metrics", {"iteration": self.iteration, **self.row, **self.ledger.totals()})
        budget = self.config.cluster.budget
        self.progress.update(self.iteration, self.row, spent=self._spent() / budget if budget else 0.0)
        for told in self._alerts.heard(self.row):
            self.progress.say(f"iteration {self.iteration}: {told}")
        self.row = {}
        if is_exported(self.config.cluster, self.iteration):
            self.actors.learner.export(self.directory.export_of(self.iteration))
        self._note_state()
        if self.iteration % self.config.cluster.checkpoint_every == 0 or self.is_over:
            with self.phase("checkpoint"):
                self.save()
                if self.is_over:
                    self._saver.settle(wait=True)
        self._saver.watch()
        self.stop.is_patient = False

    @property
    def is_unsaved(self) -> bool:
        """Whether iterations have ended of which there is no checkpoint, and the learner is where the last one did."""
        if not self.iteration or self._state.get("iteration") != self.iteration:
            return False
        return all(iteration != self.iteration for iteration, _ in self.directory.checkpoints())

    def _note_state(self) -> None:
        """What is to be known, besides the learner, to go on from here."""
        self._state = {"iteration": self.iteration, "ledger": self.ledger.state(), "best": self.best}

    def save(self, *, wait: bool = False) -> None:
        """Keep everything that the next iteration depends on, as it was when the last one ended: it is copied here, and
        written while the run goes on, unless one is to `wait` for that."""
        if self.is_unsaved and not self._saver.has(self.iteration):
            with self.actors.at_work():
                self._saver.begin(self._state)
        if wait:
            self._saver.settle(wait=True)

    def finish(self) -> None:
        """Evaluate the last policy and leave it as a Hugging Face folder."""
        self.evaluate_if_due()
        with self.phase("export"):
            self.actors.learner.export(self.directory.path / POLICY_FOLDER)
        self.directory.end(self.iteration)
        self.recorder.close()
        self.progress.close()

    def _restart_learner(self) -> None:
        self.present, self._state, self.stop.is_patient = "start", {}, False
        self.actors.start_learner()
        self._saver.forget()
        self._restore()

    def load(self, checkpoint: Path) -> None:
        """Be where a checkpoint was written."""
        self.actors.restore(checkpoint / LEARNER_FOLDER)
        self._go_on_from(json.loads((checkpoint / STATE_FILE).read_text()))

    def _go_on_from(self, state: Mapping[str, Any]) -> None:
        self.iteration, self.best = state["iteration"], state["best"]
        self.ledger.restore(state["ledger"])
        self._note_state()

    def _restore(self) -> None:
        """Back to the newest whole checkpoint, or to the beginning; rows of what is undone go."""
        found = self.directory.newest_checkpoint(self.actors.learner.digests)
        self.row = {}
        self._iteration_began = time.perf_counter()
        if found is not None:
            self.load(found)
        else:
            self._go_on_from({"iteration": 0, "ledger": ComputeLedger().state(), "best": {}})
        measured = self.directory.path / STATE_FILE
        if measured.is_file():
            state = json.loads(measured.read_text())
            if state["iteration"] == self.iteration:
                self._go_on_from(state)
            else:
                measured.unlink()
        if self.kind != "evaluate" and not self.is_over:
            self._saver.stand_on(self.iteration, self.best.get("iteration"))
        for name in ("metrics", "evaluations"):
            self.directory.truncate_after(name, "iteration", self.iteration)
