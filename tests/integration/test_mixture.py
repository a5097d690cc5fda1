"""Two environments in one run: batches are balanced, and each part is told by itself."""

from pathlib import Path

import pytest

from cluster.record.episode_log import read_episodes
from tests.support.runs import ROOT, TIMEOUT_SECONDS, Run, rows

CONFIG = f"""
env:
  name: mixture
  parts:
    sums: {{env: {{name: add_up, largest: 9, max_attempts: 2}}}}
    numbers: {{env: {{name: countdown, max_attempts: 1}}}}
rollout:
  max_answer_tokens: 32
  engine: {{max_context_tokens: 256, cpu_cache_gib: 0.25}}
learner:
  model: {ROOT / "models" / "nano_add_up"}
  micro_batch_tokens: 4096
  optimizer: {{learning_rate: 1.0e-3}}
data: {{count: 60}}
evaluation: {{episodes: 12}}
cluster:
  name: both
  dashboard: false
  iterations: 2
  episodes_per_iteration: 24
  compute: {{attention: true}}
"""
PARTS = {"sums": "add_up", "numbers": "countdown"}


def run(folder: Path, kind: str, *words: str) -> Path:
    (folder / "both.yaml").write_text(CONFIG)
    return Run(folder, str(folder / "both.yaml"), *words, kind=kind).result()


def check_ledger(found: Path) -> None:
    """What is told of the parts adds up to what is told of all."""
    for row in rows(found, "metrics"):
        for name in ("prompt_tokens", "sampled_tokens", "trained_tokens"):
            assert sum(row[f"compute/{part}/{name}"] for part in PARTS) == row[f"compute/{name}"], name
        assert row["compute/flops"] > 0


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.nightly
def test_play_is_balanced_and_told_by_part(tmp_path: Path) -> None:
    options = ("cluster.samples_per_task=2", "learner.advantage.kind=grpo", "cluster.demonstrations_per_iteration=6")
    found = run(tmp_path, "rl", *options)
    for row in rows(found, "metrics"):
        for part in PARTS:
            assert (row[f"train/{part}/episodes"], row[f"train/{part}/demonstrations"]) == (12, 3)
            assert 0 <= row[f"train/{part}/success"] <= 1
        assert row["train/sums/turns"] > 1 == row["train/numbers/turns"]
        mean = sum(row[f"train/{part}/success"] for part in PARTS) / 2
        assert row["rollout/success"] == pytest.approx(mean)
    check_ledger(found)
    for row in rows(found, "evaluations"):
        assert (row["sums/num_episodes"], row["numbers/num_episodes"], row["num_episodes"]) == (6, 6, 12)
        assert row["success"] == pytest.approx((row["sums/success"] + row["numbers/success"]) / 2)
    [first, *_] = sorted((found / "episodes").glob("*.jsonl"))
    assert {(episode.part, episode.env) for episode in read_episodes(first)} == set(PARTS.items())


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_imitation_is_balanced_and_told_by_part(tmp_path: Path) -> None:
    found = run(tmp_path, "sft", "evaluation.generalisation_loss=4")
    for row in rows(found, "metrics"):
        assert {row[f"train/{part}/demonstrations"] for part in PARTS} == {12}
        assert row["compute/trained_tokens"] > row["compute/sums/trained_tokens"] > 0
    check_ledger(found)
    before, after = rows(found, "evaluations")
    assert before["generalisation_loss"] > after["generalisation_loss"] > 0
    assert before["compute/evaluation_tokens"] > 0
