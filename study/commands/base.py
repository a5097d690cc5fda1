"""Make a nano base model from a recipe, as configs/nano/bases/gp_l.yaml.

ruleshift base configs/nano/bases/gp_l.yaml models/nano_gp_l
ruleshift base configs/nano/bases/gp_l.yaml models/nano_gp_l_64 shape.hidden_size=64 shape.intermediate_size=176
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what to change of the recipe")


def run(arguments: argparse.Namespace) -> int:
    from study.nano.base import make_base  # with torch
    from study.nano.recipe import load_recipe

    make_base(load_recipe(arguments.recipe, arguments.overrides), arguments.out)
    return 0
