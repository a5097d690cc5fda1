"""Train arms from one start at equal compute, over several seeds, and measure them all; stopped, it can go on."""

import argparse
import sys
from pathlib import Path

from cluster.config import load_words
from cluster.record.notices import held
from cluster.record.ticking import waiting
from study.cells import Study
from study.commands import add_configuration, on_hardware
from study.plan_study import plan_study, render_cells, render_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="STUDY", help="the study's folder, new or begun")
    parser.add_argument(
        "--dry-run", action="store_true", help="check every cell, print what each takes, and start nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    study = Study.of(load_words(arguments.overrides), arguments.out)
    if not made(study, is_dry=arguments.dry_run):
        return 0
    from study.report.build import build_report

    page, numbers = build_report(study.folder)
    print("\n".join([*numbers, str(page)]))
    return 0


def made(study: Study, *, is_dry: bool) -> bool:
    """Check every cell, then make all that are missing; if it `is_dry`, say what each takes instead."""
    with on_hardware(study.config, is_dry=is_dry) as hardware:
        # An arm that cannot run is told now, and not after an hour of the others.
        plan = plan_study(study, hardware)
        if is_dry:
            print(f"{render_study(plan)}\n\n{render_cells(study)}", flush=True)
        plan.refuse()
        if is_dry:
            return False
        with waiting("study | loads its libraries", sys.stderr), held():
            from study.compare import compare
        compare(study)
    return True
