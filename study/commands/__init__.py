"""What each command takes, and what it checks before anything starts: a file for each.

Every file has `add_arguments(parser)` and `run(arguments)`, whose result is the exit status; its first docstring is
what `ruleshift COMMAND --help` says. What a command needs beyond that is imported when it runs.
"""

import argparse
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


def hardware_of(config: "Config") -> "Hardware":
    """On a cluster, the hosts may be other than the one that this command runs on; Ray has the last word there."""
    from cluster.planning.hardware import described, look

    return described(config) if config.cluster.num_nodes > 1 or config.cluster.address else look()
