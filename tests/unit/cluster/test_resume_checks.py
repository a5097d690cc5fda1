"""A checkpoint that does not fit is told with key, value, rule and fix, before anything starts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.config import load_config, to_yaml
from cluster.planning.resume_checks import SUMMARY, resume_findings
from cluster.record.run_directory import RunDirectory
from study.cli import main

ROOT = Path(__file__).parents[3]
LAYOUT = {"num_ranks": 1, "zero_stage": 0, "dtype": "float32"}


def config(*overrides: str) -> Any:
    return load_config([ROOT / "configs" / "smoke.yaml"], [f"learner.model={ROOT / 'models/nano_add_up'}", *overrides])


def run_with(folder: Path, *, num_parameters: int | None, groups: Sequence[str] = ("model",)) -> Path:
    """A run with one checkpoint, of a model of that size; without one where it is None."""
    run = RunDirectory.at(folder)
    run.write_config(to_yaml(config()))
    if num_parameters is not None:
        partial = run.checkpoint_partial(1)
        (partial / SUMMARY.parent).mkdir()
        shapes = {"backbone.all": f"{num_parameters // 2} × 2", "value_head.weight": "1 × 7 (frozen)"}
        (partial / SUMMARY).write_text(json.dumps({"layout": {**LAYOUT, "groups": groups, "parameters": shapes}}))
        run.commit_checkpoint(partial, 1)
    return folder


@pytest.mark.parametrize("num_parameters", [219_200, None])
def test_the_same_configuration_goes_on(tmp_path: Path, num_parameters: int | None) -> None:
    assert not list(resume_findings(config(), run_with(tmp_path, num_parameters=num_parameters)))


def test_every_option_that_a_checkpoint_is_laid_out_by_has_to_stay(tmp_path: Path) -> None:
    changed = config("learner.num_ranks=2", "learner.deepspeed.zero_stage=2", "learner.dtype=bfloat16")
    found = list(resume_findings(changed, run_with(tmp_path, num_parameters=219_200)))
    assert [(one.key, one.value) for one in found] == [
        ("learner.num_ranks", 2),
        ("learner.deepspeed.zero_stage", 2),
        ("learner.dtype", "bfloat16"),
    ]
    assert all(one.is_fatal and "set it back to" in one.fix for one in found)


OWN_RATES = ("learner.value_head.learning_rate=1e-3", "learner.optimizer.part_learning_rates={projector: 1e-5}")


@pytest.mark.parametrize(
    ("overrides", "groups", "told"),
    [
        (OWN_RATES, ("model", "critic", "projector"), {}),
        (OWN_RATES[:1], ("model",), {"learner.value_head.learning_rate": 1e-3}),
        (("learner.value_head.warmup_updates=2",), ("model",), {"learner.value_head.warmup_updates": 2}),
        (
            OWN_RATES[1:],
            ("critic",),
            {"learner.optimizer.part_learning_rates.projector": 1e-5, "learner.value_head.learning_rate": None},
        ),
        ((), ("model", "vision_tower"), {"learner.optimizer.part_learning_rates.vision_tower": None}),
    ],
)
def test_what_had_a_learning_rate_of_its_own_has_to_keep_one(
    tmp_path: Path, overrides: Sequence[str], groups: Sequence[str], told: dict[str, float | None]
) -> None:
    found = list(resume_findings(config(*overrides), run_with(tmp_path, num_parameters=219_200, groups=groups)))
    assert {one.key: one.value for one in found} == told
    assert all(one.is_fatal and "start a new run" in one.fix for one in found)


def test_the_checkpoint_of_another_model_is_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = run_with(tmp_path, num_parameters=1_000_000)
    assert main(["rl", "--resume", str(run)]) == 2
    told = capsys.readouterr().err
    assert "learner.model=" in told and "it has 219,200 parameters" in told and "has 1,000,000" in told
