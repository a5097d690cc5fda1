"""Train arms from one start at equal compute, over several seeds, and measure them all; stopped, it can go on."""

import argparse
import sys
from pathlib import Path

from cluster.config import load_words
from cluster.errors import ConfigError
from cluster.planning.plan import make_plan
from study.cells import Study
from study.commands import add_configuration, hardware_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="STUDY", help="the study's folder, new or begun")


def run(arguments: argparse.Namespace) -> int:
    config = load_words(arguments.overrides)
    hardware = hardware_of(config)
    make_plan(config, "compare", hardware).refuse()
    study = Study.of(config, arguments.out)
    # An arm that cannot run is told now, and not after an hour of the others; seeds differ in nothing that matters.
    for cell in {cell.name: cell for cell in study.cells}.values():
        try:
            make_plan(cell.planned_config, cell.command, hardware).refuse()
        except ConfigError as error:
            raise ConfigError(f"compare, {cell.name}: {error}") from None
    from study.compare import Stopped, compare

    try:
        folder = compare(study)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 130
    from study.report.build import build_report

    page, numbers = build_report(folder)
    print("\n".join([*numbers, str(page)]))
    return 0
