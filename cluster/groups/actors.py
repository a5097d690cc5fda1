"""Both groups of a run, and the weights that go from the one to the other.

Actors(config, placement, crew, chat, say).begin(cleaning)
  .play(tasks, env, verifier, config)  ⇢  (Played, reference), each task once
  .learner                                under `at_work` where it steps, saves or loads
  .push()                              →  PushReport: the workers have the learner's weights, and it is shown
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from cluster.config import Config
from cluster.groups.crew import Crew
from cluster.groups.engine_watch import EngineWatch, Observe
from cluster.groups.health import Health
from cluster.groups.learner_group import EpisodesLost, LearnerDied, LearnerGroup
from cluster.groups.rollout_group import RolloutGroup
from cluster.groups.weight_sync import PushReport, WeightSync
from cluster.groups.worker_lives import WorkerLives
from cluster.groups.worker_states import Launcher, Limits
from cluster.planning.placement import Placement
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from rollout.play import Round, Task
from rollout.probe import make_probe
from rollout.receivers import Receivers
from rollout.transcript import ChatTokens
from rollout.worker import Played
from verifier.config import VerifierConfig

NOTHING = -1
"""The version that workers have of a learner that has sent them none."""


class Actors:
    """The rollout workers and the learner's ranks."""

    def __init__(
        self, config: Config, placement: Placement, crew: Crew, chat: ChatTokens, say: Callable[[str], None]
    ) -> None:
        """The `crew` is what a run before has left, and has what this one leaves."""
        cluster = config.cluster
        self._config, self._placement, self._crew, self._say = config, placement, crew, say
        self._model = Path(config.learner.model or "")
        self._health = Health(cluster.health_timeout_seconds, say)
        self._lives = WorkerLives(
            Launcher(
                model=self._model,
                config=config.rollout,
                resources=placement.rollout_options,
                prefix=f"{cluster.name}-rollout",
                crew=crew,
            ),
            Limits(
                base=cluster.num_workers,
                least=cluster.least_workers,
                most=cluster.most_workers,
                restarts=cluster.max_worker_restarts,
                start_seconds=cluster.start_timeout_seconds,
                step_seconds=cluster.step_timeout_seconds,
            ),
            adopt=self._sync_to,
            health=self._health,
            say=say,
        )
        self._rollouts = RolloutGroup(self._lives, say)
        self._probe = make_probe(
            _vocabulary(self._model),
            forbidden_token_ids=chat.forbidden_token_ids,
            picture_token_id=chat.image_token_id,
        )
        self._num_learners = 0
        self._pushed_version = NOTHING
        self.learner: LearnerGroup
        self._sync: WeightSync

    def begin(self, cleaning: ExitStack, starts: Callable[[str], None]) -> None:
        """Start both groups at the same time; `starts` is told what is waited for."""
        cleaning.push(lambda error, *_raised: self._lives.close(stay=error is None and self._may_stay))
        cleaning.callback(self._health.close)
        self._lives.begin()
        if self._config.rollout.engine.sleeps:
            # An engine takes its share of the memory that it finds free as it starts.
            starts("rollout engines")
            self._lives.wait()
        starts("learner ranks" if self._config.rollout.engine.sleeps else "learner ranks and rollout engines")
        try:
            self.start_learner()
        except LearnerDied as error:
            self._say(f"{error} All learner ranks are started once more.")
            self.start_learner()
        cleaning.push(lambda error, *_raised: self._end_learner(stays=error is None and self._may_stay))
        starts("rollout engines")
        self._lives.wait()
        self._lives.welcome()

    def watched(self, observe: Observe) -> EngineWatch:
        """From here on `observe` hears now and then what each worker says of itself."""
        return EngineWatch(lambda: self._lives.started, observe)

    def start_learner(self) -> None:
        """Start all ranks, in the place of any that there were."""
        if self._num_learners and hasattr(self, "learner"):
            self.learner.close()
        self._num_learners += 1  # names are not free at once, of those that did not start either
        with self._rollouts.asleep():
            self.learner = LearnerGroup.start(
                self._config.learner,
                self._config.rollout.temperature,
                resources=self._placement.learner_options,
                threads=self._placement.learner_threads,
                timeout_seconds=self._config.cluster.step_timeout_seconds,
                start_seconds=self._config.cluster.start_timeout_seconds,
                prefix=f"{self._config.cluster.name}-learner{'-again' * (self._num_learners - 1)}",
                health=self._health,
                crew=self._crew,
            )
        engine = self._config.rollout.engine
        self._sync = WeightSync(self.learner, self._probe, backend=engine.weight_transfer, dtype=engine.dtype)
        self._rest()
        self._pushed_version = NOTHING

    def play(
        self, tasks: Sequence[Task], env: EnvConfig, verifier: VerifierConfig, config: RolloutConfig
    ) -> Generator[tuple[Played, Any], None, None]:
        """Each task's summary and the reference of its episode, once; new workers are given the newest weights. Closed
        before its end, it asks for no more."""
        return self._rollouts.play(tasks, env, verifier, config)

    def play_rounds(self, tasks: Sequence[Task], rounds: Mapping[str, Round]) -> Iterator[tuple[Played, Any]]:
        """The same of tasks of several rounds at once."""
        config = self._config
        return self._rollouts.play(tasks, config.env, config.verifier, config.rollout, rounds)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The learner has what it needs to step, and the GPUs that it shares."""
        with self._rollouts.asleep():
            if self._config.rollout.engine.sleeps:
                self._pushed_version = NOTHING  # engines that sleep have no weights
            if self._config.learner.rests:
                self.learner.work()
            try:
                yield
            except EpisodesLost:  # nothing was learned, and engines have to play once more
                self._rest()
                raise
            self._rest()

    def _rest(self) -> None:
        if self._config.learner.rests:
            self.learner.rest()

    def restore(self, folder: Path) -> None:
        """Have the learner go on from what was saved of it; the workers know nothing of that."""
        with self.at_work():
            self.learner.restore(folder)
        self._pushed_version = NOTHING

    @property
    def workers_are_behind(self) -> bool:
        """Whether the workers lack the learner's newest weights."""
        return self.learner.version() != self._pushed_version

    def push(self) -> PushReport:
        """Give all workers the learner's weights."""
        report = self._rollouts.give(self._sync.push)
        self._pushed_version = report.sync.version
        return report

    def end_play(self) -> None:
        """What is played is dropped, and nothing is played any more."""
        self._lives.close()

    @property
    def _may_stay(self) -> bool:
        """What takes turns on a GPU is started anew: what one leaves there the other has no room for."""
        return self._crew.goes_on and not self._config.rollout.engine.sleeps

    def _end_learner(self, *, stays: bool) -> None:
        if stays:
            self.learner.leave(self._crew)  # whichever it is by then
        else:
            self.learner.close()

    def _sync_to(self, workers: Receivers) -> None:
        self._sync.push(workers)


def _vocabulary(model: Path) -> int:
    config = AutoConfig.from_pretrained(model)
    return (getattr(config, "text_config", None) or config).vocab_size
