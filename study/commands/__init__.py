"""What each command takes, and what it checks before anything starts: a file for each.

Every file has `add_arguments(parser)` and `run(arguments)`, whose result is the exit status; its first docstring is
what `ruleshift COMMAND --help` says. What a command needs beyond that is imported when it runs.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.config import Config
    from cluster.planning.hardware import Hardware

CONFIG_WORDS = "CONFIG|key=value"


def add_configuration(parser: argparse.ArgumentParser, *, needed: bool = True, metavar: str = CONFIG_WORDS) -> None:
    """YAML files, left to right, and options that differ; they may stand before, between and behind other options."""
    told = "YAML files, left to right, and options that differ, as configs/smoke.yaml env.max_attempts=3"
    words: Any = parser.add_argument("overrides", nargs="+" if needed else "*", metavar=metavar, help=told)
    words.completer = _completed


def _completed(prefix: str, **_: Any) -> list[str]:
    """The files and keys that a word in the shell may become."""
    from argcomplete.completers import FilesCompleter

    from cluster.config import Config, options_in
    from envs.catalog import environment_names, find_environment

    sections: list[tuple[str, Any]] = [(name, field.annotation) for name, field in Config.model_fields.items()]
    sections += [("env", find_environment(name).Config) for name in environment_names()]
    keys = {key for name, section in sections for key, _ in options_in(section, f"{name}.")}
    return [*FilesCompleter()(prefix), *sorted(f"{key}=" for key in keys if key.startswith(prefix))]


def add_arm(parser: argparse.ArgumentParser) -> None:
    """One run of a study, alone."""
    parser.add_argument("--arm", metavar="ARM", help="run with the options of compare.arms.ARM, or of compare.init")


@contextmanager
def on_hardware(config: "Config", *, is_dry: bool = False) -> Iterator["Hardware"]:
    """What a command runs on: this machine, or the Ray cluster, which is joined while the block runs.

    Its hosts may be other than the one of this process. A dry run joins nothing, and goes by what `cluster.*` says of
    them.
    """
    from cluster.planning.hardware import described, joins, look, of_cluster
    from cluster.record.notices import held
    from cluster.record.ticking import waiting

    if is_dry or not joins(config.cluster):
        yield described(config) if config.cluster.num_nodes > 1 or joins(config.cluster) else look()
        return
    with ExitStack() as cleaning:
        with waiting("joins the Ray cluster", sys.stderr), held():
            from cluster.session import ray_session

            cleaning.enter_context(ray_session(config.cluster))
            hardware = of_cluster(config)
        yield hardware
