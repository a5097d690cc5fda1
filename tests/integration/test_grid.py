"""A grid of learning rates on real Ray, vLLM and DeepSpeed: what it chooses, and what can be done with that."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.config import load_words
from study.cells import Study

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 1500
CONFIG = """
env: {name: add_up, largest: 9, max_attempts: 2}
rollout:
  max_answer_tokens: 16
  engine: {max_context_tokens: 256, cpu_cache_gib: 0.25}
learner:
  model: models/nano_add_up
  value_head: {stop_gradient: true}
data: {count: 64}
evaluation:
  episodes: 24
  kl_to_start: 16
  suites:
    in_distribution: {split: train, title: training rule}
    rule_shift: {title: shifted rule, shift: rule, env: {largest: 29}}
    validation: {split: validation, only_at_end: true}
cluster: {dashboard: false, iterations: 2, episodes_per_iteration: 24}
compare:
  temperatures: [0.0]
  select: validation/success
  arms:
    sft: {command: sft, dose: paper, options: {learner: {optimizer: {learning_rate: 5.0e-3}}}}
    rl: {command: rl, dose: paper, options: {learner: {minibatches: 2, optimizer: {learning_rate: 5.0e-3}}}}
  sweep: {learner: {optimizer: {learning_rate: [1.0e-9, 5.0e-3]}}}
"""
GENTLE, STRONG = "learning_rate_1e-09", "learning_rate_0.005"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The study, and what was said at its end."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "grid.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "study.cli", "compare", str(folder / "grid.yaml"), "--out", str(folder / "grid")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / "grid", ended.stdout


def rows(study: Path, cell: str) -> list[dict[str, Any]]:
    lines = (study / "cells" / f"{cell}_seed0" / "evaluations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_what_chooses_is_measured_once_at_the_end(made: tuple[Path, str]) -> None:
    study, _ = made
    for arm in ("sft", "rl"):
        found = [row for row in rows(study, f"{arm}_{STRONG}") if row["suite"] == "validation"]
        assert [(row["iteration"], row["temperature"]) for row in found] == [(2, 1.0)]


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_policy_that_hardly_learns_has_not_moved_and_the_engine_and_the_start_agree(made: tuple[Path, str]) -> None:
    study, _ = made
    for arm in ("sft", "rl"):
        gentle = {(row["suite"], row["iteration"], row["temperature"]): row for row in rows(study, f"{arm}_{GENTLE}")}
        asked = {key: row for key, row in gentle.items() if "kl_to_start" in row}
        assert asked.keys() == {key for key in gentle if key[2]}, "where it is greedy, there is nothing to tell"
        assert all(row["kl_to_start"] == 0 for (_, iteration, _), row in asked.items() if not iteration)
        assert max(abs(row["kl_to_start"]) for row in asked.values()) < 1e-5
        strong = [row["kl_to_start"] for row in rows(study, f"{arm}_{STRONG}") if row.get("kl_to_start")]
        assert len(strong) == sum(iteration > 0 for _, iteration, _ in asked) and max(strong) > 1e-3


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_the_best_of_each_method_is_chosen_and_can_be_frozen(made: tuple[Path, str], tmp_path: Path) -> None:
    study, said = made
    choices = json.loads((study / "selection.json").read_text())["choices"]
    for method, choice in choices.items():
        success = {
            f"{method}_{rate}": next(
                row["success"] for row in rows(study, f"{method}_{rate}") if row["suite"] == "validation"
            )
            for rate in (GENTLE, STRONG)
        }
        assert success[choice["chosen"]] == max(success.values())
        assert f"of {method}, {choice['chosen']} is chosen" in said
    assert "at the paper's dose" in said and (study / "figures" / "dose.png").is_file()
    lines = said.splitlines()
    pasted = lines[lines.index("To freeze what was chosen, for untouched seeds:") + 1 : -1]
    (tmp_path / "chosen.yaml").write_text("\n".join(pasted))
    config = load_words([str(study.parent / "grid.yaml"), str(tmp_path / "chosen.yaml"), "compare.sweep.learner=null"])
    frozen = {cell.name: cell.config.learner.optimizer.learning_rate for cell in Study.of(config, tmp_path).cells}
    gentle = {f"{method}_chosen" for method, choice in choices.items() if choice["chosen"].endswith(GENTLE)}
    assert frozen == {"sft": 5e-3, "rl": 5e-3, **dict.fromkeys(gentle, 1e-9)}


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_model_is_evaluated_on_every_suite_and_a_run_where_it_was_not(made: tuple[Path, str], tmp_path: Path) -> None:
    study, _ = made
    suites = {"in_distribution", "rule_shift", "validation"}
    alone = evaluated(study.parent / "grid.yaml", f"cluster.folder={tmp_path}", "evaluation.episodes=8")
    lines = (alone / "evaluations.jsonl").read_text().splitlines()
    assert {(row["suite"], row["temperature"]) for row in map(json.loads, lines)} == {(suite, 1.0) for suite in suites}

    run = study / "cells" / f"rl_{GENTLE}_seed0"
    before = rows(study, f"rl_{GENTLE}")
    assert evaluated(run, "evaluation.temperatures=[1.0,0.5]") == run
    after = rows(study, f"rl_{GENTLE}")
    assert after[: len(before)] == before, "what was measured stays"
    assert sorted((row["suite"], row["temperature"]) for row in after[len(before) :]) == [
        (suite, 0.5) for suite in sorted(suites)
    ]


def evaluated(what: Path, *words: str) -> Path:
    """Where the measurements are."""
    command = [sys.executable, "-m", "study.cli", "evaluate", str(what), *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Path(ended.stdout.splitlines()[-1])
