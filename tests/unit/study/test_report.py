"""Reports: what they say follows from the records, nothing that a model writes can break them, they need no network."""

import csv
import json
import re
from argparse import ArgumentParser
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import RunError
from cluster.record.files import read_rows
from study.commands import plot, report
from study.report.build import build_report
from study.report.caveats import budget_notes, caveats, matched_success
from study.report.differences import over_seeds, student_p, student_reach
from study.report.drawing import WIDTH
from study.report.figures import draw_all
from study.report.findings import Finding, Findings, count_of_tests
from study.report.overlay import draw_overlay, overlay
from study.report.page import as_script, findings_list
from study.report.rates import Rate, measures_of
from study.report.records import read_study
from study.report.smoothing import savitzky_golay
from study.report.viewer import chosen_episodes
from tests.support.study import EVALUATIONS, NUM_TASKS, SUITES, make_run, make_study

HOSTILE = '</script><script>alert(1)</script><img src="https://example.org/x.png"> \u2028 \ud800'
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps what would be loaded, what scripts hold and what is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.scripts: dict[str, str] = {}
        self.ids: list[str] = []
        self.words = ""
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        options = dict(attrs)
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag == "script":
            self._script = options.get("id") or "code"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.words += data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, two seeds, answers that would break a careless page; its report is made."""
    folder = make_study(tmp_path_factory.mktemp("studies") / "little", answer=HOSTILE)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page((study / "report.html").read_text(encoding="utf-8"))


def test_a_planted_collapse_is_significant_and_a_planted_tie_is_not(study: Path) -> None:
    found = Findings(read_study(study)).sentences()
    kinds = {finding.text.partition("(")[0].strip(): finding.kind for finding in found}
    assert kinds["sft, shifted rule: hands solved fall from 41.2 % to 1.2 %"] == "lower"
    assert kinds["rl, shifted rule: hands solved do not clearly change, from 41.2 % to 41.2 %"] == "same"
    assert kinds["rl, shifted rule: hands solved are higher: 41.2 % against 1.2 % of sft"] == "higher"
    assert kinds["sft, training rule: hands solved rise from 36.2 % to 91.3 %"] == "higher"
    assert kinds["sft, shifted rule: numbers told by the rule fall from 41.2 % to 1.2 %"] == "lower"
    assert all("paired" in finding.text and "over 2 seeds" in finding.text for finding in found)


def test_seeds_that_disagree_are_not_significant_however_many_tasks_agree(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    # Under seed 1, the arm that collapses everywhere else ends where it began.
    rows = (folder / "cells/init_seed1/evaluations.jsonl").read_text().replace('"iteration":0', '"iteration":40')
    (folder / "cells/sft_seed1/evaluations.jsonl").write_text(rows)
    for suite in SUITES:
        kept = (folder / f"cells/init_seed1/episodes/{suite}_t1_000000.jsonl").read_text()
        (folder / f"cells/sft_seed1/episodes/{suite}_t1_000040.jsonl").write_text(kept)
    findings = Findings(read_study(folder))
    told = next(found for found in findings.sentences() if found.text.startswith("sft, shifted rule: hands solved"))
    assert told.kind == "unsure" and "but not for the methods" in told.text and "−40.0, +0.0" in told.text


def test_what_is_not_beyond_chance_is_folded_away_and_still_there() -> None:
    told, rest = Finding("sft fall", "lower"), [Finding("rl do not clearly change", "same")] * 2
    shown, _, folded = findings_list([rest[0], told, rest[1]]).partition("<details>")
    assert told.text in shown and rest[0].text not in shown
    assert (
        "2 that show nothing beyond chance" in folded and folded.count(rest[0].text) == 2 and "3 comparisons" in folded
    )
    assert "Nothing is beyond chance" in findings_list(rest)


def test_how_many_comparisons_hold_is_told_alone_and_corrected_for_their_number() -> None:
    found = [Finding("a", "higher", 0.001), Finding("b", "lower", 0.02), Finding("c", "unsure", 0.2)]
    assert count_of_tests(found).endswith("by chance: 2 are. Corrected for their number (Holm), 2 are.")
    more = [*found, *[Finding("d", "same", 0.9)] * 7]
    assert count_of_tests(more).endswith("by chance: 2 are. Corrected for their number (Holm), 1 are.")


def test_one_seed_is_said_to_be_one_seed(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path / "study", seeds=(3,)))
    assert all("one seed" in found.text for found in Findings(study).sentences())
    assert "One seed was run" in caveats(Findings(study))[0].text


def test_without_episodes_the_intervals_of_the_rates_are_compared(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    for file in folder.glob("cells/*/episodes/*.jsonl"):
        file.unlink()
    found = Findings(read_study(folder)).sentences()
    assert found[0].kind == "lower" and "unpaired" in found[0].text
    assert found[1].kind == "same"
    assert chosen_episodes(read_study(folder))["episodes"] == []


def test_the_page_parses_and_loads_nothing(page: Page) -> None:
    assert page.open == []
    assert [address for address in page.loaded if not address.startswith("#")] == []
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in page.words and "url(http" not in page.words


def test_what_a_model_writes_stays_text(study: Path, page: Page) -> None:
    text = (study / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text and "<img" not in text
    assert set(page.scripts) == {"number-data", "episode-data", "code"}
    embedded = json.loads(page.scripts["episode-data"])
    assert HOSTILE in embedded["texts"]
    assert json.loads(as_script({"a": HOSTILE + "<!--"})) == {"a": HOSTILE + "<!--"}


def test_the_page_has_every_part_and_is_small(study: Path, page: Page) -> None:
    assert (study / "report.html").stat().st_size < 3_000_000
    for words in ("Learning rate × steps", "at matched skill", "Decoding", "Entropy", "A small model", "Seeds"):
        assert words in page.words
    assert "device-seconds" in page.words and "FLOPs, paper's ledger" in page.words
    assert "learning_rate: 0.001" in page.words and "ruleshift" in page.words
    assert len(re.findall("data-figure|<figure>", (study / "report.html").read_text())) == 5


def test_the_viewer_has_the_same_tasks_for_all_and_marks_the_old_rule(study: Path) -> None:
    data = chosen_episodes(read_study(study), max_tasks=8)
    assert len(data["tasks"]) == 8 * len(SUITES)
    by_task: dict[int, set[tuple[str, int]]] = {}
    for episode in data["episodes"]:
        by_task.setdefault(episode["task"], set()).add((episode["arm"], episode["seed"]))
    assert all(who == {(arm, seed) for arm in ("init", "sft", "rl") for seed in (0, 1)} for who in by_task.values())
    shifted = {index for index, (suite, _) in enumerate(data["tasks"]) if suite == "rule_shift"}
    assert all(
        episode["old"] == (episode["end"] != "solved") for episode in data["episodes"] if episode["task"] in shifted
    )
    turn = data["episodes"][0]["turns"][0]
    assert turn["l"] == [-0.05, -2.5, 0.0] and turn["e"] == [5, 12, 12]


def test_a_viewer_that_is_too_large_is_cut(study: Path) -> None:
    data = chosen_episodes(read_study(study), max_bytes=20_000)
    assert 0 < len(json.dumps(data, separators=(",", ":"))) <= 20_000
    assert {suite for suite, _ in data["tasks"]} == set(SUITES)


def test_the_csv_has_every_number(study: Path) -> None:
    with (study / "numbers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = sum(len(measures_of(row)) for file in study.glob("cells/*/evaluations.jsonl") for row in read_rows(file))
    assert len(rows) == expected
    assert {(row["arm"], row["seed"]) for row in rows} == {(a, s) for a in ("init", "sft", "rl") for s in "01"}
    last = next(
        row
        for row in rows
        if (row["arm"], row["seed"], row["suite"], row["iteration"], row["measure"])
        == ("rl", "0", "in_distribution", "40", "success")
    )
    assert (float(last["value"]), int(last["n"]), float(last["compute/flops"])) == (0.6, NUM_TASKS, 4e12)
    assert float(last["low"]) < 0.6 < float(last["high"])


def test_each_arm_begins_at_the_common_policy(study: Path) -> None:
    told = read_study(study)
    series = told.series("sft", 0, "rule_shift")
    assert [point.cell.arm for point in series] == ["init"] + ["sft"] * len(EVALUATIONS)
    assert [point.at("compute/flops") for point in series] == [0, 1e12, 2e12, 3e12, 4e12]


def test_matched_success_is_the_evaluation_nearest_to_the_other_arms_end(study: Path) -> None:
    found = matched_success(read_study(study), "sft", "rl", 0, "rule_shift")
    assert found is not None
    near, shifted, target = found
    assert near.row["iteration"] == shifted.row["iteration"] == 20
    assert (near.row["success"], target.row["success"]) == pytest.approx((0.625, 0.6))


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", budget=8e12)
    (folder / "cells/rl_seed1/evaluations.jsonl").unlink()
    notes = budget_notes(read_study(folder))
    assert "sft has used 50 % of the budget so far." in notes and "Not measured yet: rl seed 1." in notes


def test_arms_that_were_asked_other_questions_are_not_comparable(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", seeds=(0,))
    assert budget_notes(read_study(folder)) == []
    config = folder / "cells/rl_seed0/config.yaml"
    config.write_text(config.read_text().replace("env:\n", "env:\n  max_attempts: 3\n"))
    notes = budget_notes(read_study(folder))
    assert notes[0] == "Not comparable, training rule: rl was measured with max_attempts 3 and not 5 as init was."
    # What the suite itself says goes before what the arm trains on.
    for file in folder.glob("cells/*/config.yaml"):
        suites = "".join(f"    {suite}: {{env: {{max_attempts: 5}}}}\n" for suite in SUITES)
        file.write_text(f"{file.read_text()}evaluation:\n  suites:\n{suites}")
    assert budget_notes(read_study(folder)) == []


def test_figures_are_a_column_wide_and_all_drawn(study: Path) -> None:
    drawn = draw_all(Findings(read_study(study)))
    assert set(drawn) == {"curves", "bars", "fixation", "parts", "by_attempt"}
    for name, (figure, _) in drawn.items():
        assert figure.get_figwidth() == WIDTH
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel() or figure.get_supxlabel() or name == "bars"
        assert {file.suffix for file in (study / "figures").glob(f"{name}.*")} == {".png", ".svg"}


def test_the_command_reports_a_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    parser = ArgumentParser()
    report.add_arguments(parser)
    assert report.run(parser.parse_args([str(run)])) == 0
    assert (
        capsys.readouterr().out == f"in distribution, hands solved: start 30.0 %, run 80.0 %\n{run / 'report.html'}\n"
    )
    made = Page((run / "report.html").read_text(encoding="utf-8"))
    assert made.open == [] and "One seed" in made.words


@pytest.mark.parametrize("y", ["rule_shift/success", "learner/entropy"])
def test_plot_overlays_runs_and_studies(study: Path, tmp_path: Path, y: str) -> None:
    parser = ArgumentParser()
    plot.add_arguments(parser)
    words = [str(study), str(make_run(tmp_path / "run")), "--x", "iteration", "--y", y, "--smooth"]
    assert plot.run(parser.parse_args([*words, "--out", str(tmp_path / "out" / "figure")])) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["figure.png", "figure.svg"]
    assert "little sft, 2 seeds" in (tmp_path / "out" / "figure.svg").read_text()
    assert plot.run(parser.parse_args([*words, "--out", str(tmp_path / "out" / "figure"), "--each"])) == 0
    assert "little sft_seed0" in (tmp_path / "out" / "figure.svg").read_text()


def test_an_arm_is_plotted_as_the_mean_of_its_seeds_with_the_interval_over_both(study: Path) -> None:
    drawn = overlay([study], "iteration", "rule_shift/success")
    assert [curve.label for curve in drawn.curves] == ["init, 2 seeds", "sft, 2 seeds", "rl, 2 seeds"]
    sft = drawn.curves[1]
    told = read_study(study)
    rates = [told.last("sft", seed, "rule_shift") for seed in (0, 1)]
    expected = over_seeds([rate for point in rates if point and (rate := point.rate("success"))])
    assert sft.points[-1] == (Rate(40.0, 40.0, 40.0), expected)
    assert [len(seed) for seed in sft.seeds] == [len(EVALUATIONS)] * 2 and len(sft.points) == len(EVALUATIONS)
    assert (drawn.x, drawn.y, drawn.is_path) == ("iteration", "shifted rule: hands solved", False)


def test_any_measure_stands_against_any_other_at_the_same_iterations(study: Path) -> None:
    drawn = overlay([study], "in_distribution/success", "rule_shift/rule_fixation", each=True)
    assert drawn.is_path and drawn.x == "training rule: hands solved" and drawn.y == "shifted rule: rule fixation"
    by_label = {curve.label: curve.points for curve in drawn.curves}
    rows = {(row["suite"], row["iteration"]): row for row in read_rows(study / "cells/rl_seed1/evaluations.jsonl")}
    expected = [
        (rows["in_distribution", iteration]["success"], rows["rule_shift", iteration]["rule_fixation"])
        for iteration in EVALUATIONS
    ]
    assert [(x.value, y.value) for x, y in by_label["rl_seed1"]] == expected
    # What is recorded of iterations joins what is measured at them.
    entropy = overlay([study], "learner/entropy", "rule_shift/success", each=True).curves[0]
    assert entropy.points[0][0].value == 1.0


def test_the_ends_of_all_arms_and_seeds_are_points_that_nothing_joins(study: Path) -> None:
    drawn = overlay([study], "in_distribution/success", "rule_shift/success", ends=True)
    ends = {curve.label: curve.points for curve in drawn.curves}
    assert list(ends) == ["init", "sft", "rl"] and all(len(points) == 2 for points in ends.values())
    assert [round(y.value, 3) for _, y in ends["sft"]] == [0.0, 0.025]
    lines = [line for line in draw_overlay(drawn).axes[0].lines if line.get_linestyle() not in ("none", "None")]
    ways = [(np.ptp(np.array(line.get_xdata())), np.ptp(np.array(line.get_ydata()))) for line in lines]
    assert all(0 in way for way in ways), "whiskers alone"


@pytest.mark.parametrize("values", [["full", "none"], [1, 10], [[1], [1, 2]], [True, False]], ids=str)
def test_a_sweep_over_anything_has_a_figure(tmp_path: Path, values: list[Any]) -> None:
    folder = make_study(tmp_path / "swept")
    told = json.loads((folder / "study.json").read_text())
    arms = zip(told["arms"], values, strict=True)
    told["sweep"] = {arm: {"arm": "rl", "values": {"env.swept": value}} for arm, value in arms}
    (folder / "study.json").write_text(json.dumps(told))
    figure, _ = draw_all(Findings(read_study(folder)))["sweep_swept"]
    labels = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert labels == list(map(str, values))


def test_plot_says_what_there_is_where_a_name_is_unknown(study: Path) -> None:
    parser = ArgumentParser()
    plot.add_arguments(parser)
    with pytest.raises(RunError, match=r"--y happiness.*there are compute/.*rule_shift/success"):
        plot.run(parser.parse_args([str(study), "--y", "happiness"]))
    with pytest.raises(RunError, match=r"did you mean 'rule_shift/success'"):
        plot.run(parser.parse_args([str(study), "--y", "rule_shift/succes"]))
    with pytest.raises(RunError, match="odd"):
        plot.run(parser.parse_args([str(study), "--smooth", "4"]))


def test_smoothing_leaves_a_cubic_as_it_is() -> None:
    x = np.array([0.0, 1, 2, 4, 5, 7, 8, 9, 12, 13])
    y = 3 - 2 * x + 0.5 * x**2 - 0.1 * x**3
    np.testing.assert_allclose(savitzky_golay(list(y), x=list(x)), y, atol=1e-9)
    np.testing.assert_allclose(savitzky_golay([1.0, 5.0, 2.0]), [1, 5, 2])
    # The known weights of five points and order 3.
    np.testing.assert_allclose(savitzky_golay([0.0, 0, 1, 0, 0], window=5)[2], 17 / 35)
    with pytest.raises(ValueError, match="odd"):
        savitzky_golay([1.0] * 9, window=6)


def test_students_distribution() -> None:
    for freedom, t in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262)):
        assert student_p(t, freedom) == pytest.approx(0.05, abs=1e-4)
        assert student_reach(freedom) == pytest.approx(t, abs=1e-3)
    joined = over_seeds([Rate(0.5, 0.4, 0.6, 100), Rate(0.5, 0.4, 0.6, 100)])
    assert joined == Rate(0.5, 0.4, 0.6, 200)


def test_bad_input_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no such folder.*ruleshift compare"):
        read_study(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"no study\.json.*name the folder"):
        read_study(tmp_path / "empty")
    (tmp_path / "empty" / "config.yaml").write_text("env: {}\n")
    with pytest.raises(RunError, match=r"no arm has an evaluation.*ruleshift evaluate"):
        read_study(tmp_path / "empty")
    (tmp_path / "empty" / "study.json").write_text('{"arms": 3}')
    with pytest.raises(RunError, match=r"not the description of a study.*ruleshift compare"):
        read_study(tmp_path / "empty")
