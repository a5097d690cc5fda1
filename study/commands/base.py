"""Make a nano base model from a recipe, as configs/nano/bases/gp_l.yaml."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file")
    parser.add_argument("out", type=Path, help="the folder to make")


def run(arguments: argparse.Namespace) -> int:
    from study.nano.base import make_base  # with torch
    from study.nano.recipe import load_recipe

    make_base(load_recipe(arguments.recipe), arguments.out)
    return 0
