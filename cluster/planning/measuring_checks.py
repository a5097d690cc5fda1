"""What cannot be measured, and by what no checkpoint can be chosen: a part of the rules in checks.py."""

from collections.abc import Iterator
from importlib.util import find_spec

from cluster.config import Config, suite_shifts
from cluster.faults import Finding, hint, note
from cluster.measuring.choosing import LOSS, best_metric, measures_of, split_name
from cluster.planning.placement import Command


def measuring_findings(config: Config, command: Command) -> Iterator[Finding]:
    """Suites, the measure of the best checkpoint, and where metrics go."""
    cluster, evaluation = config.cluster, config.evaluation
    by_itself = cluster.evaluate_at_start or cluster.evaluate_at_end or cluster.evaluate_every
    measures = by_itself or command in ("evaluate", "compare")
    if measures and not evaluation.suites:
        yield Finding(
            key="evaluation.suites",
            value={},
            rule="there is nothing to evaluate on",
            fix="name a suite, as evaluation.suites.in_distribution={}, or set cluster.evaluate_at_start=false and "
            "cluster.evaluate_at_end=false",
        )
    if cluster.best_metric is not None:
        yield from _named_metric(config, "cluster.best_metric", cluster.best_metric)
    elif command != "evaluate" and (cluster.evaluate_every or cluster.evaluations or command == "compare"):
        yield from _default_metric(config)
    for name in cluster.until:
        yield from _until(config, name)
    if evaluation.samples_per_task > 1 and 0 in evaluation.temperatures:
        yield note(
            "evaluation.temperatures",
            evaluation.temperatures,
            f"at 0 all evaluation.samples_per_task={evaluation.samples_per_task} samples of a task are alike",
            "leave 0 out, or sample once",
        )
    packages = {"tensorboard": cluster.tracking.tensorboard, "wandb": cluster.tracking.wandb_project}
    for package, option in packages.items():
        key = "cluster.tracking." + ("wandb_project" if package == "wandb" else package)
        if option and find_spec(package) is None:
            yield Finding(key=key, value=option, rule=f"{package} is not installed", fix=f"run `pip install {package}`")


def _named_metric(config: Config, key: str, name: str) -> Iterator[Finding]:
    """Where it names no suite, or no measure of that suite that is better when higher, or when lower."""
    suites, (suite, measure) = config.evaluation.suites, split_name(name)
    known = measures_of(config, suite) if suite in suites else ()
    rule = fix = ""
    if suite not in suites:
        rule = f"no suite is called '{suite}'" if measure else "names no suite, as in in_distribution/success"
        fix = hint(suite, list(suites), "the suites are")
    elif measure == LOSS and not config.evaluation.generalisation_loss:
        rule, fix = "is not measured", "set evaluation.generalisation_loss to a number of demonstrations, as 200"
    elif measure not in known:
        rule = f"no measure of {suite} that can choose is called '{measure}'" if measure else "names no measure"
        fix = hint(measure, known, "there are")
    if rule:
        yield Finding(key=key, value=name, rule=rule, fix=fix)
    elif suite_shifts(config)[suite] != "none":
        yield note(
            key,
            name,
            f"the checkpoint is chosen by a suite that shifts the {_shifted(config, suite)}, which is nothing new "
            "to it then",
            "choose by a suite under the training rule",
        )


def _until(config: Config, name: str) -> Iterator[Finding]:
    """What never ends a run, or ends it by what it is told by."""
    key, suite, cluster = f"cluster.until.{name}", split_name(name)[0], config.cluster
    yield from _named_metric(config, key, name)
    if suite in config.evaluation.suites and config.evaluation.suites[suite].only_at_end:
        fix = f"set evaluation.suites.{suite}.only_at_end=false"
        yield Finding(key=key, value=cluster.until[name], rule="the suite is only measured at the end", fix=fix)
    if not (cluster.evaluate_every or cluster.evaluate_at or (cluster.budget and cluster.evaluations)):
        yield Finding(
            key=key,
            value=cluster.until[name],
            rule="nothing is measured on the way",
            fix="set cluster.evaluate_every, as 10, or cluster.evaluate_at",
        )


def _default_metric(config: Config) -> Iterator[Finding]:
    chosen = best_metric(config)
    if chosen is not None and config.evaluation.suites[chosen.suite].split == "test":
        yield note(
            "cluster.best_metric",
            None,
            f"{chosen.name} chooses the best checkpoint on tasks of the test split, so that what is told of it there "
            "is too good",
            "add a suite as evaluation.suites.validation={split: validation}, or name the measure",
        )


def _shifted(config: Config, suite: str) -> str:
    shift = suite_shifts(config)[suite]
    return "task" if shift == "other" else shift
