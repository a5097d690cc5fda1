"""A run with Ray around it: what is started in here ends with the block."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cluster.config import Config, to_yaml
from cluster.errors import Stopped
from cluster.groups.crew import Crew
from cluster.leaving import again, leave, short_grace
from cluster.planning.hardware import of_cluster
from cluster.planning.placement import Command, place
from cluster.record.console import Progress
from cluster.record.disk import told_when_full
from cluster.record.notices import written_to
from cluster.record.run_directory import RunDirectory
from cluster.session import ray_session
from cluster.stopping import StopRequest, heard_by_waits, stop_signals
from cluster.training import Training
from rollout.weight_files import sweep


@contextmanager
def open_training(
    config: Config,
    kind: Command,
    resume: Path | None = None,
    at: Path | None = None,
    stop: StopRequest | None = None,
    crew: Crew | None = None,
) -> Iterator[Training]:
    """A run with Ray around it: in a new directory, in the one that is resumed, or `at` one of either kind.

    With a `crew` its processes are those that the last run has left, where they fit, and are left to the next one.
    Signals ask it to stop, unless someone else hears them and passes on `stop`; what can be kept is kept then, and
    Stopped is raised.
    """
    # In a job, joining Ray moves this process into another folder.
    model = str(Path(config.learner.model or "").resolve())
    config = config.model_copy(update={"learner": config.learner.model_copy(update={"model": model})})
    if resume is not None:
        directory = RunDirectory.open(resume.resolve())
    elif at is not None:
        directory = RunDirectory.at(at.resolve())
    else:
        directory = RunDirectory.create(Path(config.cluster.folder).resolve(), config.cluster.name)
    passed_on = stop is not None
    with ExitStack() as cleaning:
        cleaning.enter_context(told_when_full(directory.path))
        cleaning.enter_context(directory.held())
        stop = stop or cleaning.enter_context(stop_signals(config.cluster.stop_timeout_seconds))
        cleaning.enter_context(heard_by_waits(stop))
        if kind != "evaluate" or resume is None:  # how a run is measured later is not how it goes on
            directory.write_config(to_yaml(config))
        cleaning.enter_context(written_to(directory.log))
        progress = cleaning.enter_context(closing(Progress(kind, config.cluster.iterations, log=directory.log)))
        run: Training | None = None
        try:
            with stop.starting():
                cleaning.callback(sweep)
                progress.starts("Ray")
                cleaning.enter_context(ray_session(config.cluster))
                placement = place(config, of_cluster(config), kind)
                progress.starts("when the cluster has room")
                crew = crew or cleaning.enter_context(Crew(goes_on=False))
                placement = crew.room(placement, config.cluster.start_timeout_seconds)
                run = Training(config, kind, directory, placement, crew, stop, progress)
                run.begin(cleaning)
            if told := short_grace(config.cluster):
                progress.say(told)
            yield run
        except KeyboardInterrupt:
            stop.is_closing = True
            told = "it had not begun" if run is None else leave(run, stop)
            # Who passes on a request knows how to go on.
            raise Stopped(f"stopped, {told}" + ("" if passed_on else f"; {again(kind, directory.path)}")) from None
