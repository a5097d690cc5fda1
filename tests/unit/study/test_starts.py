"""Arms start from init or from each other, at the end or behind an iteration, and what they start from is kept."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import parse_config, to_yaml
from cluster.errors import ConfigError
from study.cells import Cell, Study
from study.compare import require_same
from study.marks import write_mark
from study.side_by_side import in_turn

SFT, RL = {"command": "sft"}, {"command": "rl"}


def cells_of(cluster: dict[str, Any] | None = None, **compare: Any) -> dict[str, Cell]:
    init = {"command": "sft", "options": {"cluster": {"iterations": 40, **(cluster or {})}}}
    given = {"env": {"name": "add_up"}, "learner": {"model": "base"}, "compare": {"init": init, **compare}}
    return {cell.name: cell for cell in Study.of(parse_config(given), Path("study")).cells}


def begins_from(cells: dict[str, Cell]) -> dict[str, tuple[str | None, str]]:
    return {name: (cell.origin and cell.origin.name, str(cell.config.learner.model)) for name, cell in cells.items()}


def test_arms_start_from_any_iteration_of_one_run_which_keeps_and_measures_it() -> None:
    study = Path("study").resolve() / "cells" / "init_seed0"
    cells = cells_of(sweep={"start": ["init@0", "init@10", "init@40", "init"]}, arms={"rl": RL})
    assert begins_from(cells) == {
        "init": (None, "base"),
        "rl_start_init-0": ("init@0", "base"),
        "rl_start_init-10": ("init@10", str(study / "exports" / "iteration_000010")),
        "rl_start_init-40": ("init@40", str(study / "exports" / "iteration_000040")),
        "rl_start_init": ("init", str(study / "policy")),
    }
    made = cells["init"].config.cluster
    assert (made.export_at, made.evaluate_at) == ((10, 40), (0, 10, 40))
    assert cells["rl_start_init-10"].config.cluster.export_at == ()
    assert len({cell.digest for cell in cells.values()}) == len(cells)


def test_an_arm_starts_from_another_which_comes_first_whatever_the_order() -> None:
    cells = cells_of(arms={"rl_last": {**RL, "start": "sft_first@5"}, "sft_first": SFT, "rl": RL})
    assert list(cells) == ["init", "sft_first", "rl", "rl_last"]
    assert begins_from(cells)["rl_last"][1].endswith("cells/sft_first_seed0/exports/iteration_000005")
    assert cells["sft_first"].config.cluster.export_at == (5,)
    assert [cell.name for cell in in_turn(list(cells.values()))] == ["init", "rl", "sft_first", "rl_last"]


def test_variants_of_a_sweep_start_from_the_variant_of_their_own_values() -> None:
    cells = cells_of(
        sweep={"env.max_attempts": [1, 5], "init.cluster.iterations": [10, 20]},
        arms={"sft": SFT, "rl": {**RL, "start": "sft"}},
    )
    starts = {name: cell.origin and cell.origin.name for name, cell in cells.items() if cell.arm == "rl"}
    assert starts == {
        f"rl_iterations_{steps}_max_attempts_{attempts}": f"sft_iterations_{steps}_max_attempts_{attempts}"
        for steps in (10, 20)
        for attempts in (1, 5)
    }


def test_arms_from_different_starts_are_different_methods_and_one_of_a_later_start_is_another_cell() -> None:
    early, late = (cells_of(arms={"rl": {**RL, "start": f"init@{step}"}})["rl"] for step in (5, 10))
    assert early.digest != late.digest
    assert early.planned_config.learner.model == "base", "a plan knows the model before there is a policy"


def test_an_arm_may_learn_from_the_policy_of_another_which_is_made_before() -> None:
    taught = {**RL, "options": {"learner": {"rl_weight": 0, "distillation": {"teacher": "policy:sft@5"}}}}
    cells = cells_of(arms={"taught": taught, "sft": SFT})
    assert list(cells) == ["init", "sft", "taught"]
    assert [cell.name for cell in cells["taught"].needs] == ["init", "sft"]
    teacher = str(cells["taught"].config.learner.distillation.teacher)
    assert teacher.endswith("cells/sft_seed0/exports/iteration_000005")
    assert cells["taught"].planned_config.learner.distillation.teacher == "base"
    assert cells["sft"].config.cluster.export_at == (5,)
    other = {**RL, "options": {"learner": {"rl_weight": 0, "distillation": {"teacher": "policy:sft"}}}}
    assert cells_of(arms={"taught": other, "sft": SFT})["taught"].digest != cells["taught"].digest


def test_what_init_keeps_by_itself_it_keeps_besides() -> None:
    own = {"export_at": [3], "evaluate_at": [4]}
    made = cells_of(own, arms={"rl": {**RL, "start": "init@10"}})["init"].config.cluster
    assert (made.export_at, made.evaluate_at) == ((3, 10), (4, 10))


def write(cell: Cell) -> None:
    """What a study leaves of a cell, for `require_same`."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "config.yaml").write_text(to_yaml(cell.config))
    write_mark(cell, is_done=True, seconds=1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"start": "init@20"}, "learner.model was cells/init_seed0/exports/iteration_000010, is .*iteration_000020"),
        ({"start": "init"}, "learner.model was cells/init_seed0/exports/iteration_000010, is cells/init_seed0/policy"),
        ({"start": "sft"}, "learner.model was .*, is cells/sft_seed0/policy"),
    ],
)
def test_a_cell_that_was_made_from_another_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arms = {"sft": SFT, "rl": {**RL, "start": "init@10"}}
    # Of both, init keeps and measures the same.
    kept = {"export_at": [10, 20], "evaluate_at": [10, 20]}
    before = cells_of(kept, arms=arms)
    for cell in before.values():
        write(cell)
    for cell in cells_of(kept, arms=arms).values():
        require_same(cell)
    after = cells_of(kept, arms={**arms, "rl": {**RL, **changed}})
    require_same(after["sft"])
    with pytest.raises(ConfigError, match=words):
        require_same(after["rl"])


def test_a_cell_whose_teacher_is_another_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    taught = {**RL, "options": {"learner": {"rl_weight": 0, "distillation": {"teacher": "policy:sft"}}}}
    for cell in cells_of(arms={"taught": taught, "sft": SFT}).values():
        write(cell)
    harder = {"command": "sft", "options": {"learner": {"optimizer": {"learning_rate": 0.5}}}}
    after = cells_of(arms={"taught": taught, "sft": harder})
    with pytest.raises(ConfigError, match=r"learning_rate was .*, is 0\.5"):
        require_same(after["taught"])


@pytest.mark.parametrize(
    ("compare", "words"),
    [
        ({"arms": {"rl": {**RL, "start": "inti@10"}}}, "compare.arms.rl.start=inti@10: names no run"),
        ({"arms": {"rl": {**RL, "start": "init@-1"}}}, "written as init@20"),
        ({"arms": {"rl": {**RL, "start": "init@41"}}}, "init@41: init has 40 iterations"),
        ({"arms": {"a": {**RL, "start": "b"}, "b": {**SFT, "start": "a"}}}, "a, b start from each other"),
        ({"arms": {"a": {**RL, "start": "a"}}}, "a start from each other"),
        ({"arms": {"rl": RL, "sft": SFT}, "sweep": {"start": ["sft"]}}, "compare.sweep.start=sft: a sweep tries"),
        ({"arms": {"rl": {**RL, "start": "init"}}, "sweep": {"start": ["init@1"]}}, "rl has a start of its own, init"),
        ({"init": None, "arms": {"rl": {**RL, "start": "init"}}}, "names no run to start from; there are rl"),
        ({"arms": {"rl": RL}, "until": {"validatoin/success": 0.5}, "evaluations": 0}, "evaluations"),
    ],
)
def test_a_start_that_cannot_be_is_told_with_its_key(compare: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as told:
        cells_of(**compare)
    assert words in str(told.value)
