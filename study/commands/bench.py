"""Measure, print a table and one line of JSON.

ruleshift bench learner --shape qwen2.5-vl-7b    an update as wide as that model's, each saving switched off once
ruleshift bench scale --workers 1024             the driver beside as many stand-ins for engines
"""

import argparse

from cluster.errors import ConfigError
from study.bench import BENCHES
from study.bench import run as run_bench

MEASURED = tuple(name for name in BENCHES if name != "shape")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=MEASURED, help="what is measured")
    parser.add_argument("--shape", help="of `learner`: a public model's widths, cut to as many layers as fit")
    parser.add_argument("--tokens", type=int, help="and tokens in a micro-batch, 8192 where not given")
    parser.add_argument("--dialogues", type=int, help="and dialogues in an update, 48 where not given")
    parser.add_argument("--workers", type=int, help="of `scale`: how many, 1024 where not given")
    parser.add_argument("--iterations", type=int, help="and how many iterations, 50 where not given")


def run(arguments: argparse.Namespace) -> int:
    of_shape = _given(tokens=arguments.tokens, num_dialogues=arguments.dialogues)
    of_scale = _given(workers=arguments.workers, iterations=arguments.iterations)
    if any(size < 1 for size in {**of_shape, **of_scale}.values()):
        raise ConfigError("--tokens, --dialogues, --workers and --iterations count from 1")
    if of_scale and arguments.what != "scale":
        raise ConfigError(f"--workers and --iterations are of `bench scale`; `bench {arguments.what}` has none")
    if arguments.shape is None:
        if of_shape:
            raise ConfigError("--tokens and --dialogues are of a shape; name one with --shape")
        run_bench(arguments.what, **of_scale)
        return 0
    from study.bench.shapes import SHAPES

    if arguments.what != "learner":
        raise ConfigError(f"--shape={arguments.shape}: `bench {arguments.what}` has no shapes; `bench learner` has")
    if arguments.shape not in SHAPES:
        raise ConfigError(f"--shape={arguments.shape}: no such shape; there are {', '.join(SHAPES)}")
    run_bench("shape", shape=arguments.shape, **of_shape)
    return 0


def _given(**sizes: int | None) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size is not None}
