"""Print what makes a shell complete commands, files and options: eval "$(ruleshift completion bash)"."""

import argparse

from argcomplete.shell_integration import shellcode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete")


def run(arguments: argparse.Namespace) -> int:
    print(shellcode(["ruleshift"], shell=arguments.shell))
    return 0
