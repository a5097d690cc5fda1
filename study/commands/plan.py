"""Say what a run will be, and refuse what cannot run, without starting anything."""

import argparse
from pathlib import Path
from typing import get_args

from cluster.config import load_words, to_yaml
from cluster.planning.hardware import described, look
from cluster.planning.placement import Command
from cluster.planning.plan import make_plan
from cluster.planning.plan_text import render
from study.cells import Study, arm_alone
from study.commands import add_arm, add_configuration
from study.plan_study import plan_study, render_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    add_arm(parser)
    parser.add_argument("--for", dest="planned", choices=get_args(Command), default="rl", help="of what (default rl)")
    parser.add_argument("--yaml", action="store_true", help="print the resolved configuration first")
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="plan for the machines that cluster.* describes, and for a model or data that need not be here",
    )


def run(arguments: argparse.Namespace) -> int:
    words, arm = arguments.overrides, arguments.arm
    config = arm_alone(words, arm, arguments.planned) if arm else load_words(words)
    if arguments.yaml:
        print(to_yaml(config))
    hardware = described(config) if arguments.elsewhere else look()
    if arguments.planned == "compare":
        planned = plan_study(Study.of(config, Path(config.cluster.folder)), hardware, elsewhere=arguments.elsewhere)
        print(render_study(planned), flush=True)
        planned.refuse()
        return 0
    made = make_plan(config, arguments.planned, hardware, elsewhere=arguments.elsewhere)
    print(render(made), flush=True)
    made.refuse()
    return 0
