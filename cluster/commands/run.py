"""`ruleshift rl`, `sft`, `evaluate` and `compare`: what they take, and what is checked before anything starts."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from cluster.config import Config, describe_options, load_config, load_words
from cluster.errors import ConfigError
from cluster.planning.hardware import Hardware, described, look
from cluster.planning.placement import Command
from cluster.planning.plan import make_plan
from cluster.planning.plan_text import render
from cluster.planning.resume_checks import resume_findings
from cluster.study.cells import cell_config, cells_of


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What `rl` and `sft` take."""
    parser.add_argument(
        "overrides", nargs="*", metavar="CONFIG|key=value", help="YAML files, left to right, and options"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run, from its newest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--options", action="store_true", help="list every option and start nothing")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """What `evaluate` takes."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN|CONFIG|key=value",
        help="the folder of a run, or YAML files; and options that differ",
    )
    parser.add_argument(
        "--all-checkpoints",
        action="store_true",
        help="measure every checkpoint that the run kept, not only the newest",
    )


def run_rl(arguments: argparse.Namespace) -> int:
    """`ruleshift rl`."""
    return _train(arguments, "rl")


def run_sft(arguments: argparse.Namespace) -> int:
    """`ruleshift sft`."""
    return _train(arguments, "sft")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """`ruleshift evaluate`."""
    folders = [word for word in arguments.overrides if Path(word).is_dir()]
    if len(folders) > 1:
        raise ConfigError(f"{', '.join(folders)}: name one run at a time")
    words = [word for word in arguments.overrides if word not in folders]
    config = _of_run(Path(folders[0]), words) if folders else load_words(words)
    make_plan(config, "evaluate", _hardware(config)).refuse()
    from cluster.evaluate_runs import evaluate_model, evaluate_run

    if folders:
        evaluate_run(config, Path(folders[0]), every=arguments.all_checkpoints)
    else:
        evaluate_model(config)
    return 0


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """What `compare` takes."""
    parser.add_argument(
        "overrides", nargs="+", metavar="CONFIG|key=value", help="YAML files, left to right, and options"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="STUDY", help="the study's folder, new or begun")


def run_compare(arguments: argparse.Namespace) -> int:
    """`ruleshift compare`."""
    config = load_words(arguments.overrides)
    hardware = _hardware(config)
    make_plan(config, "compare", hardware).refuse()
    # An arm that cannot run is told now, and not after an hour of the others; its start need not exist yet.
    for cell in {cell.name: cell for cell in cells_of(config.compare)}.values():
        try:
            make_plan(cell_config(config, cell, None), cell.options.command, hardware).refuse()
        except ConfigError as error:
            raise ConfigError(f"compare, {cell.name}: {error}") from None
    from cluster.compare import Stopped, compare

    try:
        study = compare(config, arguments.out)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 130
    from cluster.report.build import build_report

    page, numbers = build_report(study)
    print("\n".join([*numbers, str(page)]))
    return 0


def _train(arguments: argparse.Namespace, command: Command) -> int:
    if arguments.options:
        print("\n".join(describe_options(Config.model_fields[name].annotation, f"{name}.") for name in _SECTIONS))  # pyright: ignore
        print("env.*: see `ruleshift envs NAME`")
        return 0
    config = _of_run(arguments.resume, arguments.overrides) if arguments.resume else load_words(arguments.overrides)
    made = make_plan(config, command, _hardware(config))
    if arguments.resume:
        made = replace(made, findings=(*made.findings, *resume_findings(config, arguments.resume)))
    if arguments.dry_run:
        print(render(made), flush=True)
    made.refuse()
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.dry_run:
        return 0
    if command == "rl":
        from cluster.train_rl import train_rl as train
    else:
        from cluster.train_sft import train_sft as train
    print(train(config, arguments.resume))
    return 0


def _hardware(config: Config) -> Hardware:
    """On a cluster, the hosts may be other than the one that this command runs on; Ray has the last word there."""
    return described(config) if config.cluster.num_nodes > 1 or config.cluster.address else look()


_SECTIONS = ("verifier", "rollout", "learner", "data", "evaluation", "cluster", "compare")


def _of_run(run: Path, overrides: list[str]) -> Config:
    """The configuration that a run was started with, and what differs now."""
    file = run / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{run}: this is not the folder of a run, since it has no config.yaml")
    return load_config([file], overrides)
