"""What `ruleshift doctor` and `ruleshift bench` say when real engines run, with little work."""

import json
from functools import partial
from typing import Any

import pytest

from study import bench
from study.bench import learner_shape, rollout, rounding, sync
from study.cli import main
from study.commands.doctor import examine

pytestmark = pytest.mark.timeout(300)


def test_the_doctor_says_what_it_proved() -> None:
    said: list[str] = []
    assert examine(said.append) == 0, said
    proofs = (
        *("the installed versions", "Ray starts", "vLLM loads a model", "32 episodes of add_up"),
        *("a push in which every value is off reached all", "new weights were"),
    )
    for proof, line in zip(proofs, said, strict=False):
        assert line.startswith(f"✓ {proof}")
    assert said[len(proofs) :] == ["This machine can roll out and adopt weights."]


@pytest.mark.nightly
def test_bench_rollout_compares_four_ways_to_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = rollout.Sizes(num_episodes=4, num_rounds=1, num_one_by_one=1, num_batched=4, batch_size=4)
    monkeypatch.setattr(rollout, "rows", partial(rollout.rows, sizes))
    figures = _figures("rollout", capsys)
    assert all(figures[f"(a)/({other}) (ratio)"] > 0 for other in "bcd")
    assert figures["(a) ours, multi-turn (tokens/s)"] > 0


@pytest.mark.nightly
def test_bench_sync_compares_an_update_with_a_copy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "rows", partial(sync.rows, {"nano": sync.SIZES["nano"]}, 3))
    figures = _figures("sync", capsys)
    assert figures["nano: whole update / plain copy (ratio)"] > 0
    assert figures["nano: largest log-probability gap (nats)"] < 1e-4
    assert figures["nano: calls, one a tensor ÷ ours (ratio)"] >= 10
    pauses = {}
    for kept in ("never", "within_lag"):
        name = f"push beside 64 dialogues, keep_cache={kept}"
        pauses[kept] = figures[f"{name}: nothing is drawn, median (s)"]
        assert figures[f"{name}: an ordinary step (s)"] < pauses[kept] < 1
    # What is kept need not be read again.
    assert pauses["within_lag"] < pauses["never"]


def test_bench_scale_drives_many_stand_ins_at_the_price_of_few(capsys: pytest.CaptureFixture[str]) -> None:
    figures = _figures("scale", capsys, workers=128, iterations=4, episodes=16, seconds=0.3)
    for title in ("as many each", "as many in all"):
        assert 0 < figures[f"driver, many ÷ few with {title} (ratio)"] < 1.5
    many = "128 workers, 2,048 episodes an iteration"
    assert figures[f"{many}: threads (at most)"] < 16
    assert figures[f"{many}: memory's growth over 4 iterations (%)"] < 10


def test_bench_rounding_holds_engine_and_learner_against_float64(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounding, "rows", partial(rounding.rows, 16))
    figures = _figures("rounding", capsys)
    assert figures["drawn tokens (tokens)"] > 500
    for pair in ("engine to float64", "learner to float64", "engine to learner"):
        assert 0 < figures[f"{pair}, mean (nats)"] < 1e-6
        assert figures[f"{pair}, largest (nats)"] < 1e-4


@pytest.mark.timeout(600)
@pytest.mark.nightly
def test_bench_learner_of_a_shape_holds_an_update_against_a_bare_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saving = "logits in parts"
    monkeypatch.setattr(learner_shape, "WITHOUT", {saving: learner_shape.WITHOUT[saving]})
    figures = _figures("shape", capsys, shape="tiny-qwen2.5-vl", tokens=2048, num_dialogues=6)
    assert figures["layers, of 2 (layers)"] == 2
    for title in ("bare loop", "ours", f"without {saving}"):
        assert figures[f"{title} (tokens/s)"] > 0
        assert 0 < figures[f"{title} (% MFU)"] < 100
    # All logits of a thousand drawn tokens and a real vocabulary are 0.6 GiB, several times over.
    assert figures[f"ours ÷ without {saving} (of the memory)"] < 0.7


def test_what_no_bench_has_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "learner", "--shape", "nope"]) == 2
    assert "--shape=nope: no such shape; there are tiny-qwen2.5-vl" in capsys.readouterr().err
    assert main(["bench", "sync", "--shape", "qwen2.5-vl-3b"]) == 2
    assert "`bench sync` has no shapes; `bench learner` has" in capsys.readouterr().err
    assert main(["bench", "learner", "--tokens", "64"]) == 2
    assert "name one with --shape" in capsys.readouterr().err
    assert main(["bench", "learner", "--shape", "tiny-qwen2.5-vl", "--dialogues", "0"]) == 2
    assert "count from 1" in capsys.readouterr().err


def _figures(what: str, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    """The line for programs, which comes last."""
    bench.run(what, **options)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == what
    return figures
