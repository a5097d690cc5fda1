"""What cannot run, or hardly does what was meant, although every option is right by itself.

    check(config, hardware, command)   →  all findings at once: what is fatal first, then notes

The rules stand below and, for models, placements and what is measured, in model_checks.py, placement_checks.py and
measuring_checks.py.
"""

from collections.abc import Iterator
from pathlib import Path

from cluster.config import Config, SuiteEnvironment, suite_environments
from cluster.faults import Finding, note
from cluster.planning.asked import every_environment
from cluster.planning.demonstration_checks import demonstration_findings
from cluster.planning.hardware import Hardware
from cluster.planning.learning_checks import gate_findings, learning_findings
from cluster.planning.measuring_checks import measuring_findings
from cluster.planning.model_checks import model_findings
from cluster.planning.placement import Command
from cluster.planning.placement_checks import placement_findings
from envs.catalog import find_environment
from envs.mixture import rules_by_key
from envs.protocol import EnvConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from verifier.config import UnknownOutcome, VerifierConfig


def check(
    config: Config, hardware: Hardware, command: Command = "rl", *, elsewhere: bool = False
) -> tuple[Finding, ...]:
    """All findings; `elsewhere` leaves out what only the machine that will run it can show."""
    found = list(model_findings(config, command, elsewhere=elsewhere))
    found += placement_findings(config, hardware, command)
    if command in ("rl", "compare"):
        found += [*_play(config), *learning_findings(config.learner, elsewhere=elsewhere)]
    if command in ("sft", "compare"):
        found += _imitation(config)
    if command == "sft":
        found += gate_findings(config.learner)
    elif command == "rl" and config.cluster.demonstrate_failed:
        found += _failed_tasks(config)
    if command != "evaluate":
        found += _steps(config, command)
    found += _environments(config, elsewhere=elsewhere)
    found += measuring_findings(config, command)
    if not any(one.is_fatal and one.key.startswith(("env.", "evaluation.")) for one in found):
        found += demonstration_findings(config, elsewhere=elsewhere)
    return (*(one for one in found if one.is_fatal), *(one for one in found if not one.is_fatal))


def steps_per_iteration(config: Config) -> int:
    """How many optimizer steps one iteration makes."""
    return config.learner.epochs * config.learner.minibatches


def _play(config: Config) -> Iterator[Finding]:
    cluster, learner, rollout = config.cluster, config.learner, config.rollout
    kind, samples = learner.advantage.kind, cluster.samples_per_task
    if learner.advantage.needs_groups and samples < 2:
        yield Finding(
            key="cluster.samples_per_task",
            value=samples,
            rule=f"learner.advantage.kind={kind} compares the samples of a task, and one has no other beside it",
            fix="set it to 2 or more, as 8, or choose another kind, as bi_level",
        )
    if cluster.episodes_per_iteration % samples:
        below = cluster.episodes_per_iteration - cluster.episodes_per_iteration % samples
        yield Finding(
            key="cluster.episodes_per_iteration",
            value=cluster.episodes_per_iteration,
            rule=f"is not a multiple of cluster.samples_per_task={samples}",
            fix=f"set it to {below or samples} or {below + samples}",
        )
    if rollout.temperature == 0:
        yield Finding(
            key="rollout.temperature",
            value=0,
            rule="always takes the likeliest token, and a policy that tries nothing learns nothing from its rewards",
            fix="set it above 0, as 1.0; evaluation.temperatures=[0] measures greedily",
        )
    if rollout.max_policy_lag and learner.loss.importance_cap is None:
        yield note(
            "learner.loss.importance_cap",
            None,
            f"with rollout.max_policy_lag={rollout.max_policy_lag} episodes are of older policies, and nothing weighs "
            "that",
            "set a cap, as 2.0",
        )
    if rollout.keep_cache == "within_lag" and (not rollout.max_policy_lag or learner.loss.importance_cap is None):
        lacks = "learner.loss.importance_cap=null" if rollout.max_policy_lag else "rollout.max_policy_lag=0"
        yield Finding(
            key="rollout.keep_cache",
            value=rollout.keep_cache,
            rule=f"with {lacks} nothing weighs that several versions of the policy have drawn a token together",
            fix="set it to never, or rollout.max_policy_lag=1 and learner.loss.importance_cap=2.0",
        )
    if rollout.max_policy_lag and learner.old_logprobs == "rollout" and learner.loss.importance_cap is not None:
        yield note(
            "learner.old_logprobs",
            "rollout",
            "the ratio already compares with the policy that sampled, so learner.loss.importance_cap weighs nothing",
            "set old_logprobs=learner to have both",
        )


def _imitation(config: Config) -> Iterator[Finding]:
    cluster, data = config.cluster, config.data
    if data.file is not None and not Path(data.file).is_file():
        yield Finding(
            key="data.file", value=data.file, rule="no such file", fix="write it with `ruleshift data CONFIG FILE`"
        )
    if data.file is None and data.count < cluster.episodes_per_iteration:
        yield Finding(
            key="data.count",
            value=data.count,
            rule=f"is less than one step learns from, cluster.episodes_per_iteration={cluster.episodes_per_iteration}",
            fix="raise it or lower the other",
        )
    if data.file is None:
        for key, (asked, _) in rules_by_key("env", config.env, config.verifier).items():
            yield from _demonstrator(data, key, asked)
    if config.learner.sft_weight == 0:
        yield Finding(
            key="learner.sft_weight",
            value=0,
            rule="leaves nothing to learn from demonstrations",
            fix="set it above 0, as 1.0",
        )


def _failed_tasks(config: Config) -> Iterator[Finding]:
    """Of `cluster.demonstrate_failed`: whether there is anybody to demonstrate, and anything in it."""
    for key, (asked, _) in rules_by_key("env", config.env, config.verifier).items():
        yield from _demonstrator(config.data, key, asked)
    if config.learner.sft_weight == 0:
        yield Finding(
            key="cluster.demonstrate_failed",
            value=True,
            rule="counts for nothing with learner.sft_weight=0",
            fix="set the weight above 0, as 1.0, or leave this out",
        )


def _demonstrator(data: DemonstrationConfig, key: str, env: EnvConfig) -> Iterator[Finding]:
    """What the demonstrator of an environment with its options under that key cannot show."""
    options = type(env).model_fields
    thinks, asks = getattr(env, "thinking", False), getattr(env, "asks", None)
    rule = fix = ""
    if data.kind == "search_trace" and env.name not in ("general_points", "countdown"):
        rule, fix = f"{env.name} has no hand to search", f"use {key}.name=general_points or countdown, or kind expert"
    elif data.kind == "search_trace" and asks == "cards":
        rule, fix = f"{key}.asks=cards asks for no formula", f"set {key}.asks=solution"
    elif data.kind == "search_trace" and thinks:
        rule, fix = f"{key}.thinking asks for a thought inside the answer as well", f"set {key}.thinking=false"
    elif data.kind == "recognition" and "asks" not in options:
        rule, fix = f"{env.name} has no pictures to recognise anything in", "choose another kind, as expert"
    elif data.kind == "recognition" and getattr(env, "modality", "text") != "pictures":
        rule, fix = "needs pictures", f"set {key}.modality=pictures"
    if rule:
        yield Finding(key="data.kind", value=data.kind, rule=rule, fix=fix)
    if data.kind == "corrupted" and data.corruption == "scrambled_thought" and not thinks:
        yield Finding(
            key="data.corruption",
            value=data.corruption,
            rule="answers hold no thought to scramble",
            fix=f"set {key}.thinking=true" if "thinking" in options else "choose another, as scrambled",
        )
    if data.kind == "suboptimal" and data.num_mistakes >= env.max_attempts:
        yield Finding(
            key="data.num_mistakes",
            value=data.num_mistakes,
            rule=f"leaves no attempt of {key}.max_attempts={env.max_attempts} for the right answer",
            fix="lower it or raise the other",
        )


def _steps(config: Config, command: Command) -> Iterator[Finding]:
    """Optimizer steps, and the learning rate over them."""
    cluster, learner = config.cluster, config.learner
    if learner.minibatches > cluster.episodes_per_iteration:
        yield Finding(
            key="learner.minibatches",
            value=learner.minibatches,
            rule=f"only cluster.episodes_per_iteration={cluster.episodes_per_iteration} episodes are shared among them",
            fix="lower it or raise the other",
        )
    elif cluster.episodes_per_iteration // learner.minibatches < learner.num_ranks:
        yield note(
            "learner.num_ranks",
            learner.num_ranks,
            f"a step has {cluster.episodes_per_iteration // learner.minibatches} episodes, fewer than there are ranks",
            "raise cluster.episodes_per_iteration, or some ranks learn nothing",
        )
    if learner.micro_batch_tokens < config.rollout.engine.max_context_tokens:
        yield Finding(
            key="learner.micro_batch_tokens",
            value=learner.micro_batch_tokens,
            rule="a dialogue of rollout.engine.max_context_tokens="
            f"{config.rollout.engine.max_context_tokens} does not fit into a micro-batch",
            fix=f"set it to {config.rollout.engine.max_context_tokens} or more",
        )
    total = steps_per_iteration(config) * cluster.iterations
    if command == "sft" and steps_per_iteration(config) > 1:
        yield note(
            "learner.minibatches",
            learner.minibatches,
            f"with learner.epochs={learner.epochs}, an iteration makes {steps_per_iteration(config)} optimizer steps, "
            "and cluster.iterations no longer counts single ones",
            "set both to 1 for a step on each demonstration once",
        )
    optimizer = learner.optimizer
    if optimizer.schedule != "constant" and optimizer.total_steps is not None and optimizer.total_steps < total:
        yield note(
            "learner.optimizer.total_steps",
            optimizer.total_steps,
            f"training makes {total} steps, so the last {total - optimizer.total_steps} have the learning rate "
            f"{optimizer.end_learning_rate:g}",
            f"set it to {total}",
        )


def _environments(config: Config, *, elsewhere: bool) -> Iterator[Finding]:
    """Data that is not there, rewards that nothing earns, suites whose held-out tasks are not held out."""
    told: list[SuiteEnvironment] = []
    for key, (env, verifier) in every_environment(config).items():
        if (env, verifier) in told:
            continue
        told.append((env, verifier))
        yield from _rewards(key.removesuffix("env"), env, verifier)
        dataset = getattr(env, "dataset", None)
        if dataset is not None and not elsewhere and not (Path(dataset) / "route_infos.json").is_file():
            yield Finding(
                key=f"{key}.dataset",
                value=dataset,
                rule="there is no route_infos.json in it",
                fix="name the folder with the routes, or make one with `ruleshift city`",
            )
        if key.startswith("env.parts.") and getattr(env, "route_order", "") == "sequential":
            yield note(
                f"{key}.route_order",
                "sequential",
                "a part of a mixture is asked for its own seeds alone, which do not take one route after the other",
                "set it to random",
            )
    for name, (env, _) in suite_environments(config).items():
        for rule in env.rule_options if env.name == config.env.name else ():
            if getattr(env, rule) == getattr(config.env, rule):
                continue
            if getattr(env, f"training_{rule}") is None:
                yield note(
                    f"evaluation.suites.{name}.env.training_{rule}",
                    None,
                    f"env.{rule} differs from training's; what was held out and what the old rule calls right go by "
                    f"training_{rule}",
                    f"set it to training's {rule}",
                )


def _rewards(prefix: str, env: EnvConfig, verifier: VerifierConfig) -> Iterator[Finding]:
    """Whether the rewards are of outcomes that the environment's verifier has."""
    module = find_environment(env.name)
    verifiers = [found for found in vars(module).values() if isinstance(found, type) and hasattr(found, "judge")]
    try:
        for found in verifiers:
            found(verifier)
    except UnknownOutcome as error:
        key, _, rule = str(error).partition(": ")
        label = key.rpartition(".")[2]
        facts, _, fix = rule.partition("; ")
        yield Finding(key=f"{prefix}{key}", value=verifier.rewards[label], rule=facts, fix=fix)
