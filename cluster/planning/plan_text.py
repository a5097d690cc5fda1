"""A plan for a terminal, at most 100 columns wide."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from cluster.faults import Finding
from cluster.planning.memory import Memory
from cluster.planning.placement import Actor, Placement
from cluster.planning.plan import Plan, attempts_at_most

WIDTH = 100
SCALES = ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))


def render(plan: Plan) -> str:
    """The whole plan but the reasons for a refusal, which `Plan.refuse` raises."""
    cluster = plan.config.cluster
    title = f"Plan of `{plan.command}` for {cluster.name}: {plan.config.env.name}, {_model(plan)}"
    parts = [
        "\n".join(textwrap.wrap(title, WIDTH, subsequent_indent="  ")),
        _section("Placement", f"{cluster.placement}, {plan.placement.strategy}: {plan.hardware}", _seats(plan)),
        _section("Batch", "" if plan.command == "evaluate" else "of one iteration", _batch(plan)),
    ]
    parts += [_memory(device) for device in plan.memory]
    if plan.work:
        parts.append(_section("Compute", "of one iteration, at most", _compute(plan)))
    if plan.notes:
        parts.append("Notes\n" + "\n".join(_bullet(finding) for finding in plan.notes))
    if plan.refusals:
        count = len(plan.refusals)
        parts.append(f"This cannot run, for {count} reason{'s' if count > 1 else ''}:")
    return "\n\n".join(parts)


def table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows in columns as wide as they have to be; those whose numbers stand in `right` end on one line."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "   ".join(_cell(row[column], widths[column], column in right) for column in range(len(row))).rstrip()
        for row in rows
    )


def _cell(text: str, width: int, to_the_right: bool) -> str:
    return text.rjust(width) if to_the_right else text.ljust(width)


def _section(name: str, what: str, body: str) -> str:
    return f"{name}{f'  ({what})' if what else ''}\n{body}"


def _model(plan: Plan) -> str:
    architecture = plan.architecture
    if architecture is None:
        return f"learner.model={plan.config.learner.model}"
    size = architecture.num_parameters
    written = f"{size / 1e9:.2f} billion" if size >= 1e9 else f"{size / 1e6:.2f} million"
    name = str(plan.config.learner.model).rstrip("/").rpartition("/")[2]
    return f"{name} ({architecture.model_type}, {written} parameters, {architecture.source})"


def _seats(plan: Plan) -> str:
    placement = plan.placement
    rows = [["host", "bundle", "reserves", "actor", "GPU", "CPU", "threads"]]
    for host, numbers in _alike(placement):
        bundle = placement.bundles[numbers[0]]
        present = [actor for actor in placement.actors if actor.bundle == numbers[0]]
        for place, actor in enumerate(present):
            last = next(a for a in reversed(placement.actors) if a.bundle == numbers[-1] and a.role == actor.role)
            names = f"{_name(actor)}" if len(numbers) == 1 else f"{_name(actor)} … {last.number}"
            seat = [
                "none" if host is None else str(host),
                str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} … {numbers[-1]}",
                ", ".join(f"{amount:g} {what}" for what, amount in bundle.items()),
            ]
            shares = [f"{actor.num_gpus:g}", f"{actor.num_cpus:g}", str(actor.threads)]
            rows.append([*(["", "", ""] if place else seat), names, *shares])
    return table(rows, right=(4, 5, 6))


def _alike(placement: Placement) -> list[tuple[int | None, list[int]]]:
    """Neighbouring bundles of one host that hold the same kinds of actors."""

    def kind(bundle: int) -> tuple[object, ...]:
        present = [actor for actor in placement.actors if actor.bundle == bundle]
        seats = tuple((actor.role, actor.num_cpus, actor.num_gpus, actor.threads) for actor in present)
        return placement.hosts[bundle], tuple(placement.bundles[bundle].items()), seats

    numbers = range(len(placement.bundles))
    return [(placement.hosts[same[0]], same) for _, same in ((k, list(g)) for k, g in groupby(numbers, key=kind))]


def _name(actor: Actor) -> str:
    return f"learner rank {actor.number}" if actor.role == "learner" else f"rollout worker {actor.number}"


def _batch(plan: Plan) -> str:
    batch, config = plan.batch, plan.config
    cluster, learner = config.cluster, config.learner
    rows = []
    if plan.command != "evaluate":
        samples = cluster.samples_per_task
        tasks = f"{_s(batch.num_tasks, 'task')} × {_s(samples, 'sample')}"
        kind = "demonstrations" if plan.command == "sft" else "episodes"
        rows.append([kind, f"{batch.num_episodes:,}" + ("" if plan.command == "sft" else f" = {tasks}")])
        contexts = _s(batch.contexts_per_episode, "dialogue")
        if plan.command != "sft":
            attempts = _s(attempts_at_most(config.env), "attempt")
            rows.append(["answers at most", f"{batch.num_answers:,} = episodes × {contexts} × {attempts}"])
        context = config.rollout.engine.max_context_tokens
        rows.append(["tokens at most", f"{batch.num_tokens:,} = {kind} × {contexts} × {context:,}"])
        rows.append(
            [
                "optimizer steps",
                f"{batch.steps_per_iteration:,} = {_s(learner.epochs, 'epoch')} × "
                f"{_s(learner.minibatches, 'minibatch', 'minibatches')}; {batch.num_steps:,} in all "
                f"{_s(cluster.iterations, 'iteration')}",
            ]
        )
        each = batch.num_episodes / learner.minibatches
        rows.append([f"{kind} a step", f"{each:,.0f}, or {each / learner.num_ranks:,.0f} for each learner rank"])
    names = ", ".join(config.evaluation.suites)
    if plan.command == "evaluate":
        played = f"{batch.episodes_per_evaluation + batch.episodes_at_end:,} episodes"
    else:
        played = f"{batch.episodes_per_evaluation:,} episodes; {_s(batch.num_evaluations, 'time')}"
        if batch.episodes_at_end and config.cluster.evaluate_at_end:
            played += f", {batch.episodes_at_end:,} more at the end"
    evaluated = textwrap.wrap(f"{played}: {names}", WIDTH - 24)
    rows += [["evaluation" if number == 0 else "", line] for number, line in enumerate(evaluated)]
    if plan.cache is not None:
        dialogues = plan.cache.num_tokens // config.rollout.engine.max_context_tokens
        rows.append(
            [
                "keys and values",
                f"{max(plan.cache.gib, 0):,.1f} GiB an engine: {plan.cache.num_tokens:,} tokens, or {dialogues:,} "
                "whole dialogues",
            ]
        )
    return table(rows)


def _memory(device: Memory) -> str:
    rows = [["", "rollouts play", "learner learns"]]
    rows += [[row.what, _gib(row.playing), _gib(row.learning)] for row in (*device.rows, device.total)]
    what = f"GiB in {device.device}, which has {device.room:,.1f}"
    return _section("Memory", what, table(rows, right=(1, 2)))


def _compute(plan: Plan) -> str:
    rows = [["", "tokens", "operations"]]
    rows += [[work.what, f"{work.num_tokens:,}", in_operations(work.flops)] for work in plan.work]
    total = sum(work.flops for work in plan.work)
    rows.append(["total", "", in_operations(total)])
    if plan.command != "evaluate":
        iterations = plan.config.cluster.iterations
        rows.append([f"all {_s(iterations, 'iteration')}", "", in_operations(total * iterations)])
    return table(rows, right=(1, 2))


def in_operations(flops: float) -> str:
    """As in `71.8 GFLOP`."""
    scale, unit = next((pair for pair in SCALES if flops >= pair[0]), (1.0, "FLOP"))
    return f"{flops / scale:,.1f} {unit}"


def _gib(gib: float) -> str:
    return "–" if gib == 0 else f"{gib:,.1f}" if gib >= 0.05 else "< 0.1"


def _s(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _bullet(finding: Finding) -> str:
    return textwrap.fill(str(finding), WIDTH, initial_indent="  · ", subsequent_indent="    ")
