"""Where a run's numbers go: first into its own files, then to whoever else is listening.

    recorder.record("metrics", row)  ─▶  metrics.jsonl
                                     ─▶  TensorBoard, Weights & Biases     where configured
                                     ─▶  Ray's Prometheus endpoint         where Ray runs

    in the file             in TensorBoard and W&B       in Prometheus, with the labels run and arm
    rollout/success         rollout/success              ray_ruleshift_rollout_success
    success, of a suite     evaluation/rule_shift/1/…    ray_ruleshift_evaluation_success; labels suite, temperature too
    engine/waiting                                       ray_ruleshift_engine_waiting; label worker too

`grafana_dashboard.json` beside this file shows the last column; Grafana imports it as it is.
"""

import math
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Real
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from cluster.errors import ConfigError
from cluster.record.run_directory import RunDirectory, Table

GAUGE_PREFIX = "ruleshift_"
"""Of the names that are exported through Ray, which puts `ray_` before it."""
SPEED = "seconds/"
"""What metrics of time begin with: they alone differ between two runs of one config."""
_EVALUATION_LABELS = ("suite", "temperature")


class TrackingConfig(BaseModel):
    """Where metrics go besides the run's own files."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tensorboard: bool = False
    """Write TensorBoard events into the run's folder; needs the package `tensorboard`."""
    wandb_project: str | None = None
    """The Weights & Biases project to log to; needs the package `wandb`."""
    ray_metrics: bool = True
    """Export through Ray, so that the metrics stand in its Prometheus endpoint."""


def gauge_name(name: str) -> str:
    """A metric's name as Ray is told it: `ruleshift_rollout_success` for `rollout/success`."""
    return GAUGE_PREFIX + re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_")


def check_tracking(tracking: TrackingConfig) -> None:
    """Raise ConfigError where a package is missing that the configuration asks for."""
    for key, value, package in (
        ("tensorboard", tracking.tensorboard, "tensorboard"),
        ("wandb_project", tracking.wandb_project, "wandb"),
    ):
        if value and find_spec(package) is None:
            raise ConfigError(
                f"cluster.tracking.{key}={str(value).lower() if value is True else value}: the package `{package}` is "
                f"not installed; install it (pip install {package}) or leave the option out"
            )


class MetricsRecorder:
    """Writes rows and passes their numbers on. Use it as a context, or close it."""

    def __init__(
        self,
        run_directory: RunDirectory,
        tracking: TrackingConfig,
        *,
        arm: str = "",
        resumed_after: int | None = None,
    ) -> None:
        """`resumed_after` is the last iteration that counts where a run goes on; later points are taken back."""
        check_tracking(tracking)
        self._run = run_directory
        self._listeners: list[_Listener] = []
        self._live: _RayGauges | None = None
        if tracking.tensorboard:
            self._listeners.append(_TensorBoard(run_directory, resumed_after))
        if tracking.wandb_project:
            self._listeners.append(_WeightsAndBiases(run_directory, tracking.wandb_project, arm))
        if tracking.ray_metrics:
            self._live = _RayGauges(run_directory.name, arm)
            self._listeners.append(self._live)

    def record(self, kind: Table, row: Mapping[str, Any]) -> None:
        """Append the row to its file; its numbers go to all listeners too."""
        needed = {"iteration", *(_EVALUATION_LABELS if kind == "evaluations" else ())}
        if missing := sorted(needed - row.keys()):
            raise ValueError(f"a row of {kind} needs {', '.join(missing)}; it has {', '.join(row) or 'nothing'}")
        self._run.append(kind, row)
        labels = {name: _label(row[name]) for name in _EVALUATION_LABELS if kind == "evaluations"}
        numbers = {
            name: float(value)
            for name, value in row.items()
            if name not in labels and isinstance(value, Real) and math.isfinite(value)
        }
        for listener in self._listeners:
            listener.hear(numbers, int(row["iteration"]), labels)

    def observe(self, worker: str, numbers: Mapping[str, float]) -> None:
        """What a rollout worker says of itself now: through Ray alone, since it belongs to no iteration."""
        if self._live is not None:
            self._live.show(numbers, {"worker": worker})

    def close(self) -> None:
        """Tell the listeners that there is no more to come."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []


class _Listener(Protocol):
    def hear(self, numbers: Mapping[str, float], iteration: int, labels: Mapping[str, str]) -> None:
        """Take the numbers of one row; those of an evaluation have labels."""
        ...

    def close(self) -> None:
        """There is no more to come."""
        ...


class _TensorBoard:
    def __init__(self, run_directory: RunDirectory, resumed_after: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_after is None else resumed_after + 1
        self._writer = SummaryWriter(str(run_directory.path / "tensorboard"), purge_step=purge)

    def hear(self, numbers: Mapping[str, float], iteration: int, labels: Mapping[str, str]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(_path(name, labels), value, iteration)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run_directory: RunDirectory, project: str, arm: str) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb_run = wandb.init(
            project=project,
            name=run_directory.name,
            # The same run goes on when training is resumed.
            id=run_directory.name,
            resume="allow",
            tags=[arm] if arm else None,
            dir=str(run_directory.path),
        )
        self._wandb_run.define_metric("iteration")
        self._wandb_run.define_metric("*", step_metric="iteration")

    def hear(self, numbers: Mapping[str, float], iteration: int, labels: Mapping[str, str]) -> None:
        row = {_path(name, labels): value for name, value in numbers.items() if name != "iteration"}
        self._wandb_run.log({**row, "iteration": iteration})

    def close(self) -> None:
        self._wandb_run.finish()


class _RayGauges:
    def __init__(self, run: str, arm: str) -> None:
        self._tags = {"run": run, "arm": arm}
        self._gauges: dict[str, Any] = {}

    def hear(self, numbers: Mapping[str, float], iteration: int, labels: Mapping[str, str]) -> None:
        self.show({f"evaluation/{name}" if labels else name: value for name, value in numbers.items()}, labels)

    def show(self, numbers: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Set the gauges of these names."""
        # Whoever uses Ray has imported it; a command that does not need not wait for it.
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        tags = {**self._tags, **labels}
        for name, value in numbers.items():
            self._gauge(name, tuple(tags)).set(value, tags)

    def close(self) -> None:
        self._gauges = {}

    def _gauge(self, name: str, tag_keys: tuple[str, ...]) -> Any:
        exported = gauge_name(name)
        if exported not in self._gauges:
            from ray.util.metrics import Gauge

            self._gauges[exported] = Gauge(exported, f"{name} of a ruleshift run", tag_keys=tag_keys)
        return self._gauges[exported]


def _path(name: str, labels: Mapping[str, str]) -> str:
    return "/".join(["evaluation", *labels.values(), name]) if labels else name


def _label(value: Any) -> str:
    """A number without needless zeros, so that 1 and 1.0 are one label."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)
