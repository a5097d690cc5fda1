"""What `make` runs for a study: on which seeds, and of which tasks."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STUDIES = {"gp_l", "gp_vl", "virl_l", "virl_vl"}


def commands(*words: str) -> str:
    """What it would run, where everything is installed."""
    made = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return made.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("study", "TASK=gp_l", "SEEDS=3"),
            "compare configs/nano/gp_l.yaml --out runs/studies/gp_l compare.seeds=[10,11,12]",
        ),
        (("study",), "compare configs/nano/gp_l.yaml --out runs/studies/gp_l compare.seeds=[10]"),
        (
            ("grid", "TASK=gp_l", "SEEDS=2"),
            "compare configs/nano/gp_l.yaml configs/nano/grid.yaml --out runs/grids/gp_l compare.seeds=[0,1]",
        ),
        (
            ("demo", "SEEDS=2"),
            "compare configs/nano/gp_l.yaml configs/nano/demo.yaml --out runs/demo compare.seeds=[0,1]",
        ),
    ],
)
def test_settings_are_found_on_seeds_below_ten_and_studies_run_on_others(words: tuple[str, ...], told: str) -> None:
    assert told in commands(*words)


def test_all_tasks_that_have_a_study_are_studied() -> None:
    found = {file.stem for file in (ROOT / "configs" / "nano").glob("*.yaml")} & STUDIES
    told = commands("studies")
    [line] = [line for line in told.splitlines() if line.startswith("status=0; for task in ")]
    assert set(line.partition(" in ")[2].partition(";")[0].split()) == found
    assert "ruleshift report runs/studies" in told
