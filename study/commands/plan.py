"""Say what a run will be, and refuse what cannot run, without starting anything."""

import argparse
from typing import get_args

from cluster.config import load_words, to_yaml
from cluster.planning.hardware import described, look
from cluster.planning.placement import Command
from cluster.planning.plan import make_plan
from cluster.planning.plan_text import render
from study.commands import add_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument("--for", dest="planned", choices=get_args(Command), default="rl", help="of what (default rl)")
    parser.add_argument("--yaml", action="store_true", help="print the resolved configuration first")
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="plan for the machines that cluster.* describes, and for a model or data that need not be here",
    )


def run(arguments: argparse.Namespace) -> int:
    config = load_words(arguments.overrides)
    if arguments.yaml:
        print(to_yaml(config))
    hardware = described(config) if arguments.elsewhere else look()
    made = make_plan(config, arguments.planned, hardware, elsewhere=arguments.elsewhere)
    print(render(made), flush=True)
    made.refuse()
    return 0
