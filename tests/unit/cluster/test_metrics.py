"""Metrics reach every listener under the names that the dashboard shows; the console says where a run is."""

import ast
import io
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.errors import ConfigError
from cluster.measuring.measures import evaluate_episodes
from cluster.record import metrics, notices
from cluster.record.compute_ledger import ComputeLedger, ModelSize
from cluster.record.console import Progress, duration
from cluster.record.disk import DiskFull
from cluster.record.metrics import MetricsRecorder, TrackingConfig, check_tracking, gauge_name
from cluster.record.run_directory import RunDirectory
from cluster.record.ticking import Ticking, waiting
from rollout.engine_stats import WorkerStats
from rollout.episode import EpisodeEnd
from tests.support.episodes import episode, right, wrong

REPOSITORY = Path(__file__).parents[3]
DASHBOARD = json.loads(Path(metrics.__file__).with_name("grafana_dashboard.json").read_text(encoding="utf-8"))
NOWHERE = TrackingConfig(ray_metrics=False)
LOOPS = (
    *("cluster/iteration/rows.py", "cluster/iteration/played.py", "cluster/train_rl.py", "cluster/train_sft.py"),
    *("cluster/iteration/imitated.py", "cluster/training.py"),
)
LEARNER = tuple(f"learner/{name}.py" for name in ("learner", "looking", "preference", "statistics", "stepping"))


def words_in(*files: str) -> set[str]:
    """Every name that stands as a string in these sources, which are read and not imported: that would load torch."""
    trees = [ast.parse((REPOSITORY / file).read_text(encoding="utf-8")) for file in files]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {
        value for value in constants if isinstance(value, str) and re.fullmatch(r"[a-z_]*[a-z](/[a-z_]*[a-z])?", value)
    }


def rows() -> tuple[dict[str, float], dict[str, Any]]:
    """A row of training under every name that the loops may write, and one of evaluation."""
    checks = {"readable": True, "numbers_read": True, "right_under_training_rule": True}
    played = [episode(right(checks=checks)), episode(wrong(checks=checks), right(attempt=2, checks=checks), seed=1)]
    names = {name for name in words_in(*LOOPS) if "/" in name}
    names |= {f"rollout/{end}" for end in EpisodeEnd} | {f"seconds/{phase}" for phase in words_in(*LOOPS)}
    names |= {f"learner/{name}" for name in words_in(*LEARNER)}
    names |= {f"seconds/learner_{name}" for name in words_in("learner/device_peak.py")}
    training = {"iteration": 3, **dict.fromkeys(sorted(names), 0.5), **ComputeLedger(ModelSize(parameters=9)).totals()}
    return training, {"iteration": 3, "suite": "rule_shift", "temperature": 1.0, **evaluate_episodes(played)}


BEFORE = WorkerStats(
    version=2,
    weights_age_seconds=40.0,
    sampled_tokens=1000,
    ended={EpisodeEnd.SOLVED: 3},
    running=64,
    waiting=12,
    cache_used=0.5,
    prefix_asked=2000,
    prefix_hit=1000,
)
AFTER = replace(BEFORE, sampled_tokens=6000, prefix_asked=6000, prefix_hit=4000, ended={EpisodeEnd.SOLVED: 9})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "nano")


class FakeGauge:
    made: dict[str, "FakeGauge"]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert name not in self.made
        self.description, self.tag_keys, self.values = description, tag_keys, {}
        self.made[name] = self

    def set(self, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.values[tuple(tags.values())] = value


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeGauge]:
    """Ray as it is while it runs, without its processes."""
    FakeGauge.made = {}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))  # pyright: ignore
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    module = ModuleType("ray.util.metrics")
    module.Gauge = FakeGauge  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "ray.util.metrics", module)
    return FakeGauge.made


def test_a_row_stands_in_the_runs_own_file_whatever_else_listens(run: RunDirectory) -> None:
    with closing(MetricsRecorder(run, NOWHERE)) as recorder:
        recorder.record("metrics", {"iteration": 1, "learner/entropy": math.nan})
        recorder.record("evaluations", {"iteration": 1, "suite": "look", "temperature": 0, "success": 0.5})
    assert run.rows("metrics") == [{"iteration": 1, "learner/entropy": None}]
    assert run.rows("evaluations") == [{"iteration": 1, "suite": "look", "temperature": 0, "success": 0.5}]


def test_numbers_stand_in_rays_metrics_under_run_and_arm(run: RunDirectory, gauges: dict[str, FakeGauge]) -> None:
    training, evaluation = rows()
    with closing(MetricsRecorder(run, TrackingConfig(), arm="rl")) as recorder:
        recorder.record("metrics", {**training, "learner/entropy": math.nan, "note": "words", "none": None})
        recorder.record("metrics", {"iteration": 4, "rollout/success": np.float32(0.25)})
        recorder.record("evaluations", evaluation)
    assert gauges["ruleshift_rollout_success"].values == {(run.name, "rl"): 0.25}
    assert gauges["ruleshift_evaluation_success"].values == {(run.name, "rl", "rule_shift", "1"): 1.0}
    assert gauges["ruleshift_iteration"].values == {(run.name, "rl"): 4.0}
    absent = {"ruleshift_learner_entropy", "ruleshift_note", "ruleshift_none"}
    assert not absent & gauges.keys()
    assert all(re.fullmatch(r"ruleshift_[a-zA-Z0-9_]*[a-zA-Z0-9]", name) for name in gauges)


def test_the_dashboard_shows_nothing_that_is_not_exported(run: RunDirectory, gauges: dict[str, FakeGauge]) -> None:
    training, evaluation = rows()
    with closing(MetricsRecorder(run, TrackingConfig())) as recorder:
        recorder.record("metrics", training)
        recorder.record("evaluations", evaluation)
        recorder.observe("nano-rollout-0", AFTER.numbers(BEFORE, 10.0))
    shown = set(re.findall(r"\bray_(ruleshift_\w+)", json.dumps(DASHBOARD)))
    assert len(shown) > 25
    assert shown - gauges.keys() == set()


def test_what_a_worker_says_of_itself_stands_under_its_name(run: RunDirectory, gauges: dict[str, FakeGauge]) -> None:
    with closing(MetricsRecorder(run, TrackingConfig())) as recorder:
        recorder.observe("nano-rollout-0", BEFORE.numbers())
        assert "ruleshift_engine_tokens_per_second" not in gauges, "speed is told between two questions"
        recorder.observe("nano-rollout-0", AFTER.numbers(BEFORE, 10.0))
        recorder.observe("nano-rollout-1", BEFORE.numbers())
    of_first = (run.name, "", "nano-rollout-0")
    assert gauges["ruleshift_engine_tokens_per_second"].values == {of_first: 500.0}
    assert gauges["ruleshift_engine_prefix_hits"].values == {of_first: 0.75}
    assert gauges["ruleshift_engine_ended_solved"].values == {of_first: 9, (run.name, "", "nano-rollout-1"): 3}
    assert gauges["ruleshift_engine_waiting"].values[of_first] == 12
    assert run.rows("metrics") == []


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert max(x for x, _ in cells) < 24 and not cells & taken
        taken |= cells
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "run", "arm"]


def test_without_ray_nothing_is_exported_and_ray_is_not_loaded(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with closing(MetricsRecorder(run, TrackingConfig())) as recorder:
        recorder.record("metrics", {"iteration": 1, "rollout/success": 0.5})
    assert "ray" not in sys.modules


def test_tensorboard_gets_every_number_at_its_iteration(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class FakeWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            told.append((Path(folder).relative_to(run.path).as_posix(), purge_step))

        def add_scalar(self, name: str, value: float, iteration: int) -> None:
            told.append((name, value, iteration))

        def flush(self) -> None: ...

        def close(self) -> None:
            told.append("closed")

    package = ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = FakeWriter  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("torch", "torch.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    monkeypatch.setattr(metrics, "find_spec", lambda name: name)
    with closing(
        MetricsRecorder(run, TrackingConfig(tensorboard=True, ray_metrics=False), resumed_after=7)
    ) as recorder:
        recorder.record("metrics", {"iteration": 8, "rollout/success": 0.5})
        recorder.record("evaluations", {"iteration": 8, "suite": "look", "temperature": 0, "success": 0.25})
    assert told == [
        ("tensorboard", 8),
        ("iteration", 8.0, 8),
        ("rollout/success", 0.5, 8),
        ("evaluation/look/0/iteration", 8.0, 8),
        ("evaluation/look/0/success", 0.25, 8),
        "closed",
    ]


def test_weights_and_biases_gets_one_run_that_can_go_on(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    wandb_run = SimpleNamespace(
        define_metric=lambda name, step_metric=None: None, log=told.append, finish=lambda: told.append("finished")
    )
    wandb = ModuleType("wandb")
    wandb.init = lambda **options: told.append(options) or wandb_run  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(metrics, "find_spec", lambda name: name)
    with closing(MetricsRecorder(run, TrackingConfig(wandb_project="rules", ray_metrics=False), arm="rl")) as recorder:
        recorder.record("metrics", {"iteration": 8, "rollout/success": 0.5})
    options, row, last = told
    assert (options["project"], options["id"], options["resume"]) == ("rules", run.name, "allow")
    assert row == {"iteration": 8, "rollout/success": 0.5}
    assert last == "finished"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensorboard": True}, r"cluster\.tracking\.tensorboard=true: the package `tensorboard` .*pip install"),
        ({"wandb_project": "rules"}, r"cluster\.tracking\.wandb_project=rules: the package `wandb` .*pip install"),
    ],
)
def test_a_missing_package_is_named_before_anything_starts(
    options: dict[str, Any], message: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=message):
        check_tracking(TrackingConfig(**options))
    with pytest.raises(ConfigError, match=message):
        MetricsRecorder(run, TrackingConfig(**options))
    check_tracking(TrackingConfig())


def test_a_row_that_does_not_say_what_it_is_of_is_refused(run: RunDirectory) -> None:
    recorder = MetricsRecorder(run, NOWHERE)
    with pytest.raises(ValueError, match="needs suite, temperature"):
        recorder.record("evaluations", {"iteration": 1, "success": 0.5})
    with pytest.raises(ValueError, match="needs iteration"):
        recorder.record("metrics", {})
    assert run.rows("metrics") == run.rows("evaluations") == []


def test_names_become_names_of_prometheus() -> None:
    assert gauge_name("pass@4_low") == "ruleshift_pass_4_low"
    assert gauge_name("evaluation/checks/numbers_read") == "ruleshift_evaluation_checks_numbers_read"


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(stream: io.StringIO, clock: Clock, **options: Any) -> Progress:
    return Progress("rl", 10, stream=stream, clock=clock, **options)


def row(success: float) -> dict[str, Any]:
    return {"rollout/success": success, "rollout/reward": 1.5, "rollout/sampled_tokens": 44_700, "seconds/playing": 3.0}


def test_a_jobs_log_has_a_plain_line_for_each_iteration(tmp_path: Path) -> None:
    stream, clock, log = io.StringIO(), Clock(), tmp_path / "log.txt"
    with closing(progress(stream, clock, log=log)) as shown:
        clock.now += 20
        for iteration in (1, 2, 3):
            shown.stage("rollout")
            clock.now += 6
            shown.stage("learn")
            shown.update(iteration, row(iteration / 10))
        shown.say("a worker died and was replaced")
    assert stream.getvalue().splitlines() == [
        "rl | learn | iteration 1/10 | success 10.0 % | reward 1.50 | 14.9k tokens/s",
        "rl | learn | iteration 2/10 | success 20.0 % | reward 1.50 | 14.9k tokens/s | 48 s left",
        "rl | learn | iteration 3/10 | success 30.0 % | reward 1.50 | 14.9k tokens/s | 42 s left",
        "rl | a worker died and was replaced",
        "rl | learn | iteration 3/10 | success 30.0 % | reward 1.50 | 14.9k tokens/s | ended after 38 s",
    ]
    assert [line[9:] for line in log.read_text().splitlines()] == stream.getvalue().splitlines()
    assert stream.getvalue().isascii()


def test_imitation_shows_its_loss() -> None:
    shown = progress(io.StringIO(), Clock())
    shown.update(10, {"learner/sft_loss": 0.1234, "seconds/learner_tokens_per_second": 512.0})
    assert shown.text() == "rl | start | iteration 10/10 | loss 0.123 | 512 tokens/s"


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_log_has_a_line_every_half_minute_whatever_the_run_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ticking.__init__, "__defaults__", (0.01,))
    stream, clock = io.StringIO(), Clock()
    shown = progress(stream, clock)
    shown.stage("rollout")
    shown.expects(128)
    shown.came()
    for minute in range(1, 4):
        clock.now += 60
        until(lambda number=minute: stream.getvalue().count("\n") == number)
    assert stream.getvalue().splitlines() == [
        f"rl | rollout 1/128 for {minute} min | iteration 0/10" for minute in (1, 2, 3)
    ]
    shown.close()
    clock.now += 60
    time.sleep(0.1)
    assert stream.getvalue().splitlines()[3:] == ["rl | rollout 1/128 for 3 min | iteration 0/10 | ended after 3 min"]


@pytest.mark.parametrize("error", [OSError, DiskFull])
def test_the_thread_behind_a_line_dies_with_its_owner_and_outlives_a_full_disk(error: type[Exception]) -> None:
    class Owner:
        calls = 0

        def tick(self) -> None:
            self.calls += 1
            raise error("No space left on device")

    def is_ticking() -> bool:
        return any(thread.name == "tick-tick" for thread in threading.enumerate())

    owners = [Owner()]
    ticking = Ticking(owners[0].tick, 0.01)
    until(lambda: owners[0].calls > 2)
    assert is_ticking()
    owners.clear()
    until(lambda: not is_ticking())
    ticking.stop()


def test_a_stream_that_is_closed_ends_the_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ticking.__init__, "__defaults__", (0.01,))
    stream, clock = io.StringIO(), Clock()
    shown = progress(stream, clock)
    stream.close()
    clock.now += 60
    until(lambda: not any(thread.name == "tick-_tick" for thread in threading.enumerate()))
    assert shown.text() == "rl | start for 1 min | iteration 0/10"


def test_what_a_run_waits_for_as_it_starts_is_told_at_once() -> None:
    stream = io.StringIO()
    progress(stream, Clock()).starts("learner ranks")
    with waiting("rl | loads its libraries", stream, 0.01):
        until(lambda: "for 0 s" in stream.getvalue())
    assert stream.getvalue().splitlines()[:3] == [
        "rl | starts learner ranks | iteration 0/10",
        "rl | loads its libraries",
        "rl | loads its libraries | for 0 s",
    ]


def test_what_libraries_say_stands_in_the_log_and_their_errors_on_the_terminal_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, log = logging.getLogger("some.package"), tmp_path / "log.txt"
    with notices.held():
        library.warning("no GPU here")
    with notices.written_to(log):
        library.info("all is well")
        library.error("the disk burns")
    library.warning("after the run")
    assert [line[9:] for line in log.read_text().splitlines()] == [
        "some.package | no GPU here",
        "some.package | the disk burns",
    ]
    assert capsys.readouterr().err.splitlines()[0] == "the disk burns"
    assert notices.OWN_LOGGING not in os.environ


@pytest.mark.parametrize(("first", "left"), [(5, "20 s left"), (1, "40 s left")])
def test_time_left_is_told_by_what_this_process_has_done(first: int, left: str) -> None:
    """A resumed run begins at number 5; and one whose learner died goes back to an iteration that it had ended."""
    clock = Clock()
    shown = progress(io.StringIO(), clock)
    assert "left" not in shown.text()
    for iteration in (first + 3, first, first + 1):
        clock.now += 5.0
        shown.update(iteration, {})
    assert shown.text().endswith(left)


def test_a_budget_ends_a_run_before_its_last_iteration_and_the_time_left_knows() -> None:
    clock = Clock()
    shown = progress(io.StringIO(), clock)
    for iteration in (1, 2):
        clock.now += 5.0
        shown.update(iteration, {}, spent=iteration / 4)
    assert shown.text().endswith("iteration 2/10 | 10 s left")


def test_a_terminal_has_one_live_line() -> None:
    stream, clock = io.StringIO(), Clock()
    with closing(progress(stream, clock, is_terminal=True)) as shown:
        shown.stage("rollout")
        shown.update(1, row(0.5))
        shown.say("[brackets] stay")
    written = stream.getvalue()
    assert "\x1b[" in written
    assert "[brackets] stay" in written
    assert "[##------------------] rl" in written
    assert "success 50.0 %" in written


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (200, "3 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_recording_and_measuring_load_no_heavy_library() -> None:
    """They are imported by `ruleshift plan` and `report`, which must answer at once."""
    folder = REPOSITORY / "cluster" / "record"
    modules = [f"cluster.record.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    heavy = {"torch", "ray", "vllm", "transformers", "deepspeed", "wandb", "tensorboard", "rich"}
    program = (
        f"import sys, {', '.join([*modules, 'cluster.measuring.measures'])}; print(*({heavy!r} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
