"""Write a synthetic city in the format of the original's routes, for route_navigation."""

import argparse
from pathlib import Path
from typing import get_args

from cluster.errors import RuleshiftError
from envs._city.names import Pairs
from envs._city.styles import STYLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    width = max(map(len, STYLES))
    described = "\n".join(f"  {name:{width}}  {style.description}" for name, style in STYLES.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"styles:\n{described}"
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--style", required=True, help="one of those below")
    parser.add_argument("--routes", type=int, default=20, help="how many routes (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="which city of that style (default 0)")
    parser.add_argument("--look", choices=STYLES, metavar="STYLE", help="whose houses, sky and signs, if not its own")
    parser.add_argument("--pairs", choices=get_args(Pairs), default="all", help="of emblem and colour (default all)")
    parser.add_argument("--panorama-width", type=int, default=1024, help="pixels around the horizon (default 1024)")
    parser.add_argument("--no-pictures", action="store_true", help="leave the street views out, for routes in words")


def run(arguments: argparse.Namespace) -> int:
    from envs._city.build import build_city  # with numpy, which playing in words does not need

    if arguments.style not in STYLES:
        raise RuleshiftError(f"--style {arguments.style}: there is no such style; there are {', '.join(STYLES)}")
    try:
        built = build_city(
            arguments.out,
            style=arguments.style,
            num_routes=arguments.routes,
            seed=arguments.seed,
            look=arguments.look,
            pairs=arguments.pairs,
            panorama_width=arguments.panorama_width,
            pictures=not arguments.no_pictures,
        )
    except (FileExistsError, ValueError) as error:
        raise RuleshiftError(error) from None
    print(f"{arguments.out}: {built}")
    return 0
