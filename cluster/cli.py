"""The command line.

    ruleshift envs [NAME]                        what can be asked, and with which options
    ruleshift play CONFIG --as human|expert|random|MODEL_DIR   play an environment in the terminal
    ruleshift tour                               watch one episode of every environment
    ruleshift city OUT --style … --routes N      write a synthetic city for route_navigation
    ruleshift plan CONFIG … [key=value …]        say what a run will be, and refuse what cannot run
    ruleshift rl CONFIG … [key=value …]          train by play
    ruleshift sft CONFIG … [key=value …]         train by imitation
    ruleshift evaluate RUN | CONFIG …            measure a run's checkpoints, or a model
    ruleshift compare CONFIG … --out STUDY       train arms from one start at equal compute, and measure them all
    ruleshift report STUDY|RUN …                 the report of a study or a run, from its records alone
    ruleshift plot RUN … --x … --y …             overlay any runs on any axis
    ruleshift data CONFIG OUT                    write demonstrations for imitation
    ruleshift base RECIPE OUT                    make a nano base model from a recipe
    ruleshift doctor                             prove that this machine can roll out and adopt weights
    ruleshift bench verifier|envs|rollout|sync|learner|loop   measure, print a table and one line of JSON

Each command is a function, below or in `cluster/commands/`: its arguments come parsed, its result is the exit status.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from cluster.bench import BENCHES
from cluster.bench import run as run_bench
from cluster.commands.data import add_data_arguments, write_data
from cluster.commands.doctor import examine
from cluster.commands.plan import add_plan_arguments, plan
from cluster.commands.report import add_plot_arguments, add_report_arguments, plot, report
from cluster.commands.run import (
    add_compare_arguments,
    add_evaluate_arguments,
    add_run_arguments,
    run_compare,
    run_evaluate,
    run_rl,
    run_sft,
)
from cluster.config import Config, describe_options, load_config
from cluster.errors import RuleshiftError
from envs._city.styles import STYLES
from envs.catalog import environment_names, find_environment, make_environment, summary
from envs.protocol import SPLITS, Env, EnvError
from learner.demonstration import DemonstrationError
from rollout.console import ExpertPlayer, HumanPlayer, Outcome, Player, RandomPlayer, picture_saver, play
from verifier.rewards import UnknownOutcome

ENVIRONMENT_CONFIGS = Path(__file__).parents[1] / "configs" / "envs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; mistakes of the user's are told in one line each, with exit status 2."""
    parsed = _parse(arguments)
    try:
        return parsed.command(parsed)
    except (RuleshiftError, EnvError, UnknownOutcome, DemonstrationError) as error:
        print(f"ruleshift: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        # A reader that has seen enough, such as `head`, is no failure; Python would complain again at exit.
        sys.stderr.close()
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse stops taking positionals at the first option after them; overrides may stand anywhere."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    takes_overrides = hasattr(parsed, "overrides")
    unknown = [argument for argument in rest if argument.startswith("-") or not takes_overrides]
    if unknown:
        parser.error(f"unrecognised: {' '.join(unknown)} (see ruleshift --help)")
    if takes_overrides:
        parsed.overrides += rest
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ruleshift", description="Does a model learn the rule, or the training set?")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    envs = _add(commands, "envs", _envs, "list the environments, or the options of one")
    envs.add_argument("name", nargs="?", help="an environment, to list its options")
    player = _add(commands, "play", _play, "play an environment in the terminal")
    player.add_argument("config", type=Path, help="a YAML file, as configs/envs/add_up.yaml")
    player.add_argument(
        "--as",
        dest="player",
        default="human",
        metavar="WHO",
        help="human, expert, random, or the folder of a model (default human)",
    )
    player.add_argument("--seed", type=int, default=0, help="which episode (default 0)")
    player.add_argument("--split", choices=SPLITS, default="train")
    player.add_argument("--episodes", type=int, default=1, help="how many episodes, with consecutive seeds")
    player.add_argument("--pictures", type=Path, default=Path("runs/play"), help="where pictures are saved")
    player.add_argument("overrides", nargs="*", metavar="key=value", help="options that differ, as env.target=30")
    tour = _add(commands, "tour", _tour, "watch one episode of every environment, slips and verdicts included")
    tour.add_argument("--pictures", type=Path, default=Path("runs/tour"), help="where pictures are saved")
    city = _add(commands, "city", _city, "write a synthetic city in the format of the original's routes")
    city.add_argument("out", type=Path, help="the folder to make")
    city.add_argument("--style", required=True, help=f"one of {', '.join(STYLES)}")
    city.add_argument("--routes", type=int, default=20, help="how many routes (default 20)")
    city.add_argument("--seed", type=int, default=0)
    city.add_argument("--no-pictures", action="store_true", help="leave the street views out, for routes in words")
    _add(commands, "doctor", _doctor, "prove that this machine can roll out and adopt weights")
    add_plan_arguments(_add(commands, "plan", plan, "say what a run will be, and refuse what cannot run"))
    add_run_arguments(_add(commands, "rl", run_rl, "train a policy by play"))
    add_run_arguments(_add(commands, "sft", run_sft, "train a policy by imitation"))
    add_evaluate_arguments(_add(commands, "evaluate", run_evaluate, "measure a run's checkpoints, or a model"))
    add_compare_arguments(_add(commands, "compare", run_compare, "train arms at equal compute and measure them"))
    add_report_arguments(_add(commands, "report", report, "write the report of a study or a run from its records"))
    add_plot_arguments(_add(commands, "plot", plot, "overlay any runs on any axis"))
    add_data_arguments(_add(commands, "data", _data, "write demonstrations for imitation, and say what is in them"))
    base = _add(commands, "base", _base, "make a nano base model from a recipe, as configs/nano/base.yaml")
    base.add_argument("recipe", type=Path, help="a YAML file")
    base.add_argument("out", type=Path, help="the folder to make")
    bench = _add(commands, "bench", _bench, "measure, print a table and one line of JSON")
    bench.add_argument("what", choices=BENCHES)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description, description=description)
    parser.set_defaults(command=command)
    return parser


def _envs(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        width = max(map(len, environment_names()))
        for name in environment_names():
            print(f"{name:{width}}  {summary(name)}")
        return 0
    module = find_environment(arguments.name)
    print((module.__doc__ or "").strip(), end="\n\n")
    print(describe_options(module.Config, "env."))
    return 0


def _play(arguments: argparse.Namespace) -> int:
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
        print(_told(outcome))
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


def _told(outcome: Outcome) -> str:
    end = "given up" if outcome.gave_up else "solved" if outcome.solved else "not solved"
    answers = f"{outcome.num_answers} answer{'' if outcome.num_answers == 1 else 's'}"
    return f"\n═══ {end} after {answers}, reward {outcome.reward:+g}"


def _tour(arguments: argparse.Namespace) -> int:
    for file in sorted(ENVIRONMENT_CONFIGS.glob("*.yaml")):
        config = load_config([file])
        print(f"\n{'━' * 100}\n{file.stem}: {summary(config.env.name)}\n")
        env = make_environment(config.env, config.verifier)
        saver = picture_saver(arguments.pictures, file.stem)
        print(_told(play(env, RandomPlayer(3, revises=True), seed=1, split="train", show=print, save_pictures=saver)))
    print(f"\nThe pictures are in {arguments.pictures}. Play yourself: ruleshift play configs/envs/general_points.yaml")
    return 0


def _city(arguments: argparse.Namespace) -> int:
    from envs._city.build import build_city  # with numpy, which playing in words does not need

    if arguments.style not in STYLES:
        raise RuleshiftError(f"--style {arguments.style}: there is no such style; there are {', '.join(STYLES)}")
    try:
        built = build_city(
            arguments.out,
            style=arguments.style,
            num_routes=arguments.routes,
            seed=arguments.seed,
            pictures=not arguments.no_pictures,
        )
    except (FileExistsError, ValueError) as error:
        raise RuleshiftError(error) from None
    print(f"{arguments.out}: {built}")
    return 0


def _data(arguments: argparse.Namespace) -> int:
    config = load_config([arguments.config], arguments.overrides)
    return write_data(config.env, config.verifier, config.data, arguments)


def _base(arguments: argparse.Namespace) -> int:
    from cluster.study.nano_base import load_recipe, make_base  # with torch

    make_base(load_recipe(arguments.recipe), arguments.out)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    return examine(print)


def _bench(arguments: argparse.Namespace) -> int:
    run_bench(arguments.what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
