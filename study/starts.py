"""What arms start from: the end of `init` or of another arm, or what either was behind an iteration.

    start_of("init@20", …)  →  Start(name="init", step=20)
    in_order(compare)       →  the arms, each behind those that it needs

A run of whose iterations others start keeps and measures what it was there. An arm may learn from another's policy too,
as `learner.distillation.teacher: policy:sft`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.compare_options import INIT, ArmConfig, CompareConfig
from cluster.config import Config
from cluster.errors import ConfigError
from cluster.faults import hint

KEY = "start"
"""What a sweep calls it: `{start: [init@10, init@20]}`."""
TEACHER = "policy:"
"""Before the name of the run whose policy teaches."""


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


def teacher_of(arm: ArmConfig, key: str, compare: CompareConfig) -> Start | None:
    """Whose policy the arm learns from, where that is another run's."""
    said = ((arm.options.get("learner") or {}).get("distillation") or {}).get("teacher")
    if not str(said).startswith(TEACHER):
        return None
    return start_of(str(said).removeprefix(TEACHER), f"{key}.options.learner.distillation.teacher", compare)


def swept_starts(compare: CompareConfig) -> tuple[str, ...]:
    """The starts that a sweep tries, all of them of `init`."""
    starts = tuple(compare.sweep.get(KEY, ()))
    own = [name for name, arm in compare.arms.items() if arm.start is not None]
    if starts and own:
        raise ConfigError(
            f"compare.sweep.{KEY}: {own[0]} has a start of its own, {compare.arms[own[0]].start}; leave that out, or "
            "give the other arms starts of their own instead of the sweep"
        )
    for said in starts:
        found = start_of(said, f"compare.sweep.{KEY}", compare)
        if found is None or found.name != INIT:
            raise ConfigError(f"compare.sweep.{KEY}={said}: a sweep tries starts of init, as init@10 and init@20")
    return starts


def in_order(compare: CompareConfig) -> Iterator[tuple[str, ArmConfig]]:
    """The arms, each behind those that it needs; raises ConfigError where they need each other."""
    left, begun = dict(compare.arms), {INIT}
    while left:
        ready = [name for name, arm in left.items() if {each.name for each in _needs(name, arm, compare)} <= begun]
        if not ready:
            raise ConfigError(f"compare.arms: {', '.join(left)} start from each other; let one of them start from init")
        for name in ready:
            yield name, left.pop(name)
            begun.add(name)


def steps_of(name: str, compare: CompareConfig) -> tuple[int, ...]:
    """Behind which iterations of a run others start or are taught."""
    swept = [start_of(said, f"compare.sweep.{KEY}", compare) for said in swept_starts(compare)]
    needed = [each for arm, options in compare.arms.items() for each in _needs(arm, options, compare)]
    return tuple(
        sorted({each.step for each in (*swept, *needed) if each and each.name == name and each.step is not None})
    )


def keeping(name: str, config: Config, steps: tuple[int, ...]) -> Config:
    """What a run does of which others start: it keeps what it was, and is measured there. Raises ConfigError where it
    never comes to that."""
    if not steps:
        return config
    cluster = config.cluster
    if steps[-1] > cluster.iterations:
        raise ConfigError(
            f"{name}@{steps[-1]}: {name} has {cluster.iterations} iterations; start from one of them, or raise its "
            "cluster.iterations"
        )
    exported, measured = {*cluster.export_at, *steps} - {0}, {*cluster.evaluate_at, *steps}
    added = {"export_at": tuple(sorted(exported)), "evaluate_at": tuple(sorted(measured))}
    return config.model_copy(update={"cluster": cluster.model_copy(update=added)})


def _needs(name: str, arm: ArmConfig, compare: CompareConfig) -> list[Start]:
    key = f"compare.arms.{name}"
    needed = (start_of(arm.start, f"{key}.{KEY}", compare), teacher_of(arm, key, compare))
    return [each for each in needed if each is not None]
