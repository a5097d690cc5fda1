"""What `ruleshift doctor` and `ruleshift bench` say when real engines run, with little work."""

import json
from functools import partial
from typing import Any

import pytest

from study import bench
from study.bench import rollout, rounding, sync
from study.commands.doctor import examine

pytestmark = pytest.mark.timeout(300)


def test_the_doctor_says_what_it_proved() -> None:
    said: list[str] = []
    assert examine(said.append) == 0, said
    proofs = ("the installed versions", "Ray starts", "vLLM loads a model", "32 episodes of add_up", "new weights were")
    for proof, line in zip(proofs, said, strict=False):
        assert line.startswith(f"✓ {proof}")
    assert said[len(proofs) :] == ["This machine can roll out and adopt weights."]


def test_bench_rollout_compares_four_ways_to_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = rollout.Sizes(num_episodes=4, num_rounds=1, num_one_by_one=1, num_batched=4, batch_size=4)
    monkeypatch.setattr(rollout, "rows", partial(rollout.rows, sizes))
    figures = _figures("rollout", capsys)
    assert all(figures[f"(a)/({other}) (ratio)"] > 0 for other in "bcd")
    assert figures["(a) ours, multi-turn (tokens/s)"] > 0


def test_bench_sync_compares_an_update_with_a_copy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "rows", partial(sync.rows, {"nano": sync.SIZES["nano"]}, 3))
    figures = _figures("sync", capsys)
    assert figures["nano: whole update / plain copy (ratio)"] > 0
    assert figures["nano: largest log-probability gap (nats)"] < 1e-4


def test_bench_rounding_holds_engine_and_learner_against_float64(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounding, "rows", partial(rounding.rows, 16))
    figures = _figures("rounding", capsys)
    assert figures["drawn tokens (tokens)"] > 500
    for pair in ("engine to float64", "learner to float64", "engine to learner"):
        assert 0 < figures[f"{pair}, mean (nats)"] < 1e-6
        assert figures[f"{pair}, largest (nats)"] < 1e-4


def _figures(what: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The line for programs, which comes last."""
    bench.run(what)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == what
    return figures
