"""What a run will be, before anything starts: who sits where, how much it learns from, what it needs, whether it can.

    make_plan(config, command, hardware)   →  Plan        pure, without torch, Ray or vLLM
    plan.refuse()                             raises ConfigError with every reason, where it cannot run
    check(config, hardware, command)       →  findings    the rules alone, without memory and compute

`cluster.planning.plan_text.render` writes a plan for a terminal.
"""

from dataclasses import dataclass

from cluster.config import Config
from cluster.errors import ConfigError
from cluster.faults import Finding
from cluster.planning.architecture import Architecture
from cluster.planning.checks import check, steps_per_iteration
from cluster.planning.compute import Work, traffic_at_most, work_of
from cluster.planning.disk_checks import disk_findings
from cluster.planning.hardware import Hardware
from cluster.planning.memory import Cache, Memory, cache_of, memory_of
from cluster.planning.memory_checks import memory_findings
from cluster.planning.model_checks import architecture_of
from cluster.planning.placement import Command, Placement, place
from envs.mixture import Config as MixtureConfig
from envs.protocol import EnvConfig
from verifier.config import VerifierConfig

__all__ = ["Batch", "Plan", "Work", "check", "make_plan"]

SEGMENTS_OF_A_DATASET = 8
"""How many segments a route is taken to have where its file is not read; those of the paper have up to so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How much an iteration learns from."""

    num_tasks: int
    """Different tasks."""
    num_episodes: int
    """Episodes, or demonstrations."""
    contexts_per_episode: int
    """Dialogues that an episode may begin, at most."""
    num_answers: int
    """Answers of all episodes, at most."""
    num_tokens: int
    """Tokens of all dialogues, at most."""
    steps_per_iteration: int
    """Optimizer steps."""
    num_steps: int
    """Optimizer steps of the whole run."""
    num_evaluations: int
    """How often all suites are played."""
    episodes_per_evaluation: int
    """Episodes of all suites, temperatures and samples."""
    episodes_at_end: int
    """Those more that the evaluation at the end has: its own temperatures, and suites that are played only there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is known beforehand."""

    command: Command
    config: Config
    hardware: Hardware
    placement: Placement
    batch: Batch
    architecture: Architecture | None
    """None where the model cannot be read; memory and work are empty then."""
    memory: tuple[Memory, ...]
    cache: Cache | None
    """Room for keys and values in each engine."""
    work: tuple[Work, ...]
    """Of one iteration."""
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Why it cannot run."""
        return tuple(finding for finding in self.findings if finding.is_fatal)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What may not be meant."""
        return tuple(finding for finding in self.findings if not finding.is_fatal)

    def refuse(self) -> None:
        """Raise ConfigError with all reasons, if there is one."""
        if self.refusals:
            raise ConfigError("\n".join(map(str, self.refusals)))


def make_plan(config: Config, command: Command, hardware: Hardware, *, elsewhere: bool = False) -> Plan:
    """The plan; `elsewhere` takes it that this is not the machine that will run it."""
    placement = place(config, hardware, command)
    batch = _batch(config)
    findings = check(config, hardware, command, elsewhere=elsewhere)
    architecture = architecture_of(config, elsewhere=elsewhere)
    memory: tuple[Memory, ...] = ()
    cache, work = None, ()
    if architecture is not None:
        cache = cache_of(config, architecture, hardware)
        work = tuple(work_of(config, command, architecture, batch))
        if command != "evaluate" and not elsewhere:
            findings = (*findings, *disk_findings(config, architecture))
        # What a device holds means nothing where there is no such device; that is a finding already.
        if None not in placement.hosts and hardware.num_gpus >= placement.num_gpus:
            traffic = traffic_at_most(config, architecture, batch, batch.num_episodes)
            memory = memory_of(config, architecture, placement, hardware, traffic)
            of_memory = tuple(memory_findings(config, memory, cache))
            findings = tuple(sorted((*findings, *of_memory), key=lambda finding: not finding.is_fatal))
    return Plan(
        command=command,
        config=config,
        hardware=hardware,
        placement=placement,
        batch=batch,
        architecture=architecture,
        memory=memory,
        cache=cache,
        work=work,
        findings=findings,
    )


def contexts_at_most(env: EnvConfig) -> int:
    """How many dialogues an episode may begin: one, or one for each place of a route."""
    if isinstance(env, MixtureConfig):
        return max(contexts_at_most(part.env) for part in env.parts.values())
    parts = getattr(env, "straight_line_length", None)
    if parts is None:
        return 1
    city = getattr(env, "city", None)
    segments = SEGMENTS_OF_A_DATASET if getattr(env, "dataset", None) or city is None else city.num_turns[1] + 1
    # Each segment has a place between every two of its parts, and a turn or the destination at its end.
    return segments * parts + 1


def attempts_at_most(env: EnvConfig) -> int:
    """How many answers a question may get, one that is punished unread included."""
    if isinstance(env, MixtureConfig):
        return max(attempts_at_most(asked) for asked, _ in env.rules(VerifierConfig()).values())
    asks_unscored = getattr(env, "unscored_last_attempt", False) or getattr(env, "preset", "") == "paper"
    return env.max_attempts + int(asks_unscored)


def _batch(config: Config) -> Batch:
    cluster, evaluation = config.cluster, config.evaluation
    contexts = contexts_at_most(config.env)
    episodes = cluster.episodes_per_iteration
    steps = steps_per_iteration(config)
    on_the_way, at_the_end = (evaluation.num_episodes(is_final=is_final) for is_final in (False, True))
    due = {0} if cluster.evaluate_at_start else set()
    due |= {cluster.iterations} if cluster.evaluate_at_end else set()
    if cluster.evaluate_every:
        due |= set(range(cluster.evaluate_every, cluster.iterations + 1, cluster.evaluate_every))
    due |= {iteration for iteration in cluster.evaluate_at if iteration <= cluster.iterations}
    return Batch(
        num_tasks=episodes // cluster.samples_per_task,
        num_episodes=episodes,
        contexts_per_episode=contexts,
        num_answers=episodes * contexts * attempts_at_most(config.env),
        num_tokens=episodes * contexts * config.rollout.engine.max_context_tokens,
        steps_per_iteration=steps,
        num_steps=steps * cluster.iterations,
        num_evaluations=len(due),
        episodes_per_evaluation=on_the_way,
        episodes_at_end=at_the_end - on_the_way,
    )
