"""Watch one episode of every environment, slips and verdicts included."""

import argparse
from pathlib import Path

from cluster.config import load_config
from envs.catalog import make_environment, summary
from rollout.console import RandomPlayer, picture_saver, play
from study.commands.play import told

ENVIRONMENT_CONFIGS = Path(__file__).parents[2] / "configs" / "envs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=Path, default=Path("runs/tour"), help="where pictures are saved")


def run(arguments: argparse.Namespace) -> int:
    for file in sorted(ENVIRONMENT_CONFIGS.glob("*.yaml")):
        config = load_config([file])
        print(f"\n{'━' * 100}\n{file.stem}: {summary(config.env.name)}\n")
        env = make_environment(config.env, config.verifier)
        saver = picture_saver(arguments.pictures, file.stem)
        print(told(play(env, RandomPlayer(3, revises=True), seed=1, split="train", show=print, save_pictures=saver)))
    print(f"\nThe pictures are in {arguments.pictures}. Play yourself: ruleshift play configs/envs/general_points.yaml")
    return 0
