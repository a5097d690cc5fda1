"""A run with Ray around it: what is started in here ends with the block."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cluster.config import Config, to_yaml
from cluster.planning.hardware import of_cluster
from cluster.planning.placement import Command, place, reserved
from cluster.record.console import Progress
from cluster.record.notices import written_to
from cluster.record.run_directory import RunDirectory
from cluster.session import StopRequest, ray_session, stop_signals
from cluster.training import Training


@contextmanager
def open_training(
    config: Config,
    kind: Command,
    resume: Path | None = None,
    at: Path | None = None,
    stop: StopRequest | None = None,
) -> Iterator[Training]:
    """A run with Ray around it: in a new directory, in the one that is resumed, or `at` one of either kind.

    Signals ask it to stop, unless someone else hears them and passes on `stop`.
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
    if kind != "evaluate" or resume is None:  # how a run is measured later is not how it goes on
        directory.write_config(to_yaml(config))
    with written_to(directory.log), closing(Progress(kind, config.cluster.iterations, log=directory.log)) as progress:
        progress.starts("Ray")
        with ray_session(config.cluster), ExitStack() as cleaning:
            stop = stop or cleaning.enter_context(stop_signals())
            placement = place(config, of_cluster(config), kind)
            progress.starts("when the cluster has room")
            placement = cleaning.enter_context(reserved(placement, config.cluster.start_timeout_seconds))
            run = Training(config, kind, directory, placement, stop, progress)
            run.begin(cleaning)
            yield run
