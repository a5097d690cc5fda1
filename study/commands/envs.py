"""List the environments, or every option of one."""

import argparse

from cluster.config import describe_options
from envs.catalog import environment_names, find_environment, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="an environment, to list its options")


def run(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        width = max(map(len, environment_names()))
        for name in environment_names():
            print(f"{name:{width}}  {summary(name)}")
        return 0
    module = find_environment(arguments.name)
    print((module.__doc__ or "").strip(), end="\n\n")
    print(describe_options(module.Config, "env."))
    return 0
