"""Reports by task: the measures of each environment, what its suites shift, and several studies in one report."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RunError
from cluster.record.files import read_rows
from study.commands import report
from study.report.build import build_tasks_report, studies_in
from study.report.differences import Difference
from study.report.drawing import WIDTH
from study.report.figures import draw_all
from study.report.findings import Findings
from study.report.headline import headline, is_told, listed, overall
from study.report.records import read_study
from study.report.suites import read_suites
from study.report.task_figures import draw_tasks
from study.report.tasks import Tasks
from tests.support.four_tasks import make_task
from tests.support.study import make_run, make_study

SHIFTED = """
env: {name: route_navigation, modality: pictures}
evaluation:
  suites:
    here: {split: validation}
    there: {}
    turned: {env: {actions: relative, training_actions: absolute}}
    town: {env: {city: {style: oldtown}}}
    odd: {shift: look, env: {max_attempts: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cards in pictures and routes in words, two seeds each."""
    folder = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RULESHIFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        for task in ("gp_vl", "virl_l"):
            make_task(folder / task, task, seeds=(10, 11), num_tasks=12)
        yield folder


@pytest.fixture(scope="module")
def tasks(folder: Path) -> Tasks:
    return Tasks.of([Findings(read_study(inner)) for inner in studies_in(folder)])


def test_what_suites_shift_is_read_from_the_configuration() -> None:
    titles = {name: name for name in ("here", "there", "turned", "town", "odd")}
    suites = read_suites(["not: [yaml", SHIFTED], titles)
    assert {name: suite.shift for name, suite in suites.items()} == {
        "here": "none",
        "there": "none",
        "turned": "rule",
        "town": "look",
        "odd": "look",
    }
    assert [name for name, suite in suites.items() if suite.chooses] == ["here"]
    assert suites["turned"].measures.headline.name == "per_step_accuracy/turn_direction"


def test_where_no_configuration_can_be_read_names_and_titles_tell() -> None:
    titles = {"in_distribution": "", "a": "shifted rule", "visual_shift": "other city", "countdown": "countdown"}
    suites = read_suites(["env: {name: general_points, no_longer: 3}"], titles)
    assert [suite.shift for suite in suites.values()] == ["none", "rule", "look", "other"]
    assert all(suite.measures.headline.name == "success" and suite.env is None for suite in suites.values())


def test_a_report_tells_of_the_suites_that_do_not_choose(tasks: Tasks) -> None:
    cards, routes = tasks.studies
    assert (cards.trained_suite, cards.shifted("rule"), cards.shifted("look")) == (
        *("in_distribution", "rule_shift", "look_shift"),
    )
    assert cards.shifted_suites == ("rule_shift", "look_shift", "validation")
    assert routes.shown_suites == ("in_distribution", "rule_shift")
    assert (cards.command("sft"), cards.command("rl"), cards.command("x")) == ("sft", "rl", None)


def test_each_task_is_told_by_its_own_measure(tasks: Tasks) -> None:
    cards, routes = tasks.findings
    assert re.match(r"training rule, hands solved: init \d", cards.three_numbers()[0])
    lines = routes.three_numbers()
    assert [line.partition(":")[0] for line in lines] == ["training rule, correct turns", "shifted rule, correct turns"]
    found = {sentence.text.partition(" (")[0]: sentence for sentence in routes.sentences()}
    turns = next(text for text in found if text.startswith("sft, shifted rule: correct turns fall"))
    assert "paired" in found[turns].text
    rest = next(text for text in found if text.startswith("sft, shifted rule: correct steps forward"))
    assert "fall" not in rest
    assert not any("validation" in text for text in found)


def test_what_is_recorded_of_the_episodes_is_what_the_rows_say(folder: Path, tasks: Tasks) -> None:
    """The paired differences of each measure are those of its rates."""
    for one in tasks.findings:
        study = one.study
        for suite in study.shown_suites:
            for measure in study.measures(suite).all:
                found = one.difference("sft", "init", suite, measure.name, 1.0)
                rates = [one.rate(arm, suite, measure.name) for arm in ("sft", "init")]
                assert found is not None and found.is_paired, measure.name
                assert rates[0] is not None and rates[1] is not None
                assert found.value == pytest.approx(rates[0].value - rates[1].value, abs=1e-9), measure.name


def test_the_figures_of_several_tasks_are_a_column_wide_each_where_it_says_something(tasks: Tasks) -> None:
    drawn = draw_tasks(tasks)
    assert set(drawn) == {"curves", "bars_rule", "bars_look", "recognition", "steps_and_routes", "fixation"}
    assert all(figure.get_figwidth() == WIDTH for figure, _ in drawn.values())
    curves = drawn["curves"][0]
    assert len(curves.axes) == 4 and curves.axes[0].get_title() == "cards in\npictures\nhands solved"
    for name in ("curves", "steps_and_routes"):
        labels = [axes.get_ylabel() for axes in drawn[name][0].axes if axes.get_ylabel()]
        assert labels == ["training\nrule (%)", "shifted\nrule (%)"], "in one line, one runs into the other"
    # Nothing is recognised in words, and no cards are walked.
    (words,) = [one for one in tasks.findings if one.study.name == "virl_l"]
    (cards,) = [one for one in tasks.findings if one.study.name == "gp_vl"]
    assert set(draw_all(words)) == {"curves", "bars", "steps_and_routes", "fixation", "parts"}
    assert set(draw_all(cards)) == {"curves", "bars", "recognition", "fixation", "parts", "by_attempt"}
    parts = draw_all(cards)["parts"][0]
    assert [axes.get_title("left") for axes in parts.axes] == [
        *("formulas that count by the rule", "formulas that make 24, of any numbers", "hands recognised at once"),
    ]


def test_recognition_stands_against_what_is_solved_at_the_same_evaluations(folder: Path, tasks: Tasks) -> None:
    figure = draw_tasks(tasks)["recognition"][0]
    shifted = next(axes for axes in figure.axes if axes.get_title() == "shifted rule")
    rows = [
        row
        for seed in (10, 11)
        for row in read_rows(folder / f"gp_vl/cells/sft_seed{seed}/evaluations.jsonl")
        if row["suite"] == "rule_shift" and row["iteration"] == 40
    ]
    x, y = (
        100 * sum(row[name] for row in rows) / 2 for name in ("success", "checks_at_first_attempt/cards_recognised")
    )
    drawn = [tuple(place) for dots in shifted.collections for place in np.asarray(dots.get_offsets()).tolist()]
    assert any(place == pytest.approx((x, y)) for place in drawn)


def test_the_headline_says_what_was_asked_and_nothing_that_chance_explains(tmp_path: Path) -> None:
    told = headline(Findings(read_study(make_study(tmp_path / "study"))))
    assert told[0].startswith(
        "Cards in words. The measure is hands solved, under the rule of training (J, Q and K count 10)"
    )
    assert (
        told[1]
        == "sft: up under the rule of training (36.2 % → 91.3 %) and down under the shifted rule (41.2 % → 1.2 %)."
    )
    assert re.fullmatch(
        r"rl: up under the rule of training \(36.2 % → 61.3 %\) and no change that can be told under the shifted rule "
        r"\(41.2 % → 41.2 %; interval of the change −\d+\.\d to \+\d+\.\d points\)\.",
        told[2],
    )
    assert re.match(r"Under the shifted rule, rl ends 40.0 points above sft \(\+\d", told[3])
    assert "2 seeds" in told[4]
    assert "One run of each" in headline(Findings(read_study(make_study(tmp_path / "one", seeds=(0,)))))[-1]
    assert len(headline(Findings(read_study(make_run(tmp_path / "run"))))) > 1


def test_over_several_tasks_changes_are_counted(tasks: Tasks) -> None:
    sft, rl = overall(tasks)
    assert sft.startswith("sft (trained by imitation): under the rule of training, ")
    # Two seeds of a dozen hands cannot tell what became of the cards.
    assert "under the shifted rule, down in 1 and not to be told in 1 of 2 tasks" in sft
    assert sft.endswith("with the shifted look, not to be told in 1 of 1 tasks.")
    assert rl.startswith("rl (trained by play): ") and "down" not in rl


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_change_is_told_only_where_its_interval_leaves_nothing_else(
    value: float, reach: float, task_p: float, seed_p: float
) -> None:
    found = Difference(
        value=value,
        low=value - reach,
        high=value + reach,
        by_seed=(value, value),
        task_p=task_p,
        seed_p=seed_p,
        n=10,
        is_paired=True,
    )
    if is_told(found):
        assert max(task_p, seed_p) < 0.05 and abs(value) > reach


def test_parts_are_listed_as_one_writes() -> None:
    assert (listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == (
        "",
        "a",
        "a and b",
        "a, b and c",
    )
    assert listed(["a, b", "c"]) == "a, b; and c"


def command(*words: str) -> int:
    parser = ArgumentParser()
    report.add_arguments(parser)
    return report.run(parser.parse_args(list(words)))


@pytest.mark.timeout(180)
def test_a_folder_of_studies_is_one_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "both"
    assert command(str(folder), "--out", str(out)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out / "report.html")
    assert printed[0].startswith("gp_vl: training rule, hands solved: init")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    for words in ("Cards in pictures", "Routes in words", "J, Q and K count 11, 12 and 13", "What it does not show"):
        assert words in page
    linked = re.findall(r'href="([^"#]*report.html)"', page)
    assert [(out / link).resolve() for link in linked] == [inner / "report.html" for inner in studies_in(folder)]
    assert all((out / link).is_file() for link in linked)
    assert {file.suffix for file in (out / "figures").glob("bars_rule.*")} == {".png", ".svg"}
    table = (out / "numbers.csv").read_text()
    assert "gp_vl,sft,10," in table and "virl_l,rl,11," in table


def test_several_studies_need_a_place_and_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report of 2 studies: name the folder for it, as --out"):
        command(str(folder / "virl_l"), str(folder / "gp_vl"))
    with pytest.raises(RunError, match=r"two of the studies are called gp_vl"):
        build_tasks_report([folder / "gp_vl"] * 2, tmp_path / "twice")
    assert studies_in(folder / "gp_vl") == [] and studies_in(tmp_path / "nowhere") == []
