"""The options of the cluster and evaluation sections; those of compare are in compare_options.py."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cluster.record.compute_ledger import ComputeConfig
from cluster.record.metrics import TrackingConfig
from envs.protocol import Shift

NO_CLIENT = (
    "Ray's client refuses calls that stream, and episodes stream as they end; on a host of the cluster write `auto` or "
    "HEAD:6379, and from elsewhere send the command with `ray job submit --address http://HEAD:8265`"
)
"""Why nothing runs through `ray://`, and what to do."""


def is_client(address: str) -> bool:
    """Whether an address is that of a Ray client's server."""
    return address.startswith("ray://")


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ElasticConfig(_Options):
    """A number of workers that may change while a run goes on."""

    min: int = Field(ge=1)
    """With how many a run begins; with fewer it ends, unless `cluster.min_rollout_workers` allows less."""
    max: int = Field(ge=1)
    """Up to how many join whenever the cluster has room for them."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max={self.max} is less than min={self.min}; write them as in {{min: 2, max: 8}}")
        return self


class ClusterConfig(_Options):
    """Where and how long training runs, and what it keeps."""

    cache_folder: str | None = None
    """Where vLLM, Triton and PyTorch's compiler keep what they have compiled, a folder for each; without one, in the
    home folder and in /tmp, as they like. On several hosts, best a disk of each host's own."""
    name: str = Field(default="run", pattern=r"^[\w.-]+$")
    """What the run is called; its folder is `<folder>/<date>_<name>`."""
    folder: str = "runs"
    """Where runs are kept; on several hosts, a folder that all of them see."""
    address: str | None = None
    """The Ray cluster to join from one of its hosts, as in `auto` or `head:6379`; without one, a job joins its cluster
    and anything else starts a Ray of its own."""
    dashboard: bool = True
    """Whether a Ray that is started here serves its dashboard."""
    placement: Literal["cpu", "one_gpu", "colocated", "split"] = "cpu"
    """`cpu`: everything on cores. `one_gpu`, `colocated`: learner and rollouts take turns on the same GPUs. `split`:
    each has GPUs of its own."""
    num_nodes: int = Field(default=1, ge=1)
    """Over how many hosts the run is spread."""
    gpus_per_node: int = Field(default=8, ge=1)
    """How many GPUs each host has, where any are used. What a host has is only read by `plan --elsewhere`: a run, and
    any other plan, looks."""
    gpu_memory_gib: float = Field(default=79.6, gt=0)
    """The memory of each of these GPUs, as nvidia-smi tells it; a card of 80 GB has 79.6 GiB."""
    cores_per_node: int = Field(default=2, ge=1)
    """How many cores each host has."""
    memory_gib_per_node: float = Field(default=16.0, gt=0)
    """How much memory each host has."""
    cores_per_run: int | None = Field(default=None, ge=1)
    """How many cores of each host a run without GPUs takes, so that runs of a study have room side by side; without
    it, all. A small model is fastest on few."""
    num_rollout_workers: Annotated[int, Field(ge=1)] | ElasticConfig = 1
    """How many engines play; each takes `rollout.engine.tensor_parallel_size` GPUs. With `{min: 2, max: 8}` a run
    begins with 2, and more join whenever the cluster has room for them."""
    min_rollout_workers: int | None = Field(default=None, ge=1)
    """With fewer than these a run ends; those that are left play on when a host is lost, until others can take the
    places of those that were on it. Without it, 1, or `num_rollout_workers.min`."""
    iterations: int = Field(default=20, ge=1)
    """How many updates `rl` makes, or how many optimizer steps `sft` makes."""
    budget: float | None = Field(default=None, gt=0)
    """Training ends before `iterations` where the ledger is nearest to this: an iteration that would pass it by more
    than it now lacks is not made."""
    ledger: Literal["compute/flops", "compute/paper_flops", "compute/trained_tokens"] = "compute/flops"
    """What the budget is of: operations really made, the paper's count of them, or tokens learned from."""
    evaluations: int | None = Field(default=None, ge=1)
    """How many evaluations a budget is divided by, at equal shares; needs `budget`."""
    episodes_per_iteration: int = Field(default=128, ge=1)
    """How many episodes each update of `rl` learns from, or how many demonstrations each step of `sft`."""
    demonstrations_per_iteration: int = Field(default=0, ge=0)
    """How many demonstrations each update of `rl` imitates besides, weighed by `learner.sft_weight`."""
    demonstrate_failed: bool = False
    """Whether an update of `rl` imitates, besides, the demonstrator of `data.kind` at each of its tasks that no sample
    has solved."""
    samples_per_task: int = Field(default=1, ge=1)
    """How often each task is played; group-relative advantages need several."""
    first_seed: int = Field(default=0, ge=0)
    """The seed of the first training task; the others count on from it."""
    evaluate_every: int = Field(default=0, ge=0)
    """Iterations between evaluations; 0 for none but the first and the last."""
    evaluate_at: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Behind which iterations the policy is evaluated besides, as in `[10, 20, 40, 80, 160]`."""
    evaluate_at_start: bool = True
    """Whether the initial policy is evaluated."""
    evaluate_at_end: bool = True
    """Whether the final policy is evaluated."""
    checkpoint_every: int = Field(default=5, ge=1)
    """Iterations between checkpoints; the last iteration always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept, besides the best."""
    export_every: int = Field(default=0, ge=0)
    """Iterations between exports of the policy as a Hugging Face folder; 0 for the final one alone."""
    export_at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Behind which iterations the policy is exported besides."""
    until: dict[str, float] = {}
    """Training ends, before `iterations` or `budget` is over, with the first evaluation in which each of these measures
    is at least this, as in `{validation/success: 0.8}`; of losses and other faults, at most this."""
    transcripts_every: int = Field(default=10, ge=0)
    """Iterations of `rl` between transcripts to read: the best, the worst and some other episodes. Failed ones are
    written whenever there are any. 0 for no transcripts of training; evaluations always write theirs."""
    best_metric: str | None = None
    """The measure that marks the best checkpoint, as in `validation/success`: where it is highest or, of losses and
    other faults, lowest. Without one, the headline measure of the environment on the first suite under the training
    rule whose split is validation or, where there is none, on the first under that rule."""
    max_worker_restarts: int = Field(default=3, ge=0)
    """How often within an hour a rollout worker is replaced in one place, before the place stays empty until the hour
    is over; the run ends where fewer than `min_rollout_workers` are left then."""
    max_learner_restarts: int = Field(default=3, ge=0)
    """How often within an hour all learner ranks are started anew from the newest checkpoint before the run stops."""
    health_timeout_seconds: float = Field(default=20.0, gt=0)
    """Who has not given a sign of life for so long, though asked every few seconds, counts as dead: a rollout worker's
    engine or a learner rank. What moves weights may take longer by what their bytes take at 50 MB/s."""
    start_timeout_seconds: float = Field(default=1800.0, gt=0)
    """How long engines and learner may take to start."""
    step_timeout_seconds: float = Field(default=3600.0, gt=0)
    """How long one phase of an iteration may take."""
    stop_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long a run that is asked to stop may take to end the phase that it is in and to write a checkpoint; behind
    that, it ends where its last checkpoint was. Leave it five seconds less than the cluster waits before it kills."""
    compute: ComputeConfig = ComputeConfig()
    """How compute is counted."""
    tracking: TrackingConfig = TrackingConfig()
    """Where metrics go besides the run's own files."""

    @field_validator("address")
    @classmethod
    def _is_of_a_host(cls, given: str | None) -> str | None:
        if given and is_client(given):
            raise ValueError(NO_CLIENT)
        return given

    @property
    def num_workers(self) -> int:
        """With how many rollout workers a run begins."""
        return self.num_rollout_workers if isinstance(self.num_rollout_workers, int) else self.num_rollout_workers.min

    @property
    def most_workers(self) -> int:
        """How many there may become."""
        return self.num_rollout_workers if isinstance(self.num_rollout_workers, int) else self.num_rollout_workers.max

    @property
    def least_workers(self) -> int:
        """With fewer it ends."""
        is_elastic = isinstance(self.num_rollout_workers, ElasticConfig)
        return self.min_rollout_workers or (self.num_workers if is_elastic else 1)

    @property
    def tasks_per_iteration(self) -> int:
        """How many tasks an update of `rl` learns from."""
        return self.episodes_per_iteration // self.samples_per_task


class SuiteConfig(_Options):
    """One environment to evaluate on."""

    env: dict[str, Any] = {}
    """Options that differ from the training environment's, as in `{target: 30}`; another `name` starts from that
    environment's defaults."""
    verifier: dict[str, Any] = {}
    """Verifier options that differ from training's."""
    title: str = ""
    """What figures call it; its name where there is none."""
    episodes: int | None = Field(default=None, ge=1)
    """How many tasks; as `evaluation.episodes` where not set."""
    samples_per_task: int | None = Field(default=None, ge=1)
    """How often each task is played; as `evaluation.samples_per_task` where not set."""
    split: Literal["train", "validation", "test"] = "test"
    """Which split of the tasks."""
    only_at_end: bool = False
    """Whether only the final policy is measured on it, and not at `final_temperatures`: all that choosing between runs
    needs."""
    shift: Shift | None = None
    """What it has otherwise than training: nothing (`none`), the `rule`, the `look`, or the task itself (`other`).
    Without it, the environment tells that from the options."""
    fixation: dict[str, Any] | None = None
    """Environment options of the training rule: answers are also judged by it, so that those which are right by the
    old rule alone are counted."""


class EvaluationConfig(_Options):
    """What the policy is measured on."""

    suites: dict[str, SuiteConfig] = {"in_distribution": SuiteConfig()}
    """Each environment by a name; one that is null is left out."""
    episodes: int = Field(default=1500, ge=1)
    """How many tasks each suite has."""
    first_seed: int = Field(default=0, ge=0)
    """The first task's seed; every checkpoint meets the same tasks."""
    temperatures: tuple[float, ...] = (1.0,)
    """At which temperatures each suite is played; 0 takes the likeliest token."""
    final_temperatures: tuple[float, ...] = ()
    """At which further temperatures the final policy is measured."""
    samples_per_task: int = Field(default=1, ge=1)
    """How often each task is played; several give pass@k."""
    pass_at: tuple[int, ...] = ()
    """For which k the chance is estimated that one of k samples is right, in suites that have so many of a task."""
    stop_at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """For which numbers of attempts it is told what rules solve with as many answers that decide from one attempt to
    the next whether there is another."""
    generalisation_loss: int = Field(default=0, ge=0)
    """On how many held-out demonstrations the cross-entropy is measured."""
    kl_to_start: int = Field(default=0, ge=0)
    """On how many episodes of each suite it is measured how far the policy has moved from `learner.model`: the mean
    over drawn tokens of how much likelier they have become. The model is held in memory and run on a core for it."""
    kl_every: int = Field(default=0, ge=0)
    """Behind every so many updates the same is measured of `kl_to_start` episodes of each suite that does not wait for
    the end, and told as `kl/SUITE` in the next row of `metrics.jsonl`, that of the iteration which begins with this
    policy; 0 for evaluations alone. `sft` pushes its weights for it."""
    regurgitation: bool = True
    """Whether answers are held against those of the demonstrations that the data section names, imitated or not."""

    @field_validator("suites", mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """A suite that a later file sets to null is left out."""
        return without_nulls(given)

    @model_validator(mode="after")
    def _measures_what_it_tells(self) -> Self:
        if self.kl_every and not self.kl_to_start:
            raise ValueError(f"kl_every={self.kl_every} needs kl_to_start, of how many episodes it is measured, as 40")
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        most = max([self.samples_per_task, *map(self.samples_of, self.suites)])
        if self.pass_at and max(self.pass_at) > most:
            raise ValueError(f"pass_at {max(self.pass_at)} needs samples_per_task of at least as many")
        return self

    def samples_of(self, suite: str) -> int:
        """How often each task of a suite is played."""
        return self.suites[suite].samples_per_task or self.samples_per_task

    def wanted(self, *, is_final: bool) -> list[tuple[str, float]]:
        """Each suite with each temperature that it is to be played at, the final policy at more than the others."""
        final = (*self.temperatures, *self.final_temperatures)
        always = tuple(dict.fromkeys(final if is_final else self.temperatures))
        at_end = self.temperatures if is_final else ()
        return [
            (name, temperature)
            for name, suite in self.suites.items()
            for temperature in (at_end if suite.only_at_end else always)
        ]

    def num_episodes(self, *, is_final: bool) -> int:
        """How many episodes that is."""
        played = [name for name, _ in self.wanted(is_final=is_final)]
        return sum(self.samples_of(name) * (self.suites[name].episodes or self.episodes) for name in played)


def without_nulls(given: Any) -> Any:
    """What is named and not null, where a later file leaves something out by that."""
    return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each option that is set, under its whole key."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
