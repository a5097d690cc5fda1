"""Whether what the learner is told goes together: credit, losses and ways to learn from what is played."""

from collections.abc import Iterator
from pathlib import Path

from cluster.faults import Finding, note
from learner.config import LearnerConfig


def learning_findings(learner: LearnerConfig, *, elsewhere: bool) -> Iterator[Finding]:
    """Of play; `elsewhere` leaves out what only the machine that will run it can show."""
    yield from _credit(learner)
    yield from _divergences(learner)
    teacher = learner.distillation.other_model
    if teacher is not None and not elsewhere and not (Path(teacher) / "config.json").is_file():
        yield Finding(
            key="learner.distillation.teacher",
            value=teacher,
            rule="the folder has no config.json",
            fix="name the folder of a model that save_pretrained wrote, as the policy/ of another run",
        )
    if learner.rl_weight == 0 and learner.distillation.teacher is None and not learner.imitate_successes:
        yield Finding(
            key="learner.rl_weight", value=0, rule="leaves nothing to learn from episodes", fix="set it above 0, as 1.0"
        )


def gate_findings(learner: LearnerConfig) -> Iterator[Finding]:
    """Of `sft`, where there is nothing for a gate to go by."""
    for name, schedule in (("sft_schedule", learner.sft_schedule), ("rl_schedule", learner.rl_schedule)):
        if schedule.gate.is_set:
            yield Finding(
                key=f"learner.{name}.gate.by",
                value=schedule.gate.by,
                rule="is measured of what is played, and sft plays nothing",
                fix="leave the gate out, or imitate beside play: rl with cluster.demonstrations_per_iteration",
            )


def _credit(learner: LearnerConfig) -> Iterator[Finding]:
    kind = learner.advantage.kind
    critic = learner.value_head
    for name in ("learning_rate", "warmup_updates"):
        if getattr(critic, name) and not learner.advantage.needs_values:
            yield Finding(
                key=f"learner.value_head.{name}",
                value=getattr(critic, name),
                rule=f"learner.advantage.kind={kind} trains no critic",
                fix="leave it out, or choose a kind with one: token, turn or bi_level",
            )
    if learner.loss.episode_length != 1 and learner.loss.aggregate != "constant":
        yield Finding(
            key="learner.loss.episode_length",
            value=learner.loss.episode_length,
            rule=f"learner.loss.aggregate={learner.loss.aggregate} divides by what the lengths are",
            fix="leave it out, or set aggregate=constant",
        )
    if learner.advantage.flat_groups != "keep" and not learner.advantage.needs_groups:
        yield Finding(
            key="learner.advantage.flat_groups",
            value=learner.advantage.flat_groups,
            rule=f"learner.advantage.kind={kind} compares no samples of a task, so that none of them teaches nothing",
            fix="leave it out, or choose a kind that compares them: grpo, dr_grpo or rloo",
        )


def _divergences(learner: LearnerConfig) -> Iterator[Finding]:
    loss = learner.loss
    if loss.reward_kl.target is not None and not loss.reward_kl.coefficient:
        yield Finding(
            key="learner.loss.reward_kl.target",
            value=loss.reward_kl.target,
            rule="reward_kl.coefficient is 0, and stays so",
            fix="set what it begins with, as reward_kl.coefficient=0.1",
        )
    if loss.target_kl is not None and learner.epochs * learner.minibatches == 1:
        yield note(
            "learner.loss.target_kl",
            loss.target_kl,
            "an update has one step, behind which there is nothing to leave out",
            "set epochs or minibatches above 1",
        )
