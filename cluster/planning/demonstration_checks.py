"""Whether the tasks can be played at all: the expert plays one of training and one of each suite, and is judged.

    demonstration_findings(config)   →  Finding, …   where the expert fails
    left_out_routes(config)          →  a line for each data set of which a part cannot be played

An environment and a verifier may each be right and not go together: then no demonstration can be made, and no answer
earns what a right one should. Better told now than when every engine has started.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from cluster.config import Config, suite_environments
from cluster.faults import Finding
from cluster.planning.asked import every_environment
from envs.catalog import make_environment
from envs.mixture import Config as MixtureConfig
from envs.mixture import rules_by_key
from envs.protocol import EnvConfig, EnvError, Split
from rollout.console import ExpertPlayer, play
from verifier.config import UnknownOutcome, VerifierConfig


def demonstration_findings(config: Config, *, elsewhere: bool = False) -> Iterator[Finding]:
    """Of every environment whose expert fails; a data set that need not be here, and is not, is left alone."""
    tasks: dict[str, tuple[EnvConfig, VerifierConfig, Split, int]] = {}
    for key, (env, verifier) in rules_by_key("env", config.env, config.verifier).items():
        tasks[key] = (env, verifier, "train", config.cluster.first_seed)
    for name, (env, verifier) in suite_environments(config).items():
        suite, first = config.evaluation.suites[name], config.evaluation.first_seed
        for key, rules in rules_by_key(f"evaluation.suites.{name}.env", env, verifier).items():
            tasks[key] = (*rules, suite.split, first)
    for key, (env, verifier, split, seed) in tasks.items():
        dataset = getattr(env, "dataset", None)
        if dataset and elsewhere and not Path(dataset).exists():
            continue
        if told := _why_not(_Task(_in_short(env), verifier, split, seed)):
            yield Finding(key=f"{key}.name", value=env.name, rule=told[0], fix=told[1])


def left_out_routes(config: Config) -> Iterator[str]:
    """A line for each folder of routes of which some cannot be played, pictures considered."""
    folders: dict[str, tuple[EnvConfig, VerifierConfig]] = {}
    for env, verifier in every_environment(config).values():
        if dataset := getattr(env, "dataset", None):
            folders.setdefault(dataset, (env, verifier))
    for dataset, (env, verifier) in folders.items():
        if left_out := getattr(make_environment(env, verifier), "left_out", ()):
            yield (
                f"{dataset}: routes that are left out: {len(left_out)}; the first is number {left_out[0].number}: "
                f"{left_out[0].reason}. `ruleshift envs route_navigation --check {dataset}` lists them"
            )


class _Task:
    """What is played. The cells of a study mostly ask alike: one that is told from no other is played once."""

    def __init__(self, env: EnvConfig, verifier: VerifierConfig, split: Split, seed: int) -> None:
        self.env, self.verifier, self.seed = env, verifier, seed
        self.split: Split = split
        self._identity = (env.model_dump_json(), verifier.model_dump_json(), split, seed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Task) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def _in_short(env: EnvConfig) -> EnvConfig:
    """The same tasks with less work: routes in words, since their pictures change no answer."""
    if isinstance(env, MixtureConfig):
        short = {name: part.model_copy(update={"env": _in_short(part.env)}) for name, part in env.parts.items()}
        return env.model_copy(update={"parts": short})
    if env.name != "route_navigation":
        return env
    drawn = getattr(env, "modality", "text") == "pictures"
    if drawn and (city := getattr(env, "city", None)):
        env = env.model_copy(update={"city": city.model_copy(update={"num_routes": city.routes(pictures=True)})})
    return env.model_copy(update={"modality": "text"})


@lru_cache(maxsize=256)
def _why_not(task: _Task) -> tuple[str, str] | None:
    """What is wrong and what to do, or None where the expert is right."""
    heard: list[str] = []
    try:
        env = make_environment(task.env, task.verifier)
        outcome = play(
            env, ExpertPlayer(), seed=task.seed, split=task.split, show=heard.append, save_pictures=lambda _: []
        )
    except UnknownOutcome:
        return None  # a finding of its own
    except EnvError as error:
        return f"the first task of its {task.split} split cannot be asked: {error}", "change its options, or the data"
    if outcome.solved:
        return None
    verdict = next(said for said in heard if said.startswith("→")).partition(" ·")[0]
    return (
        f"the expert's own answers do not solve the task of seed {task.seed}, {task.split} split, under "
        f"verifier.preset={task.verifier.preset}; the first is judged {verdict}",
        "take the options of environment and verifier that go together, as those of configs/paper/ do, or look at it: "
        "ruleshift play CONFIG --as expert",
    )
