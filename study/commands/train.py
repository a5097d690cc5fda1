"""Train a policy by play (rl) or by imitation (sft).

ruleshift rl CONFIG --resume auto    one run of cluster.name, begun or gone on with: for jobs that are started again
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from cluster.config import Config, describe_options, load_config, load_words
from cluster.errors import ConfigError
from cluster.planning.plan import make_plan
from cluster.planning.plan_text import render
from cluster.planning.resume_checks import changes, resume_findings
from cluster.record.notices import held
from cluster.record.run_directory import RunDirectory
from cluster.record.ticking import waiting
from study.cells import arm_alone
from study.commands import add_arm, add_configuration, on_hardware

AUTO = Path("auto")
LENGTH = {"cluster.iterations", "cluster.budget"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, needed=False)
    add_arm(parser)
    told = "go on with a run, from its newest checkpoint; auto: with cluster.folder/cluster.name, which may be new"
    parser.add_argument("--resume", type=Path, metavar="RUN|auto", help=told)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--options", action="store_true", help="list every option and start nothing")


def run(arguments: argparse.Namespace) -> int:
    if arguments.options:
        sections = {name: field.annotation for name, field in Config.model_fields.items() if name != "env"}
        print("\n".join(describe_options(section, f"{name}.") for name, section in sections.items()))  # pyright: ignore
        print("env.*: see `ruleshift envs NAME`")
        return 0
    config = _config(arguments)
    at = Path(config.cluster.folder, config.cluster.name) if arguments.resume == AUTO else None
    before = at if at and (at / "config.yaml").is_file() else None if at else arguments.resume
    with on_hardware(config, is_dry=arguments.dry_run) as hardware:
        made = make_plan(config, arguments.command, hardware)
        if before:
            made = replace(made, findings=(*made.findings, *resume_findings(config, before)))
        if arguments.dry_run:
            print(render(made), flush=True)
        made.refuse()
        changed = changes(config, at) if at else {}
        for note in (*made.notes, *changed.values()):
            print(f"note: {note}", file=sys.stderr)
        if arguments.dry_run:
            return 0
        if at and not changed.keys() & LENGTH and (ended := RunDirectory(at).ended_after) is not None:
            print(f"{at}: has ended, after iteration {ended}; nothing is done", file=sys.stderr)
            return 0
        with waiting(f"{arguments.command} | loads its libraries", sys.stderr), held():
            if arguments.command == "rl":
                from cluster.train_rl import train_rl as train
            else:
                from cluster.train_sft import train_sft as train
        print(train(config, at=at) if at else train(config, arguments.resume))
    return 0


def _config(arguments: argparse.Namespace) -> Config:
    words = arguments.overrides
    if arguments.resume and arguments.resume != AUTO:
        return of_run(arguments.resume, words)  # whose configuration is that of its arm already
    return arm_alone(words, arguments.arm, arguments.command) if arguments.arm else load_words(words)


def of_run(folder: Path, overrides: list[str]) -> Config:
    """The configuration that a run was started with, and what differs now."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{folder}: this is not the folder of a run, since it has no config.yaml")
    return load_config([file], overrides)
