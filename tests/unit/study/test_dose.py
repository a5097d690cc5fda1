"""What validation chooses, and what a report says at the chosen learning rate and at the paper's."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.record.files import read_rows
from study.report.build import build_report
from study.report.choosing import Selection, choose, told, write_selection
from study.report.dose import Doses, headline, rate_words, sentences
from study.report.dose_figures import _path, draw_doses
from study.report.dose_tables import chosen_table, rate_caveats
from study.report.drawing import WIDTH
from study.report.elicitation import told_apart
from study.report.findings import Findings
from study.report.records import read_study
from tests.support.dosed_study import FROZEN, Planted, make_dosed
from tests.support.study import make_run, make_study


def doses_of(folder: Path) -> Doses:
    return Doses(Findings(read_study(folder)))


def selection_of(doses: Doses) -> Selection:
    assert doses.selection is not None
    return doses.selection


def with_validation(**rates: float) -> Mapping[str, Planted]:
    """Runs of one method that differ in what validation says of them."""
    return {
        name: Planted("sft", 1e-4 * place, 0.5, 0.4, rate, 0.1) for place, (name, rate) in enumerate(rates.items(), 1)
    }


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dosed(tmp_path_factory.mktemp("studies") / "grid")


@pytest.fixture(scope="module")
def doses(grid: Path) -> Doses:
    return doses_of(grid)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Doses:
    return doses_of(make_dosed(tmp_path_factory.mktemp("studies") / "frozen", FROZEN, seeds=(10, 11)))


def test_the_highest_mean_over_the_seeds_is_chosen_for_each_method(doses: Doses) -> None:
    sft, rl = selection_of(doses).choices
    assert (sft.method, sft.cell, rl.method, rl.cell) == (
        "sft",
        "sft_learning_rate_0.0001",
        "rl",
        "rl_learning_rate_0.0003",
    )
    # Seed 1 has one task of forty more than seed 0.
    assert sft.ranked[0].rate.value == pytest.approx((0.85 + 0.875) / 2)
    assert sft.ranked[0].by_seed == {0: 0.85, 1: 0.875}
    assert sft.ahead is not None and sft.ahead.value == pytest.approx(0.25) and sft.ahead.is_paired and sft.is_clear
    assert rl.ahead is not None and rl.ahead.low < 0 < rl.ahead.high and not rl.is_clear


def test_what_was_chosen_is_kept_with_how_close_the_second_was(doses: Doses, tmp_path: Path) -> None:
    write_selection(selection_of(doses), tmp_path)
    record = json.loads((tmp_path / "selection.json").read_text())
    assert (record["suite"], record["measure"], record["temperature"]) == ("validation", "success", 1.0)
    sft = record["choices"]["sft"]
    assert sft["chosen"] == "sft_learning_rate_0.0001" and sft["is_clear"]
    assert [each["cell"] for each in sft["candidates"]] == ["sft_learning_rate_0.0001", "sft_learning_rate_0.0015"]
    assert sft["candidates"][1]["rate"]["low"] < 0.6 < sft["candidates"][1]["rate"]["high"]
    assert (
        sft["ahead_of_the_second"]["value"] == pytest.approx(0.25) and sft["ahead_of_the_second"]["seed_p"] is not None
    )


def test_of_equals_the_first_is_chosen_and_chance_is_named(tmp_path: Path) -> None:
    doses = doses_of(make_dosed(tmp_path / "study", with_validation(low=0.5, middle=0.7, high=0.7), seeds=(0,)))
    [choice] = selection_of(doses).choices
    assert [each.cell for each in choice.ranked] == ["middle", "high", "low"]
    assert not choice.is_clear and "chance may have chosen" in told(selection_of(doses))[0]


def test_only_seeds_under_which_all_were_measured_count(tmp_path: Path) -> None:
    folder = make_dosed(tmp_path / "study", with_validation(low=0.6, high=0.55), seeds=(0, 1))
    # Under seed 1 the low rate would have failed, but nobody knows what the high one would have done.
    (folder / "cells" / "high_seed1" / "evaluations.jsonl").unlink()
    rows = folder / "cells" / "low_seed1" / "evaluations.jsonl"
    kept = [{**row, "success": 0.0} if row["suite"] == "validation" else row for row in read_rows(rows)]
    rows.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    [choice] = selection_of(doses_of(folder)).choices
    assert choice.cell == "low" and choice.ranked[0].by_seed == {0: 0.6}


def test_without_a_suite_to_choose_by_nothing_is_chosen(tmp_path: Path) -> None:
    folder = make_dosed(tmp_path / "study", with_validation(low=0.6, high=0.5), seeds=(0,), select=None)
    assert choose(Findings(read_study(folder))) is None
    assert [dosed.is_chosen for dosed in doses_of(folder).cells] == [False, False]


def test_what_is_to_be_pasted_makes_the_chosen_runs(doses: Doses) -> None:
    lines = told(selection_of(doses))
    at = lines.index("To freeze what was chosen, for untouched seeds:")
    arms = yaml.safe_load("\n".join(lines[at + 1 :]))["compare"]["arms"]
    assert arms == {
        "sft_chosen": {
            "command": "sft",
            "dose": "chosen",
            "options": {"data": {"count": 9}, "learner": {"optimizer": {"learning_rate": 1e-4}}},
        },
        # It has chosen what is the paper's dose anyway, and nothing runs twice.
        "rl": {"dose": "both"},
        "rl_chosen": None,
    }


def test_the_suite_that_chose_is_no_result(doses: Doses) -> None:
    assert list(doses.study.suites) == ["in_distribution", "rule_shift"]
    assert not any("validation" in finding.text for finding in doses.findings.sentences())


def test_the_claim_names_the_dose_where_the_dose_decides(doses: Doses, frozen: Doses) -> None:
    for each in (doses, frozen):
        assert headline(each) == (
            "Imitation (SFT) gains under the shifted rule at the learning rate that validation chose and loses it at "
            "the paper's dose: the dose decides. Play (RL) does not clearly lose the shifted rule at either dose. At "
            "the learning rate that validation chose, RL ends below SFT. At the paper's dose, RL ends above SFT."
        )


def test_the_first_sentence_says_what_holds_at_the_chosen_rate_and_what_at_the_papers(doses: Doses) -> None:
    first, second = sentences(doses)
    assert first == (
        "Shifted rule, hands solved, 41.2 % at the start: at the learning rate that validation chose, SFT (1e-4) rises "
        "to 76.2 % and RL (3e-4) does not clearly change (41.2 %); at the paper's dose, SFT (1.5e-3) falls to 1.2 % "
        "and RL (3e-4) does not clearly change (41.2 %)."
    )
    assert second.startswith(
        "Training rule, hands solved, 36.2 % at the start: at the learning rate that validation chose, SFT"
    )


def test_a_study_of_one_rate_an_arm_says_that_it_speaks_of_a_dose(tmp_path: Path) -> None:
    doses = doses_of(make_study(tmp_path / "study"))
    assert headline(doses) == (
        "Imitation (SFT) loses the shifted rule at 1e-3. Play (RL) does not clearly lose the shifted rule at 2e-4. SFT "
        "and RL had one learning rate: what is said of it is said of that dose."
    )
    [caveat] = rate_caveats(doses)
    assert "sft 1e-3, rl 2e-4" in caveat.text and "statement about a dose" in caveat.text
    assert draw_doses(doses) == {}


def test_where_only_one_dose_shows_it_no_method_as_such_loses_it(tmp_path: Path) -> None:
    """A demonstration has two rates of the one method and one of the other."""
    cells = {name: FROZEN[name] for name in ("sft", "sft_chosen")} | {"rl": replace(FROZEN["rl"], dose="paper")}
    told = headline(doses_of(make_dosed(tmp_path / "study", cells, seeds=(0,))))
    assert (
        told is not None and "the dose decides. Play (RL) does not clearly lose the shifted rule at the paper's" in told
    )
    assert "RL had one learning rate: what is said of it is said of that dose." in told
    assert told.endswith("One seed was run: this is said of these policies, and not yet of the methods.")


def test_validation_that_would_now_choose_another_is_told(tmp_path: Path) -> None:
    cells = {**FROZEN, "sft": replace(FROZEN["sft"], validation=0.95)}
    doses = doses_of(make_dosed(tmp_path / "study", cells, seeds=(10,)))
    assert [dosed.cell for dosed in doses.cells if dosed.is_chosen] == ["sft_chosen", "rl"]
    [caveat] = rate_caveats(doses)
    assert (
        "sft_chosen, was chosen on other seeds. On these, of sft, sft would be chosen: 95.0 % against 85.0 %"
        in caveat.text
    )


def test_one_run_alone_has_no_doses(tmp_path: Path) -> None:
    doses = doses_of(make_run(tmp_path / "run"))
    assert (headline(doses), sentences(doses), rate_caveats(doses), draw_doses(doses)) == (None, [], [], {})


def test_what_sharper_draws_of_the_start_reach_is_no_gain_of_training(doses: Doses) -> None:
    """The start has 36.2 % at temperature 1 and 51.2 % greedily."""
    found = {finding.text.partition(": of")[0]: finding for finding in told_apart(doses.findings, "success")}
    sharpened = found["rl_learning_rate_0.0003, training rule"]
    assert sharpened.kind == "same"
    assert "of +25.0 points gained at temperature 1, the start reaches +15.0 by sharper draws" in sharpened.text
    assert "of the rest, +10.0 points" in sharpened.text and "Best against best: +10.0." in sharpened.text
    learned = found["sft_learning_rate_0.0001, shifted rule"]
    assert learned.kind == "higher" and "reaches +5.0 by sharper draws alone (greedily, 46.2 %)" in learned.text
    assert not any(name.startswith("sft_learning_rate_0.0015, shifted") for name in found), "there is no gain"


def test_a_start_that_was_drawn_once_tells_nothing_of_elicitation(tmp_path: Path) -> None:
    assert told_apart(Findings(read_study(make_study(tmp_path / "study", seeds=(0,)))), "success") == []


def test_figures_of_doses_are_a_column_wide_and_mark_what_was_chosen(doses: Doses) -> None:
    drawn = draw_doses(doses)
    assert set(drawn) == {"dose", "forgetting"}
    for figure, _ in drawn.values():
        assert figure.get_figwidth() == WIDTH
        labels = figure.axes[0].get_legend_handles_labels()[1]
        assert {"init", "sft", "rl", "chosen", "paper's dose"} == set(labels)
    assert {text.get_text() for text in drawn["dose"][0].axes[0].texts} == {"1e-4", "1.5e-3", "3e-4"}


def test_forgetting_begins_at_the_start_and_ends_at_what_was_planted(doses: Doses) -> None:
    high = next(dosed for dosed in doses.cells if dosed.rate == 1.5e-3)
    first, second = _path(doses, high, "in_distribution")
    assert first[0] == second[0] == (0.0, 0.0) and len(first) == 5
    assert first[-1] == (pytest.approx(0.5), pytest.approx(-40.0))


def test_the_page_leads_with_the_claim_and_shows_what_chose(tmp_path: Path) -> None:
    folder = make_dosed(tmp_path / "study", FROZEN, seeds=(10,))
    page, lines = build_report(folder)
    text = page.read_text(encoding="utf-8")
    assert lines[0].startswith("Imitation (SFT) gains under the shifted rule") and lines[1].startswith(
        "Shifted rule, hands solved"
    )
    assert text.index("the dose decides") < text.index("<h2>Figures</h2>")
    assert "What validation chose" in text and "sharper draws" in text
    assert {"dose.png", "forgetting.svg"} <= {file.name for file in (folder / "figures").iterdir()}
    assert (folder / "selection.json").is_file()


def test_the_table_of_what_could_have_been_chosen_has_the_best_first(doses: Doses) -> None:
    rows = chosen_table(selection_of(doses)).rows
    assert [row[1] for row in rows][:2] == ["sft_learning_rate_0.0001", "sft_learning_rate_0.0015"]
    assert rows[0][3].startswith("chosen, +25.0 points before the second") and not rows[1][3]


def test_rates_are_written_as_people_write_them() -> None:
    assert [rate_words(rate) for rate in (1e-4, 1.5e-3, 0.02, 0.0)] == ["1e-4", "1.5e-3", "0.02", "0"]


def test_what_is_not_clear_at_either_dose_is_not_told_as_if_the_dose_decided(tmp_path: Path) -> None:
    """At the high rate it falls beyond chance over the tasks, and by unequal much under the two seeds."""
    folder = make_dosed(tmp_path / "study", {**FROZEN, "sft_chosen": replace(FROZEN["sft_chosen"], shifted=0.4)})
    cells = folder / "cells"
    last = "rule_shift_t1_000040.jsonl"
    (cells / "sft_seed1/episodes" / last).write_text((cells / "rl_seed1/episodes" / last).read_text())
    told = headline(doses_of(folder))
    assert told is not None and "Imitation (SFT) does not clearly lose the shifted rule at either dose." in told
