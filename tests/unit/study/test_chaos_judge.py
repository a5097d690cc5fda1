"""Whatever could be lost, doubled or wrong in a run that was struck is found, one at a time."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from cluster.config import load_config, to_yaml
from study.chaos.judge import faults, same_draws
from study.chaos.world import World

ROOT = Path(__file__).parents[3]
ITERATIONS = 4


class Ended:
    """What is left of a run, as the judge sees it."""

    def __init__(self, folder: Path) -> None:
        self.run, self.log, self.status = folder / "chaos", folder / "log.txt", 0
        self.left: list[str] = []
        for inner in ("policy", "episodes"):
            (self.run / inner).mkdir(parents=True)
        config = load_config(
            [ROOT / "configs" / "smoke.yaml"],
            [f"cluster.iterations={ITERATIONS}", "cluster.episodes_per_iteration=8", "evaluation.suites={one: {}}"],
        )
        (self.run / "config.yaml").write_text(to_yaml(config))
        suites = list(config.evaluation.suites)
        rows = [
            {
                "iteration": number,
                "version": number,
                "rollout/episodes": 8,
                "rollout/stale": 0,
                "rollout/failed": 0.0,
                "rollout/drawn": 100.0 + number,
                "rollout/tasks": 200.0 + number,
            }
            for number in range(1, ITERATIONS + 1)
        ]
        self.write("metrics", rows)
        measured = [
            {"iteration": number, "suite": suite, "temperature": 1.0} for number in (0, ITERATIONS) for suite in suites
        ]
        self.write("evaluations", measured)
        self.learned(0.5)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / f"{table}.jsonl").read_text().splitlines()]

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        (self.run / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def learned(self, value: float) -> None:
        save_file({"weight": torch.full((3,), value)}, self.run / "policy" / "model.safetensors")

    def changed(self, table: str, place: int, **values: Any) -> None:
        rows = self.rows(table)
        rows[place] |= {name.replace("_of_", "/"): value for name, value in values.items()}
        self.write(table, rows)

    def workers(self) -> list[Any]:
        return []

    ranks = engines = workers

    def left_over(self) -> list[str]:
        return self.left


def found(ended: Ended, undisturbed: Ended | None = None, *, may_differ: bool = False) -> list[str]:
    return faults(cast(World, ended), undisturbed.run if undisturbed else None, may_differ=may_differ)


def drop(table: str, place: int) -> Callable[[Ended], None]:
    def dropped(ended: Ended) -> None:
        rows = ended.rows(table)
        del rows[place]
        ended.write(table, rows)

    return dropped


def repeat(table: str, place: int) -> Callable[[Ended], None]:
    def repeated(ended: Ended) -> None:
        rows = ended.rows(table)
        ended.write(table, [*rows, rows[place]])

    return repeated


FAULTS: dict[str, tuple[Callable[[Ended], None], str]] = {
    "an iteration is lost": (drop("metrics", 1), "iterations \\[1, 3, 4\\]"),
    "an iteration is there twice": (repeat("metrics", 3), "iterations \\[1, 2, 3, 4, 4\\]"),
    "a task is lost": (lambda ended: ended.changed("metrics", 2, rollout_of_episodes=7), "iteration 3 has 7 episodes"),
    "one is played twice in the place of another": (
        lambda ended: ended.changed("metrics", 1, rollout_of_tasks=9.0, rollout_of_drawn=7.0),
        "iteration 2 played other tasks",
    ),
    "one counted that was too old": (lambda ended: ended.changed("metrics", 0, rollout_of_stale=1), "1 stale"),
    "one failed": (lambda ended: ended.changed("metrics", 0, rollout_of_failed=0.1), "failed"),
    "an update is made twice": (lambda ended: ended.changed("metrics", 3, version=5), "iteration 4 is of version 5"),
    "a suite is measured twice": (repeat("evaluations", 1), "measured twice"),
    "the end is not measured": (drop("evaluations", -1), "of \\d measurements"),
    "a process is left": (lambda ended: ended.left.append("4711 VLLM::EngineCore"), "left over: 4711"),
    "other weights come of the same draws": (lambda ended: ended.learned(0.25), "1 weights differ, as weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(tmp_path: Path, fault: str) -> None:
    undisturbed, ended = Ended(tmp_path / "undisturbed"), Ended(tmp_path / "struck")
    assert found(ended, undisturbed) == []
    commit, words = FAULTS[fault]
    commit(ended)
    [told, *_] = found(ended, undisturbed)
    assert re.search(words, told)


def test_a_run_that_ended_otherwise_is_a_fault(tmp_path: Path) -> None:
    ended = Ended(tmp_path / "struck")
    ended.status = 2
    assert "status 2" in found(ended)[0]


def test_runs_that_drew_otherwise_are_two_runs(tmp_path: Path) -> None:
    undisturbed, ended = Ended(tmp_path / "undisturbed"), Ended(tmp_path / "struck")
    ended.changed("metrics", 2, rollout_of_drawn=7.0)
    ended.learned(0.25)
    assert found(ended, undisturbed) == []
    assert same_draws(undisturbed.run, ended.run) == 2


def test_where_an_environment_was_told_to_raise_an_episode_may_fail(tmp_path: Path) -> None:
    undisturbed, ended = Ended(tmp_path / "undisturbed"), Ended(tmp_path / "struck")
    ended.changed("metrics", 2, rollout_of_failed=0.125)
    ended.learned(0.25)
    assert found(ended, undisturbed, may_differ=True) == []
