"""What each command takes, and what it checks before anything starts: a file for each.

Every file has `add_arguments(parser)` and `run(arguments)`, whose result is the exit status; its first docstring is
what `ruleshift COMMAND --help` says. What a command needs beyond that is imported when it runs.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.config import Config
    from cluster.planning.hardware import Hardware

CONFIG_WORDS = "CONFIG|key=value"


def add_configuration(parser: argparse.ArgumentParser, *, needed: bool = True, metavar: str = CONFIG_WORDS) -> None:
    """YAML files, left to right, and options that differ; they may stand before, between and behind other options."""
    told = "YAML files, left to right, and options that differ, as configs/smoke.yaml env.max_attempts=3"
    parser.add_argument("overrides", nargs="+" if needed else "*", metavar=metavar, help=told)


def hardware_of(config: "Config") -> "Hardware":
    """On a cluster, the hosts may be other than the one that this command runs on; Ray has the last word there."""
    from cluster.planning.hardware import described, look

    return described(config) if config.cluster.num_nodes > 1 or config.cluster.address else look()
