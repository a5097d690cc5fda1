"""Measure, print a table and one line of JSON."""

import argparse

from study.bench import BENCHES
from study.bench import run as run_bench


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=BENCHES, help="what is measured")


def run(arguments: argparse.Namespace) -> int:
    run_bench(arguments.what)
    return 0
