"""Write the report of a study, a run or several studies, from records alone: a page, figures and a table of numbers."""

import argparse
from pathlib import Path

from cluster.errors import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="STUDY_OR_RUN",
        help="a study's or a run's folder, or one that holds studies; several make one report, with a column for each",
    )
    parser.add_argument(
        "--out", type=Path, help="the folder of a report of several studies (default: the one they are in)"
    )


def run(arguments: argparse.Namespace) -> int:
    from study.report.build import build_report, build_tasks_report, studies_in  # with matplotlib

    folders, out = list(arguments.folders), arguments.out
    if len(folders) == 1 and (inner := studies_in(folders[0])):
        folders, out = inner, out or folders[0]
    if len(folders) == 1 and out is None:
        page, numbers = build_report(folders[0])
    elif out is None:
        raise RunError(
            f"report of {len(folders)} studies: name the folder for it, as --out {folders[0].parent / 'report'}"
        )
    else:
        page, numbers = build_tasks_report(folders, out)
    print("\n".join([*numbers, str(page)]))
    return 0
