"""Write the report of a study or a run, from its records alone: a page, figures and a table of numbers."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="STUDY_OR_RUN", help="a study's or a run's folder")


def run(arguments: argparse.Namespace) -> int:
    from study.report.build import build_report  # with matplotlib

    for folder in arguments.folders:
        page, numbers = build_report(folder)
        print("\n".join([*numbers, str(page)]))
    return 0
