"""A study before anything starts: every cell checked, and one table of what all of them will take.

plan_study(study, hardware)   →  StudyPlan        pure; the cells of one name differ in their seed alone
plan.refuse()                    raises ConfigError with every cell that cannot run
render_study(plan)            →  the table
render_cells(study)           →  another of every cell: what it is, whether it is made, how long it will take
"""

from collections import Counter
from dataclasses import dataclass

from cluster.errors import ConfigError
from cluster.options import ClusterConfig
from cluster.planning.compute import LEARNING, evaluation_of
from cluster.planning.hardware import Hardware
from cluster.planning.plan import Plan, make_plan
from cluster.planning.plan_text import in_operations, table
from cluster.record.console import duration
from study.cells import Cell, Study
from study.marks import expected_seconds, mark_of

GPU_FLOPS = 4e14
"""Operations a second that a GPU is taken to make: two fifths of what an H100 or H800 can in bfloat16."""
CORE_FLOPS = 1.5e10
"""And a core, in float32, at the sizes of the built-in models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """All cells of one name."""

    cell: Cell
    """The first of them."""
    num_seeds: int
    plan: Plan
    training_flops: float
    """Of one cell, at most: its budget, or all its iterations."""
    num_evaluations: int
    evaluated_episodes: int
    """Of one cell, all evaluations together."""
    device_hours: float
    """Of one cell's training and evaluations, on every device it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What is known of a study beforehand."""

    study: Study
    rows: tuple[StudyRow, ...]

    def refuse(self) -> None:
        """Raise ConfigError with what stops any cell; what stops several alike is told once."""
        told: dict[str, list[str]] = {}
        for row in self.rows:
            for finding in row.plan.refusals:
                told.setdefault(str(finding), []).append(row.cell.name)
        if told:
            lines = (f"compare, {', '.join(names)}: {finding}" for finding, names in told.items())
            raise ConfigError("\n".join(lines))


def plan_study(study: Study, hardware: Hardware, *, elsewhere: bool = False) -> StudyPlan:
    """One row for each name; an arm is planned from what its start begins from, since the start may not exist yet."""
    seeds = Counter(cell.name for cell in study.cells)
    first = {cell.name: cell for cell in reversed(study.cells)}
    rows = (_row(first[name], seeds[name], hardware, elsewhere=elsewhere) for name in seeds)
    return StudyPlan(study=study, rows=tuple(rows))


def _row(cell: Cell, num_seeds: int, hardware: Hardware, *, elsewhere: bool) -> StudyRow:
    plan = make_plan(cell.planned_config, cell.command, hardware, elsewhere=elsewhere)
    cluster = cell.config.cluster
    shares = cluster.evaluations if cluster.budget and cluster.evaluations else 0
    num_evaluations = max(shares, plan.batch.num_evaluations)
    episodes = num_evaluations * plan.batch.episodes_per_evaluation
    episodes += plan.batch.episodes_at_end if cluster.evaluate_at_end else 0
    training = _training(plan, cluster)
    evaluated = 0.0
    if plan.architecture is not None:
        evaluated = evaluation_of(plan.config, plan.architecture, plan.batch, episodes).flops
    devices = plan.placement.num_gpus
    speed = devices * GPU_FLOPS if devices else sum(bundle["CPU"] for bundle in plan.placement.bundles) * CORE_FLOPS
    return StudyRow(
        cell=cell,
        num_seeds=num_seeds,
        plan=plan,
        training_flops=training,
        num_evaluations=num_evaluations,
        evaluated_episodes=episodes,
        device_hours=(training + evaluated) / speed * max(devices, 1) / 3600,
    )


def _training(plan: Plan, cluster: ClusterConfig) -> float:
    """Operations until the budget or all iterations are spent; those of a budget of tokens as of the longest ones."""
    iteration = sum(work.flops for work in plan.work)
    most = iteration * cluster.iterations
    if cluster.budget is None:
        return most
    if cluster.ledger != "compute/trained_tokens":
        return min(most, cluster.budget)
    learned = sum(work.num_tokens for work in plan.work if work.what == LEARNING)
    return min(most, cluster.budget / learned * iteration) if learned else most


def render_study(plan: StudyPlan) -> str:
    """The table, and what it rests on."""
    options, rows = plan.study.config.compare, plan.rows
    lines = [["cell", "begins from", "command", "seeds", "training", "evaluations", "episodes", "device-hours"]]
    for row in rows:
        start = (row.cell.origin and row.cell.origin.name) or str(row.cell.config.learner.model).rpartition("/")[2]
        counts = [f"{row.num_evaluations}", f"{row.evaluated_episodes:,}", _hours(row.device_hours)]
        told = in_operations(row.training_flops)
        lines.append([row.cell.name, start, row.cell.command, str(row.num_seeds), told, *counts])
    total = sum(row.num_seeds * row.device_hours for row in rows)
    flops = in_operations(sum(row.num_seeds * row.training_flops for row in rows))
    episodes = sum(row.num_seeds * row.evaluated_episodes for row in rows)
    cells = sum(row.num_seeds for row in rows)
    lines.append(["all", "", "", str(cells), flops, "", f"{episodes:,}", _hours(total)])
    budget = f"{options.budget:g} of {options.ledger}" if options.budget else "no budget: all iterations"
    on_gpus = any(row.plan.placement.num_gpus for row in rows)
    speed = f"a GPU makes {GPU_FLOPS:g}" if on_gpus else f"each core makes {CORE_FLOPS:g}"
    return (
        f"Study {plan.study.config.cluster.name}: {cells} runs, each arm with {budget}\n"
        f"{table(lines, right=(3, 4, 5, 6, 7))}\n"
        f"At most, with every dialogue at its longest; hours if {speed} operations a second."
    )


def render_cells(study: Study) -> str:
    """One line for each cell, in the order of making; times are those that others like it took in this study."""
    marks = {cell.folder: mark_of(cell.folder) for cell in study.cells}
    lines = [["cell", "seed", "command", "begins from", "learning rate", "budget", "made", "time"]]
    for cell in study.cells:
        cluster, mark = cell.config.cluster, marks[cell.folder]
        start = cell.start.folder.name if cell.start else str(cell.config.learner.model).rpartition("/")[2]
        budget = f"{cluster.budget:g}" if cluster.budget else f"{cluster.iterations} iterations"
        made = "yes" if mark.is_done else "begun" if mark.digest else "no"
        seconds = mark.seconds if mark.is_done else expected_seconds(cell, study.cells, marks)
        time = "" if seconds is None else duration(seconds)
        rate = f"{cell.config.learner.optimizer.learning_rate:g}"
        lines.append([cell.name, str(cell.seed), cell.command, start, rate, budget, made, time])
    return table(lines, right=(1, 4, 5, 7))


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
