"""The command line: `ruleshift COMMAND …`, each command a file of `study/commands/`.

Only the file of the command that is asked for is imported, so that help comes at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from cluster.errors import Stopped
from cluster.record.disk import told_when_full

GROUPS = {
    "try out": {
        "envs": "list the environments, or every option of one",
        "play": "play an environment in the terminal, or watch an expert or a model play it",
        "tour": "watch one episode of every environment",
        "city": "write a synthetic city for route_navigation",
    },
    "train": {
        "plan": "say what a run will be, and refuse what cannot run",
        "rl": "train a policy by play",
        "sft": "train a policy by imitation",
        "evaluate": "measure a run's checkpoints, or a model",
    },
    "study": {
        "compare": "train arms from one start at equal compute, and measure them all",
        "questions": "list what studies ask and what was found, or ask one",
        "report": "write the report of a study or a run from its records",
        "plot": "overlay any runs on any axis",
    },
    "make": {
        "data": "write demonstrations for imitation",
        "base": "make a nano base model from a recipe",
    },
    "this machine": {
        "doctor": "prove that this machine can roll out and adopt weights",
        "bench": "measure how fast it is",
        "chaos": "strike runs at random moments, and see what comes of them",
        "completion": "have a shell complete commands, files and options",
    },
}
"""Every command and what it does, by what one wants."""
COMMANDS = {name: told for group in GROUPS.values() for name, told in group.items()}
FILES = {"rl": "train", "sft": "train"}
"""Where a command's file bears another name."""
NAMES_AT_FAULT = (errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What an operating system answers where the name that a user gave is the mistake."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; mistakes of the user's are told in one line each, with exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    parsed = _parse(words)
    try:
        with told_when_full():
            return _file(parsed.command).run(parsed)
    except _mistakes() as error:
        print(f"ruleshift: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"ruleshift: {stopped}", file=sys.stderr)
        return 130
    except (KeyboardInterrupt, BrokenPipeError):
        # A reader that has seen enough, such as `head`, is no failure; Python would complain again at exit.
        sys.stderr.close()
        return 130
    except OSError as error:
        if error.filename is None or error.errno not in NAMES_AT_FAULT:
            raise
        reason = (error.strerror or "cannot be written").lower()
        print(f"ruleshift: {error.filename}: {reason}; name another place, or make room there", file=sys.stderr)
        return 2


def _mistakes() -> tuple[type[Exception], ...]:
    """What a user can do wrong; asked for, and so imported, only once something has gone wrong."""
    from cluster.errors import RuleshiftError
    from envs.protocol import EnvError
    from learner.demonstrations.demonstration import DemonstrationError
    from verifier.config import UnknownOutcome

    return RuleshiftError, EnvError, UnknownOutcome, DemonstrationError


def _parse(words: list[str]) -> argparse.Namespace:
    """argparse stops taking positionals at the first option after them; overrides may stand anywhere."""
    completes = "_ARGCOMPLETE" in os.environ
    parser = _parser(list(COMMANDS) if completes else words[:1])
    if completes:
        import argcomplete

        argcomplete.autocomplete(parser)
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        near = get_close_matches(words[0], COMMANDS, n=1)
        parser.error(f"{words[0]}: no such command; {f'did you mean {near[0]}?' if near else 'see ruleshift --help'}")
    parsed, rest = parser.parse_known_args(words)
    takes_overrides = hasattr(parsed, "overrides")
    unknown = [word for word in rest if word.startswith("-") or not takes_overrides]
    if unknown:
        parser.error(f"unrecognised: {' '.join(unknown)} (see ruleshift {parsed.command} --help)")
    if takes_overrides:
        parsed.overrides += rest
    return parsed


def _parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """With the arguments of the commands that are wanted, and the names of all."""
    parser = argparse.ArgumentParser(
        prog="ruleshift",
        description="Does a model learn the rule, or the training set?",
        epilog=_listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ruleshift COMMAND …",
    )
    commands = parser.add_subparsers(
        prog="ruleshift", dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for name in COMMANDS:
        if name not in wanted:
            commands.add_parser(name)
            continue
        file = _file(name)
        told = file.__doc__.strip()
        added = commands.add_parser(name, description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
        file.add_arguments(added)
    return parser


def _listing() -> str:
    groups = (
        "\n".join([f"{title}:", *(f"  {name:<11} {told}" for name, told in group.items())])
        for title, group in GROUPS.items()
    )
    return "\n\n".join([*groups, "ruleshift COMMAND --help says what a command takes."])


def _file(command: str) -> Any:
    return import_module(f"study.commands.{FILES.get(command, command)}")


if __name__ == "__main__":
    sys.exit(main())
