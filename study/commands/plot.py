"""Overlay runs and arms of studies: any recorded number against any other, as a picture and a drawing."""

import argparse
import re
from pathlib import Path

from cluster.errors import RunError

WINDOW = 7
"""Points that one smoothed point is made of, unless `--smooth` says otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of runs, or of studies")
    parser.add_argument(
        "--x",
        default="compute/flops",
        help="a column, as iteration, or SUITE/MEASURE, as in_distribution/success (default compute/flops)",
    )
    parser.add_argument(
        "--y",
        help="SUITE/MEASURE, or a column of metrics.jsonl, as learner/sft_loss (default: what the task is measured by, "
        "under the rule of training)",
    )
    parser.add_argument("--each", action="store_true", help="draw each seed of a study, and not their mean")
    parser.add_argument(
        "--ends", action="store_true", help="a point for the end of each arm and seed, one measure against another"
    )
    parser.add_argument("--temperature", type=float, help="of evaluations (default 1, where there is one)")
    parser.add_argument(
        "--smooth",
        nargs="?",
        type=int,
        const=WINDOW,
        metavar="POINTS",
        help=f"draw the line smoothed (Savitzky–Golay, order 3) over so many points (default {WINDOW})",
    )
    parser.add_argument("--out", type=Path, help="where to write, without ending (default RUN/plots/Y_by_X)")


def run(arguments: argparse.Namespace) -> int:
    window = arguments.smooth
    if window is not None and (window < 5 or window % 2 == 0):
        raise RunError(f"--smooth {window}: the number of points must be odd and at least 5, as {WINDOW}")
    from study.report.drawing import save
    from study.report.overlay import draw_overlay, overlay

    asked = arguments.folders, arguments.x, arguments.y, arguments.temperature
    drawn = overlay(*asked, each=arguments.each, ends=arguments.ends)
    ends = "_ends" if arguments.ends else ""
    name = re.sub(r"[^\w.-]+", "_", f"{arguments.y or 'headline'}_by_{arguments.x}{ends}")
    stem = arguments.out or arguments.folders[0] / "plots" / name
    for file in save(draw_overlay(drawn, window), stem):
        print(file)
    return 0
