"""A study before anything starts: every cell is checked, and one table says what all of them take."""

from pathlib import Path

import pytest

from cluster.config import load_config, load_words
from cluster.errors import ConfigError
from cluster.planning.compute import size_of
from cluster.planning.hardware import Hardware, described
from study.cells import Study, arm_alone
from study.cli import main
from study.marks import write_mark
from study.plan_study import CORE_FLOPS, GPU_FLOPS, StudyRow, plan_study, render_cells, render_study

CONFIGS = Path(__file__).parents[3] / "configs"
NANO = [str(CONFIGS / "nano" / "gp_l.yaml"), str(CONFIGS / "nano" / "demo.yaml")]
LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=16)


def study_of(*words: str) -> Study:
    return Study.of(load_words(words), Path("study"))


def evaluated(row: StudyRow) -> float:
    """Every token of an evaluated episode through the layers, and each that is drawn through the output layer."""
    rollout, architecture = row.cell.config.rollout, row.plan.architecture
    assert architecture is not None
    size = size_of(architecture, row.cell.config.learner)
    drawn = row.plan.batch.num_answers // row.plan.batch.num_episodes * rollout.max_answer_tokens
    context = rollout.engine.max_context_tokens
    scored = min(drawn, context)
    return 2.0 * row.evaluated_episodes * (size.layers.forward * context + size.head.forward * scored)


def test_one_row_for_each_cell_and_a_sum_over_all_seeds() -> None:
    planned = plan_study(study_of(*NANO, "compare.seeds=[0,1,2]"), LAPTOP)
    planned.refuse()
    assert [(row.cell.name, row.num_seeds) for row in planned.rows] == [
        ("init", 3),
        ("sft", 3),
        ("sft_chosen", 3),
        ("rl", 3),
    ]
    init, sft, sft_chosen, rl = planned.rows
    assert sft_chosen.cell.config.learner.optimizer.learning_rate == 3e-4
    assert sft.training_flops == rl.training_flops == 2.5e12, "a budget is what an arm takes"
    assert init.training_flops == sum(work.flops for work in init.plan.work) * 20, "without one, all its iterations"
    assert sft.num_evaluations == sft.cell.config.cluster.evaluations
    assert sft.cell.config.cluster.cores_per_run == 1
    assert sft.device_hours == pytest.approx((2.5e12 + evaluated(sft)) / CORE_FLOPS / 3600)
    lines = render_study(planned).splitlines()
    assert lines[0] == "Study nano_gp_l: 12 runs, each arm with 2.5e+12 of compute/flops"
    assert [line.split()[0] for line in lines[2:7]] == ["init", "sft", "sft_chosen", "rl", "all"]
    assert max(map(len, lines)) <= 120


def test_a_budget_of_tokens_is_what_learning_so_many_takes() -> None:
    words = [*NANO, "compare.ledger=compute/trained_tokens", "compare.budget=2.5e5"]
    _, sft, _, rl = plan_study(study_of(*words), LAPTOP).rows
    for row in (sft, rl):
        learned = {work.what: work for work in row.plan.work}["learning"].num_tokens
        iterations = 2.5e5 / learned
        assert row.training_flops == pytest.approx(iterations * sum(work.flops for work in row.plan.work))
    # Recorded were 5.1 million operations for each token that was imitated, and 8.7 for each that play learned from.
    assert 4.5e6 < sft.training_flops / 2.5e5 < 6e6 and 7e6 < rl.training_flops / 2.5e5 < 1.1e7
    few = plan_study(study_of(*words, "cluster.iterations=1"), LAPTOP).rows[1]
    assert few.training_flops == sum(work.flops for work in few.plan.work), "it ends with its iterations all the same"


def test_device_hours_count_every_gpu() -> None:
    words = [str(CONFIGS / "paper" / "gp_l.yaml"), str(CONFIGS / "hardware" / "eight_gpus_colocated.yaml")]
    study = study_of(*words)
    planned = plan_study(study, described(study.config), elsewhere=True)
    planned.refuse()
    for row in planned.rows:
        assert row.device_hours == pytest.approx((row.training_flops + evaluated(row)) / GPU_FLOPS / 3600)


def test_a_cell_that_cannot_run_is_named_and_what_stops_several_is_told_once() -> None:
    options = ("compare.arms.rl.options={rollout: {temperature: 0}}", "learner.model=no/such/model")
    planned = plan_study(study_of(*NANO, *options), LAPTOP)
    with pytest.raises(ConfigError) as told:
        planned.refuse()
    lines = str(told.value).splitlines()
    assert sum(line.startswith("compare, init, sft, sft_chosen, rl: learner.model=") for line in lines) == 1
    assert sum(line.startswith("compare, rl: rollout.temperature=0") for line in lines) == 1


def test_a_dry_run_prints_the_table_and_makes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = f"learner.model={CONFIGS.parent / 'models' / 'nano_gp_l'}"
    assert main(["compare", *NANO, model, "--out", str(tmp_path / "study"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert main(["plan", *NANO, model, "--for", "compare"]) == 0
    assert printed.startswith(capsys.readouterr().out)
    assert not (tmp_path / "study").exists()


def test_a_dry_run_says_of_every_cell_what_it_is_whether_it_is_made_and_how_long_it_will_take(tmp_path: Path) -> None:
    study = Study.of(load_words([*NANO, "compare.seeds=[0,1]", "learner.model=models/nano_gp_l"]), tmp_path)
    before = render_cells(study).splitlines()
    assert before[1].split() == ["init", "0", "sft", "nano_gp_l", "0.0001", "20", "iterations", "no"]
    assert before[4].split() == ["rl", "0", "rl", "init_seed0", "0.0003", "2.5e+12", "no"]
    for cell, is_done, seconds in zip(study.cells[:4], (True, True, True, False), (30, 100, 200, 50), strict=True):
        cell.folder.mkdir(parents=True)
        write_mark(cell, is_done=is_done, seconds=seconds)
    told = [line.split()[-3:] for line in render_cells(study).splitlines()[1:]]
    assert [" ".join(words) for words in told] == [
        "yes 30 s",
        "yes 2 min",
        "yes 3 min",
        "begun 2 min",  # no run of play is made yet: as long as all others took
        "no 30 s",
        "no 2 min",
        "no 3 min",
        "no 2 min",
    ]


def test_one_arm_alone_runs_with_its_options_and_its_budget_and_what_the_command_says_goes_last() -> None:
    rl = arm_alone([*NANO, "learner.epochs=3"], "rl", "rl")
    assert (rl.learner.minibatches, rl.learner.epochs) == (2, 3)
    assert (rl.cluster.budget, rl.cluster.evaluations) == (2.5e12, load_config(NANO).compare.evaluations)
    assert rl.compare.arms == {}
    rate = "learner.optimizer.learning_rate"
    assert arm_alone(NANO, "sft", "sft").learner.optimizer.learning_rate == 1.5e-3
    assert arm_alone([*NANO, f"{rate}=1e-4"], "sft", "sft").learner.optimizer.learning_rate == 1e-4
    init = arm_alone(NANO, "init", "sft")
    assert (init.cluster.iterations, init.cluster.budget) == (20, None)


@pytest.mark.parametrize(
    ("arm", "command", "words"),
    [("rll", "rl", "--arm rll: there is no such arm; did you mean 'rl'?"), ("sft", "rl", "it is one of `sft`, not")],
)
def test_an_arm_that_is_not_there_is_told(arm: str, command: str, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        arm_alone(NANO, arm, command)
    assert words in str(told.value)


def test_a_preset_counts_in_the_arm_that_names_it_and_options_of_the_study_count_before_it() -> None:
    options = ("compare.arms.rl.options={learner: {preset: paper}}", "learner.loss.clip=0.3")
    cells = {cell.name: cell.config.learner for cell in study_of(*NANO, *options).cells}
    assert (cells["rl"].epochs, cells["rl"].loss.clip) == (4, 0.3)
    assert cells["sft"].epochs == 1
