"""Write demonstrations for imitation, and say what is in them.

data section of CONFIG, or --from-llava FILE  ─▶  demonstrations  ─▶  not in the evaluation?  ─▶  OUT
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from cluster.config import load_config
from cluster.errors import ConfigError
from envs.catalog import make_environment
from envs.protocol import Env, EnvConfig
from envs.splits import SplitConfig
from learner.demonstrations.demonstration import Demonstration, DemonstrationConfig, DemonstrationError
from learner.demonstrations.files import pictures_folder, write_demonstrations
from learner.demonstrations.llava import read_llava, write_llava
from learner.demonstrations.make import make_demonstrations
from learner.demonstrations.overlap import Task, checked, task_of
from verifier.config import VerifierConfig

SECONDS_BETWEEN_SIGNS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a YAML file, as configs/data/general_points_expert.yaml")
    parser.add_argument("out", type=Path, help="the file to write; pictures go into OUT.pictures beside it")
    parser.add_argument("--force", action="store_true", help="write OUT even where it exists")
    parser.add_argument("--llava", action="store_true", help="write LLaVA's format, a JSON list of dialogues")
    parser.add_argument("--from-llava", type=Path, metavar="FILE", help="read dialogues in LLaVA's format; play none")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where the pictures of --from-llava are")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options that differ, as data.count=50")


def run(arguments: argparse.Namespace) -> int:
    config = load_config([arguments.config], arguments.overrides)
    return write_data(config.env, config.verifier, config.data, arguments)


def write_data(
    env_config: EnvConfig,
    verifier_config: VerifierConfig,
    data: DemonstrationConfig,
    arguments: argparse.Namespace,
    show: Callable[[str], None] = print,
) -> int:
    """Write OUT and show a summary; raises ConfigError for whatever the user can mend."""
    out: Path = arguments.out
    if out.is_dir() or (out.exists() and not arguments.force):
        fix = "name a file in it" if out.is_dir() else "add --force to write it anew, or choose another name"
        raise ConfigError(f"{out}: exists already; {fix}")
    if arguments.images and not arguments.from_llava:
        raise ConfigError(f"--images {arguments.images}: only --from-llava reads pictures from a folder; leave it out")
    env = make_environment(env_config, verifier_config)
    summary = _Summary()
    try:
        found = _demonstrations(env, data, arguments)
        check = _why_unchecked(env_config, data, arguments)
        if not check:
            found = checked(found, env_config)
        found = _with_progress(summary.counting(found), sys.stderr)
        if arguments.llava:
            write_llava(out, found)
        else:
            write_demonstrations(out, found, _options(env_config, verifier_config, data, arguments))
    except DemonstrationError as error:
        raise ConfigError(error) from None
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another place") from None
    show(summary.text(out, check or "none of them is held out for the evaluation"))
    return 0


def _demonstrations(env: Env, data: DemonstrationConfig, arguments: argparse.Namespace) -> Iterator[Demonstration]:
    if arguments.from_llava:
        return read_llava(arguments.from_llava, env, arguments.images)
    return make_demonstrations(env, data)


def _why_unchecked(env_config: EnvConfig, data: DemonstrationConfig, arguments: argparse.Namespace) -> str:
    """Why an overlap with the evaluation is no fault here; empty where it would be one."""
    if isinstance(env_config, SplitConfig) and env_config.splits == "none":
        return "may be in the evaluation too, since env.splits=none holds nothing out"
    is_played = not arguments.from_llava and data.file is None
    if is_played and data.split != "train":
        return f"of the {data.split} split, so they measure learning; do not train on them"
    return ""


def _options(
    env_config: EnvConfig, verifier_config: VerifierConfig, data: DemonstrationConfig, arguments: argparse.Namespace
) -> dict[str, Any]:
    """What the file's first line tells of its origin."""
    sections = {"env": env_config, "verifier": verifier_config, "data": data}
    options: dict[str, Any] = {name: section.model_dump(mode="json") for name, section in sections.items()}
    if arguments.from_llava:
        options["data"] = {"from_llava": str(arguments.from_llava)}
    return options


@dataclass(slots=True)
class _Summary:
    """What passed through."""

    num: int = 0
    num_corrupted: int = 0
    num_turns: int = 0
    num_imitated: int = 0
    envs: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    tasks: set[Task] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)

    def counting(self, demonstrations: Iterable[Demonstration]) -> Iterator[Demonstration]:
        """The same demonstrations, counted."""
        for demonstration in demonstrations:
            self.num += 1
            self.num_corrupted += demonstration.provenance.is_corrupted
            self.num_turns += len(demonstration.turns)
            self.num_imitated += sum(turn.is_learned for turn in demonstration.turns)
            self.envs[demonstration.env] += 1
            self.kinds[demonstration.provenance.kind] += 1
            self.outcomes.update(turn.verdict.outcome for turn in demonstration.turns)
            self.tasks.add(task_of(demonstration))
            self.pictures.update(demonstration.pictures)
            yield demonstration

    def text(self, out: Path, check: str) -> str:
        """A table of two columns."""
        rows = {
            "kind": _listed(self.kinds) + (f", {self.num_corrupted:,} corrupted" if self.num_corrupted else ""),
            "answers": f"{self.num_turns:,}, of which {self.num_imitated:,} are imitated",
            "outcomes": _listed(self.outcomes),
            "tasks": f"{len(self.tasks):,} distinct; {check}",
        }
        if self.pictures:
            rows["pictures"] = f"{len(self.pictures):,} in {pictures_folder(out)}"
        title = f"{out}: {self.num:,} demonstrations of {', '.join(self.envs)}"
        return "\n".join([title, *(f"  {name:9} {value}" for name, value in rows.items())])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _with_progress(demonstrations: Iterable[Demonstration], stream: TextIO) -> Iterator[Demonstration]:
    """The same demonstrations; a line on the terminal counts them."""
    started = told = time.monotonic()
    for number, demonstration in enumerate(demonstrations, start=1):
        yield demonstration
        now = time.monotonic()
        if stream.isatty() and now - told > SECONDS_BETWEEN_SIGNS:
            told = now
            print(
                f"\r{number:,} demonstrations, {number / (now - started):,.0f} a second",
                end="",
                file=stream,
                flush=True,
            )
    if told > started:
        print("\r\033[K", end="", file=stream, flush=True)
