"""Play an environment in the terminal: you answer, or an expert, a random player, or a model; the verifier judges."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from cluster.config import Config, load_config
from cluster.errors import RuleshiftError
from envs.catalog import make_environment
from envs.protocol import SPLITS, Env
from rollout.console import ExpertPlayer, HumanPlayer, Outcome, Player, RandomPlayer, picture_saver, play


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a YAML file, as configs/envs/add_up.yaml")
    parser.add_argument(
        "--as",
        dest="player",
        default="human",
        metavar="WHO",
        help="human, expert, random, or the folder of a model (default human)",
    )
    parser.add_argument("--seed", type=int, default=0, help="which episode (default 0)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which split of the tasks (default train)")
    parser.add_argument("--episodes", type=int, default=1, help="how many, with consecutive seeds (default 1)")
    parser.add_argument("--pictures", type=Path, default=Path("runs/play"), help="where pictures are saved")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options that differ, as env.target=30")


def run(arguments: argparse.Namespace) -> int:
    config = load_config([arguments.config], arguments.overrides)
    env = make_environment(config.env, config.verifier)
    with ExitStack() as cleaning:
        player_for = _players(arguments.player, config, cleaning)
        outcomes = _play_episodes(arguments, env, player_for)
    if len(outcomes) > 1:
        print(f"{sum(outcome.solved for outcome in outcomes)} of {len(outcomes)} episodes solved.")
    return 0


def _play_episodes(arguments: argparse.Namespace, env: Env, player_for: Callable[[int], Player]) -> list[Outcome]:
    outcomes = []
    for seed in range(arguments.seed, arguments.seed + arguments.episodes):
        player = player_for(seed)
        saver = picture_saver(arguments.pictures, f"{env.config.name}_{arguments.split}_{seed}")
        outcome = play(env, player, seed=seed, split=arguments.split, show=print, save_pictures=saver)
        print(told(outcome))
        outcomes.append(outcome)
        if outcome.gave_up:
            break
    return outcomes


def _players(who: str, config: Config, cleaning: ExitStack) -> Callable[[int], Player]:
    """Seed → player; a model is loaded once, and closed by `cleaning`."""
    if who == "human":
        return lambda seed: HumanPlayer(input, print)
    if who == "expert":
        return lambda seed: ExpertPlayer()
    if who == "random":
        return RandomPlayer
    if not (Path(who) / "config.json").is_file():
        raise RuleshiftError(
            f"--as {who}: neither human, expert or random, nor a folder with a model's config.json and weights"
        )
    from rollout.model_player import ModelPlayer  # with vLLM, which takes seconds to import

    model = cleaning.enter_context(ModelPlayer(Path(who), config.rollout))
    return lambda seed: model


def told(outcome: Outcome) -> str:
    """How an episode ended, in a line."""
    end = "given up" if outcome.gave_up else "solved" if outcome.solved else "not solved"
    answers = f"{outcome.num_answers} answer{'' if outcome.num_answers == 1 else 's'}"
    return f"\n═══ {end} after {answers}, reward {outcome.reward:+g}"
