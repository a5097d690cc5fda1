"""List the environments, or every option of one; or say what a folder of routes holds, and draw it."""

import argparse
from pathlib import Path

from cluster.config import describe_options
from cluster.errors import RuleshiftError
from envs.catalog import environment_names, find_environment, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="an environment, to list its options")
    parser.add_argument(
        "--check", type=Path, metavar="FOLDER", help="of route_navigation: what the data in FOLDER hold and leave out"
    )
    parser.add_argument("--picture", type=Path, help="where --check draws all routes (default runs/check/FOLDER.png)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check(arguments.name, arguments.check, arguments.picture)
    if arguments.name is None:
        width = max(map(len, environment_names()))
        for name in environment_names():
            print(f"{name:{width}}  {summary(name)}")
        return 0
    module = find_environment(arguments.name)
    print((module.__doc__ or "").strip(), end="\n\n")
    print(describe_options(module.Config, "env."))
    return 0


def _check(name: str | None, folder: Path, picture: Path | None) -> int:
    if name != "route_navigation":
        raise RuleshiftError(f"--check {folder}: only route_navigation reads a folder; envs route_navigation --check …")
    from envs._routes.check import check_folder
    from envs._routes.overview import draw_overview  # with Pillow's drawing

    report = check_folder(folder)
    print(report.describe())
    picture = picture or Path("runs/check") / f"{folder.resolve().name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_overview(folder, picture)
    print(f"All routes are drawn in {picture}")
    return 1 if report.left_out else 0
