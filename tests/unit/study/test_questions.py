"""Questions: what is kept of a study is enough for its figure, its table and its words, and these say what it holds."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.planning.hardware import Hardware
from cluster.question_options import QuestionConfig
from study.cells import Study as StudyOfCells
from study.commands.questions import listing
from study.plan_study import plan_study
from study.questions import catalog, contrasts, points
from study.questions.contrasts import Contrast, passes, selections, spearman
from study.questions.efficiency import Efficiency, efficiencies, flips
from study.questions.figures import draw
from study.questions.page import Answer, keep, section, write_page
from study.questions.points import Kept
from study.report.differences import holm
from study.report.drawing import place_of
from study.report.records import read_study
from tests.support.study import make_study

CPUS = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
QUESTION: dict[str, Any] = {
    "asks": "Does imitation forget the rule?",
    "figure": {"kind": "curves", "y": ["rule_shift/success", "in_distribution/success"]},
    "contrasts": [
        {"first": "sft", "by": "rule_shift/success"},
        {"first": "rl", "second": "sft", "by": "rule_shift/success"},
        {"first": "rl", "by": "rule_shift/success"},
    ],
    "measures": ["rule_shift/parse_rate"],
    "efficiency": ["in_distribution/success"],
    "would_change": "Another seed.",
}
YAML = """
env: {name: general_points}
learner: {model: models/nano_gp_l}
evaluation: {suites: {in_distribution: {title: training rule}, rule_shift: {title: shifted rule}}}
compare:
  budget: 4.0e+12
  arms: {sft: {command: sft}, rl: {command: rl}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_study(tmp_path_factory.mktemp("studies") / "forgets")
    for cell in (folder / "cells").iterdir():
        (cell / "cell.json").write_text(json.dumps({"digest": "d", "is_done": True, "seconds": 30.0}))
    return folder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of questions that has the one."""
    from omegaconf import OmegaConf

    folder = tmp_path / "questions"
    folder.mkdir()
    config = OmegaConf.merge(OmegaConf.create(YAML), {"compare": {"question": QUESTION}})
    OmegaConf.save(config, folder / "forgets.yaml")
    monkeypatch.setattr(catalog, "FOLDER", folder)
    return folder


def question(**changes: Any) -> QuestionConfig:
    return QuestionConfig.model_validate({**QUESTION, **changes})


def test_what_is_kept_reads_back_and_stands_by_itself(study: Path, tmp_path: Path) -> None:
    kept = points.points_of(read_study(study), question())
    points.write(kept, tmp_path / "kept.csv")
    again = points.read(tmp_path / "kept.csv")
    assert [dataclasses.replace(one, value=0, low=0, high=0) for one in again] == [
        dataclasses.replace(one, value=0, low=0, high=0) for one in kept
    ]
    assert all(abs(one.value - other.value) < 1e-4 for one, other in zip(again, kept, strict=True))
    of_sft = [one for one in kept if (one.arm, one.seed, one.name) == ("sft", 0, "rule_shift/success")]
    assert [(one.when, one.iteration) for one in of_sft] == [
        ("start", 0), ("way", 10), ("way", 20), ("way", 30), ("end", 40),
    ]  # fmt: skip
    assert of_sft[0].value == pytest.approx(0.4) and of_sft[-1].value == pytest.approx(0.0)
    assert of_sft[0].flops == 0 and of_sft[-1].flops == 4e12


def test_contrasts_find_what_was_planted_and_are_corrected_for_their_number(study: Path) -> None:
    found = contrasts.contrasts_of(read_study(study), question())
    assert [(one.first, one.second) for one in found] == [("sft", "start"), ("rl", "sft"), ("rl", "start")]
    collapse, above, tie = found
    assert collapse.value == pytest.approx(-0.4) and collapse.corrected < 0.05
    assert above.value == pytest.approx(0.4) and above.corrected < 0.05
    assert abs(tie.value) < 0.03 and tie.corrected > 0.05
    assert [one.corrected for one in found] == holm([one.p for one in found])
    assert all(one.seeds == 2 for one in found)


def test_arms_are_held_against_each_other_by_different_measures_and_a_policy_against_itself(study: Path) -> None:
    plain, crossed, itself, at_once = contrasts.contrasts_of(
        read_study(study),
        question(
            contrasts=[
                {"first": "rl", "second": "sft", "by": "rule_shift/success"},
                {"first": "rl", "second": "sft", "by": "rule_shift/success", "against": "in_distribution/success"},
                {"first": "sft", "second": "sft", "by": "in_distribution/success", "against": "rule_shift/success"},
                {"first": "sft", "second": "sft", "by": "rule_shift/parse_rate", "against": "rule_shift/success"},
            ]
        ),
    )
    assert crossed.of_first == plain.of_first and crossed.of_second == itself.of_first
    assert itself.of_second == plain.of_second == pytest.approx(0.0, abs=0.02)
    assert itself.value == pytest.approx(itself.of_first - itself.of_second) and itself.p < 0.01
    assert at_once.of_second == itself.of_second and at_once.of_first > 0.5 < at_once.value
    assert crossed.value == pytest.approx(crossed.of_first - crossed.of_second) and crossed.value < 0


def test_the_page_says_what_was_found_and_needs_nothing_but_the_tables(
    study: Path, asked: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "docs" / "questions"
    keep(read_study(study), "forgets", question(), folder)
    answer = Answer.of("forgets", folder)
    assert answer is not None
    text = section(answer, "questions")
    assert "## Does imitation forget the rule?" in text
    assert "Shifted rule: hands solved: `sft` 1.2 % against 41.2 % where it began (−40.0 points" in text
    assert "Not beyond chance, for so many comparisons." in text.partition("**Rests on.**")[0]
    assert "**Would change it.** Another seed." in text
    assert "`rl` is ahead of `sft` for good behind" in text and "FLOPs by the paper's count" in text
    assert (
        "| training rule: hands solved | points for 10¹² FLOPs | points for 10¹² FLOPs by the paper's count |" in text
    )
    assert "points for a million tokens trained on" in text
    # Of 80 points, SFT gains and RL does not: nothing to put in order. The table has what the records have.
    row = next(line for line in text.splitlines() if line.startswith("| `sft` | +") and line.count("|") == 6)
    gains = {one.ledger: one for one in efficiencies(answer.points, "in_distribution/success") if one.arm == "sft"}
    assert row.split("|")[2].strip() == f"{100e12 * gains['flops'].per_spent:+.3g}"
    gone = tmp_path / "gone"
    shutil.copytree(study, gone)
    missing = write_page(folder, tmp_path / "docs" / "questions.md")
    assert missing == []
    assert (folder / "forgets.svg").is_file() and not (folder / "forgets.png").exists()
    assert "questions/forgets.svg" in (tmp_path / "docs" / "questions.md").read_text()
    with (folder / "forgets.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 5 * 3


def test_a_measure_that_was_never_taken_is_told_with_what_there_is(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"rule_shift/sucess was not measured; did you mean 'rule_shift/success'"):
        points.points_of(read_study(study), question(measures=["rule_shift/sucess"]))


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ({"kind": "sweep", "y": ["a/b"]}, "kind=sweep needs x"),
        ({"kind": "scatter", "y": ["a/b"]}, "kind=scatter needs x"),
        ({"kind": "curves"}, "y is empty"),
    ],
)
def test_a_figure_without_axes_is_refused(figure: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        question(figure=figure)
    with pytest.raises(ValueError, match="selectors need an outcome"):
        question(selectors=["validation/success"])


def kept(
    arm: str, value: float, *, seed: int = 0, when: Any = "end", name: str = "s/m", x: float = 0.0, **values: Any
) -> Kept:
    suite, _, measure = name.partition("/")
    at = dict.fromkeys(("flops", "paper_flops", "trained_tokens", "device_seconds"), x)
    told: dict[str, Any] = {"suite": suite, "measure": measure, "low": None, "high": None, "n": 100, **at}
    return Kept(
        arm=arm, of=arm.partition("_")[0], values=values, seed=seed, when=when, iteration=0, value=value, **told
    )


def curve_of(arm: str, values: list[float]) -> list[Kept]:
    return [kept(arm, value, when="way" if x else "start", x=float(x)) for x, value in enumerate(values)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 1, 2, 3], [1, 1, 1, 1], 1.0),
        ([0, 0, 2, 2], [1, 1, 1, 1], 1.5),
        ([0, 2, 0, 2], [1, 1, 1, 1], 2.5),
        ([2, 2, 2, 2], [1, 1, 1, 1], 0.0),
        ([2, 2, 2, 0], [1, 1, 1, 1], None),
        ([0, 1], [1, 0, 0, 9], 0.5),
    ],
)
def test_one_arm_passes_another_where_it_stays_ahead(first: list[float], second: list[float], expected: Any) -> None:
    found = passes([*curve_of("a", first), *curve_of("b", second)], "a", "b", "s/m", "flops")
    assert found == (None if expected is None else pytest.approx(expected))


def test_what_an_arm_gains_for_what_it_spends_is_the_hand_worked() -> None:
    # From 10 to 40 over two units of compute, first slowly: 0, 10, 30 points above its start, 12.5 on average.
    [slow] = {one.gain for one in efficiencies(curve_of("slow", [10, 20, 40]), "s/m")}
    assert slow == 30
    of_flops = efficiencies(curve_of("slow", [10, 20, 40]), "s/m")[0]
    assert (of_flops.spent, of_flops.per_spent, of_flops.height) == (2, 15, pytest.approx((5 + 20) / 2))
    assert not efficiencies(curve_of("alone", [10]), "s/m")
    assert not efficiencies(curve_of("slow", [10, 20, 40]), "s/m", but={"slow"})


def test_two_arms_change_places_where_the_account_decides() -> None:
    def of(arm: str, gain: float, **spent: float) -> list[Efficiency]:
        return [Efficiency(arm=arm, ledger=ledger, gain=gain, spent=each, height=0) for ledger, each in spent.items()]

    sft = of("sft", 2, flops=1, paper_flops=1, trained_tokens=1)
    assert flips([*sft, *of("rl", 3, flops=1, paper_flops=2, trained_tokens=1)]) == [("sft", "rl")]
    assert flips([*sft, *of("rl", 3, flops=1, paper_flops=1.2, trained_tokens=1)]) == []
    # What loses is not efficient; where both gain as much for it, neither is ahead.
    assert flips([*sft, *of("rl", -3, flops=1, paper_flops=2, trained_tokens=1)]) == []
    assert flips([*sft, *of("rl", 2, flops=1, paper_flops=1, trained_tokens=0.5)]) == []


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_rank_correlation_of_unequal_values_is_the_textbooks(one: list[int], other: list[int]) -> None:
    distances = sum((first - second) ** 2 for first, second in zip(one, other, strict=True))
    assert spearman(np.array(one), np.exp(np.array(other))) == pytest.approx(1 - 6 * distances / (7 * 48))


def test_equals_share_their_rank_and_what_is_all_alike_tells_nothing() -> None:
    # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4.
    assert spearman(np.array([2, 2, 3, 5]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman(np.ones(4), np.arange(4)) == 0.0


def test_a_selector_is_judged_by_what_came_of_the_start_that_it_chooses() -> None:
    asks = question(selectors=["v/generalisation_loss", "v/pass@4"], outcome="s/m")
    told = []
    for seed in (0, 1):
        for arm, loss, tries, came in (("a", 0.9, 0.3, 0.1), ("b", 0.5, 0.4, 0.3), ("c", 0.7, 0.2, 0.5)):
            told += [kept(arm, loss, seed=seed, when="start", name="v/generalisation_loss")]
            told += [kept(arm, tries, seed=seed, when="start", name="v/pass@4"), kept(arm, came, seed=seed)]
    by_loss, by_tries = selections(told, asks)
    assert (by_loss.spearman, by_loss.regret, by_loss.starts) == (pytest.approx(0.5), pytest.approx(0.2), 3)
    assert (by_tries.spearman, by_tries.regret) == (pytest.approx(-0.5), pytest.approx(0.2))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_corrected_p_values_are_in_the_same_order_and_never_smaller(values: list[float]) -> None:
    corrected = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)
    assert min(corrected, default=0) == pytest.approx(min(1, len(values) * min(values, default=0)))


@pytest.mark.parametrize("kind", ["curves", "sweep", "scatter", "bars"])
@pytest.mark.parametrize("sweeps", [[1, 3, 10], ["full", "none"], [[1, 2], [3]], [True, False]], ids=str)
def test_every_figure_draws_numbers_words_and_lists(kind: str, sweeps: list[Any], tmp_path: Path) -> None:
    found = []
    for arm in ("sft", "rl"):
        for index, value in enumerate(sweeps):
            for seed in (0, 1):
                name = f"{arm}_{index}"
                found.append(kept(name, 0.2, seed=seed, when="start", **{"env.swept": value}))
                found += [kept(name, 0.1 * (index + seed), seed=seed, x=1.0, **{"env.swept": value})]
    figure = question(figure={"kind": kind, "x": "s/m" if kind == "scatter" else "env.swept", "y": ["s/m"]}).figure
    drawn = draw(found, figure, {}, "flops")
    [axes] = drawn.axes
    assert axes.has_data()
    if kind == "sweep":
        assert len(axes.get_xticks()) == len(sweeps)
    shown = {text.get_text() for legend in drawn.legends for text in legend.get_texts()}
    assert kind == "bars" or {"sft", "rl"} <= {word.partition("_")[0] for word in shown}


def test_numbers_stand_by_their_size_and_words_in_their_order() -> None:
    assert [place_of([1, 10, 100])(value) for value in (1, 10, 100)] == [0, 1, 2]
    assert [place_of([1, 3, 5])(value) for value in (1, 3, 5)] == [1, 3, 5]
    assert [place_of(["full", "none"])(value) for value in ("full", "none")] == [0, 1]
    assert [place_of([0, 10])(value) for value in (0, 10)] == [0, 10]


def test_the_listing_has_every_question_and_how_to_ask_it(asked: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("study.commands.questions.KEPT", tmp_path)
    assert listing() == "forgets  Does imitation forget the rule?\n    not run yet: ruleshift questions forgets"


@pytest.mark.parametrize("name", catalog.names())
def test_every_shipped_question_is_planned(name: str) -> None:
    config, asks = catalog.load(name)
    study = StudyOfCells.of(config, Path("study"))
    plan_study(study, CPUS).refuse()
    known = {cell.name for cell in study.cells}
    for contrast in asks.contrasts:
        assert {contrast.first, contrast.second} <= known | {"start"}, contrast
    suites = config.evaluation.suites
    assert {measure.partition("/")[0] for measure in asks.wanted} <= suites.keys()
    if asks.figure.kind == "sweep":
        assert asks.figure.x in config.compare.sweep
    assert all(seed >= 10 for seed in config.compare.seeds), "no setting was found with these"


def test_contrasts_read_back(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {
        "of_first": 0.5,
        "of_second": 0.25,
        "value": 0.25,
        "low": 0.1,
        "high": 0.4,
        "p": 0.01,
        "corrected": 0.02,
    }
    one = Contrast(first="a", second="b", by="s/m", seeds=3, n=600, **numbers)
    other = dataclasses.replace(one, against="s/other")
    contrasts.write([one, other], tmp_path / "c.csv")
    assert contrasts.read(tmp_path / "c.csv") == [one, other]
