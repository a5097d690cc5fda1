"""Measure a run's checkpoints, or a model, on the suites of its configuration."""

import argparse
import os
import sys
from pathlib import Path

from cluster.config import load_words
from cluster.errors import ConfigError
from cluster.planning.plan import make_plan
from cluster.record.notices import held
from cluster.record.ticking import waiting
from study.commands import CONFIG_WORDS, add_configuration, on_hardware
from study.commands.train import of_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, needed=False, metavar=f"RUN|{CONFIG_WORDS}")
    parser.add_argument(
        "--all-checkpoints",
        action="store_true",
        help="measure every checkpoint that the run kept, not only the newest",
    )


def run(arguments: argparse.Namespace) -> int:
    folders = [word for word in arguments.overrides if os.path.isdir(word)]
    if len(folders) > 1:
        raise ConfigError(f"{', '.join(folders)}: name one run at a time")
    words = [word for word in arguments.overrides if word not in folders]
    config = of_run(Path(folders[0]), words) if folders else load_words(words)
    with on_hardware(config) as hardware:
        make_plan(config, "evaluate", hardware).refuse()
        with waiting("evaluate | loads its libraries", sys.stderr), held():
            from cluster.evaluate_runs import evaluate_model, evaluate_run
        if folders:
            evaluate_run(config, Path(folders[0]), every=arguments.all_checkpoints)
        else:
            evaluate_model(config)
    return 0
