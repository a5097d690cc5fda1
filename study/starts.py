"""What arms start from: the end of `init` or of another arm, or what either was behind an iteration.

    start_of("init@20", …)  →  Start(name="init", step=20)
    in_order(compare)       →  the arms, each behind the one that it starts from

A run of whose iterations others start keeps and measures what it was there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.compare_options import INIT, ArmConfig, CompareConfig
from cluster.config import Config
from cluster.errors import ConfigError
from cluster.faults import hint

KEY = "start"
"""What a sweep calls it: `{start: [init@10, init@20]}`."""


@dataclass(frozen=True, slots=True)
class Start:
    """A run, and behind which of its iterations; None for its end."""

    name: str
    step: int | None


def start_of(said: str | None, key: str, compare: CompareConfig) -> Start | None:
    """What an option says; None for `learner.model`. Raises ConfigError where there is no such run."""
    if said is None:
        return Start(INIT, None) if compare.init is not None else None
    found = re.fullmatch(r"([\w.-]+)(?:@(\d+))?", str(said))
    known = [*([INIT] if compare.init is not None else []), *compare.arms]
    if found is None or found[1] not in known:
        raise ConfigError(
            f"{key}={said}: names no run to start from; {hint(str(said), known, 'there are')}; behind one of its "
            "iterations it is written as init@20"
        )
    return Start(found[1], None if found[2] is None else int(found[2]))


def swept_starts(compare: CompareConfig) -> tuple[str, ...]:
    """The starts that a sweep tries, all of them of `init`."""
    starts = tuple(compare.sweep.get(KEY, ()))
    for said in starts:
        found = start_of(said, f"compare.sweep.{KEY}", compare)
        if found is None or found.name != INIT:
            raise ConfigError(f"compare.sweep.{KEY}={said}: a sweep tries starts of init, as init@10 and init@20")
    return starts


def in_order(compare: CompareConfig) -> Iterator[tuple[str, ArmConfig]]:
    """The arms, each behind the one that it starts from; raises ConfigError where arms start from each other."""
    left, begun = dict(compare.arms), {INIT}
    while left:
        ready = [
            name for name, arm in left.items() if (start := _of(name, arm, compare)) is None or start.name in begun
        ]
        if not ready:
            raise ConfigError(f"compare.arms: {', '.join(left)} start from each other; let one of them start from init")
        for name in ready:
            yield name, left.pop(name)
            begun.add(name)


def steps_of(name: str, compare: CompareConfig) -> tuple[int, ...]:
    """Behind which iterations of a run others start."""
    own = [_of(arm, options, compare) for arm, options in compare.arms.items()]
    swept = [start_of(said, f"compare.sweep.{KEY}", compare) for said in swept_starts(compare)]
    starts = (swept or own) if name == INIT else own
    return tuple(sorted({start.step for start in starts if start and start.name == name and start.step is not None}))


def kept(steps: tuple[int, ...]) -> Mapping[str, Any]:
    """What a run of which others start does besides: it keeps what it was, and is measured there."""
    return {"export_at": [step for step in steps if step], "evaluate_at": list(steps)} if steps else {}


def check_steps(name: str, config: Config, steps: tuple[int, ...]) -> None:
    """Raise ConfigError where a run never comes to an iteration that others start from."""
    last = config.cluster.iterations
    if steps and steps[-1] > last:
        raise ConfigError(
            f"{name}@{steps[-1]}: {name} has {last} iterations; start from one of them, or raise its cluster.iterations"
        )


def _of(name: str, arm: ArmConfig, compare: CompareConfig) -> Start | None:
    return start_of(arm.start, f"compare.arms.{name}.start", compare)
