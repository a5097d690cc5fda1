"""The matrix of what was trained on and what was tested on, from records alone."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cluster.config import load_config, suite_environments
from study.cells import Study
from study.report.caveats import budget_notes
from study.report.drawing import WIDTH
from study.report.figures import draw_all
from study.report.findings import Findings
from study.report.records import read_study
from study.report.transfer import trained_on, transfer_matrix
from tests.support.study import make_study

CONFIGS = Path(__file__).parents[3] / "configs"
BOTH = (
    "env:\n  name: mixture\n  parts:\n    cards: {env: {name: general_points, modality: pictures}}\n"
    "    numbers: {env: {name: countdown}}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose arms were trained on different environments."""
    folder = make_study(tmp_path / "study")
    for arm, env in (("sft", "env: {name: countdown}\n"), ("rl", BOTH)):
        for file in folder.glob(f"cells/{arm}_seed*/config.yaml"):
            file.write_text(env)
    return folder


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_cell_has_the_rate_of_an_arm_on_a_suite(folder: Path) -> None:
    findings = Findings(read_study(folder))
    figure, caption = transfer_matrix(findings)["transfer"]
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "init",
        "sft\non countdown",
        "rl\non general points,\npictures +\ncountdown",
    ]
    assert [tick.get_text().replace("\n", " ") for tick in axes.get_xticklabels()] == ["training rule", "shifted rule"]
    # Rates of two seeds that differ by one of forty tasks, row by row.
    assert texts(figure)[::2] == ["36.2", "41.2", "91.3", "1.2", "61.3", "41.2"]
    rate = findings.rate("rl", "rule_shift", "success")
    assert rate is not None and rate.low is not None and rate.high is not None
    assert texts(figure)[-1] == f"{100 * rate.low:.0f}–{100 * rate.high:.0f}"
    assert figure.get_figwidth() == WIDTH and "95 %" in caption
    assert "transfer" in draw_all(findings)


def test_there_is_no_matrix_where_all_were_trained_on_the_same(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path / "study"))
    assert transfer_matrix(Findings(study)) == {}
    assert trained_on(study, "rl") == "general points"


def test_arms_that_were_trained_on_different_tasks_are_compared_on_what_all_were_asked(tmp_path: Path) -> None:
    """Whatever stands in an arm's configuration, the same suite resolves to the same questions."""
    folder = make_study(tmp_path / "study", seeds=(0,))
    suites = "evaluation:\n  suites:\n    in_distribution: {env: {name: general_points}}\n    rule_shift: {env: %s}\n"
    for arm, env in (("init", "general_points"), ("sft", "general_points"), ("rl", "countdown")):
        config = f"env: {{name: {env}}}\n" + suites % "{name: countdown}"
        (folder / f"cells/{arm}_seed0/config.yaml").write_text(config)
    assert budget_notes(read_study(folder)) == []


@pytest.mark.parametrize(
    ("file", "tasks", "asked"),
    [
        ("transfer", ("cards", "countdown", "both"), {"general_points", "countdown", "mixture"}),
        ("transfer_modalities", ("pictures", "words", "both"), {"general_points", "mixture"}),
    ],
)
def test_the_studies_of_transfer_ask_all_arms_the_same(
    tmp_path: Path, file: str, tasks: tuple[str, ...], asked: set[str]
) -> None:
    config = load_config([CONFIGS / "nano" / f"{file}.yaml"])
    cells = Study.of(config, tmp_path).cells
    assert [cell.name for cell in cells] == [f"{way}_{task}" for way in ("sft", "rl") for task in tasks]
    assert {cell.config.env.name for cell in cells} == asked
    for cell in cells:
        assert suite_environments(cell.config) == suite_environments(config)
