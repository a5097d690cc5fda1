"""`ray job submit` of the smoke run to a cluster of two raylets, and its metrics in Ray's own endpoint."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DASHBOARD = json.loads((ROOT / "cluster" / "record" / "grafana_dashboard.json").read_text())
OF_OTHER_RUNS = {"Which rule is followed"}
"""Panels of which the smoke run has nothing: its task has no rule that shifts."""
pytestmark = pytest.mark.timeout(600)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str, Path]]:
    """Environment and dashboard address of a cluster of two nodes with a token of its own, and its folder."""
    # Ray's sockets lie in this folder, and their paths may not be long.
    folder = Path(tempfile.mkdtemp(prefix="rs"))
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("a-token-of-this-test-alone-which-is-long-enough-0123456789")
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray tells its metrics every ten seconds by itself, which is as long as a short job.
        "RAY_metrics_report_interval_ms": "1000",
    }
    port, dashboard = free_port(), free_port()
    head = ("--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}")
    nodes = [start_node(environment, *head)]
    try:
        wait_for(dashboard)
        # Nodes of one folder would unpack the job's files over each other.
        nodes.append(start_node(environment, f"--address=127.0.0.1:{port}", f"--temp-dir={folder}b"))
        yield environment, f"http://127.0.0.1:{dashboard}", folder
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(60)


def start_node(environment: dict[str, str], *options: str) -> "subprocess.Popen[bytes]":
    # Each node's agent takes jobs at a port of its own; the usual one belongs to whichever Ray came first.
    agent = f"--dashboard-agent-listen-port={free_port()}"
    command = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", "--num-cpus=2", agent, *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError("the dashboard does not answer")


def metrics(folder: Path) -> str:
    """What Ray's Prometheus endpoints say."""
    found = json.loads((folder / "prom_metrics_service_discovery.json").read_text())
    pages = []
    for target in found[0]["targets"]:
        # An endpoint that has not opened yet says nothing; what counts is what was said in the end.
        with suppress(OSError), urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as page:
            pages.append(page.read().decode())
    return "\n".join(pages)


def names(text: str) -> set[str]:
    """The metrics of ours that a page, or a query, names."""
    return set(re.findall(r"\bray_ruleshift_\w+", text))


def submit(environment: dict[str, str], address: str, job: list[str], folder: Path) -> tuple[str, set[str]]:
    """What the job said, and which of our metrics Ray had meanwhile."""
    command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", *job]
    for _ in range(10):
        submitted = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        seen: set[str] = set()
        while submitted.poll() is None:
            seen |= names(metrics(folder))
            time.sleep(1)
        said = submitted.communicate()[0]
        # A cluster that has just started takes no jobs for some seconds.
        if "No available agent" not in said:
            assert submitted.returncode == 0, said
            return said, seen
        time.sleep(3)
    raise TimeoutError("the cluster takes no jobs")


def test_a_submitted_job_runs_to_its_end(cluster: tuple[dict[str, str], str, Path], tmp_path: Path) -> None:
    # Workers are asked every five seconds, and tell of a speed when they are asked for the third time.
    size = ("cluster.iterations=40", "cluster.episodes_per_iteration=24", "evaluation.episodes=20")
    job = ["ruleshift", "rl", "configs/smoke.yaml", *size, f"cluster.folder={tmp_path / 'runs'}"]
    environment, address, folder = cluster
    said, seen = submit(environment, address, job, folder)
    assert "succeeded" in said
    [run] = (tmp_path / "runs").iterdir()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 40
    of_panels = {panel["title"]: names(json.dumps(panel["targets"])) for panel in DASHBOARD["panels"]}
    assert {title for title, shown in of_panels.items() if not shown & seen} == OF_OTHER_RUNS
    of_workers = {name for shown in of_panels.values() for name in shown if "_engine_" in name}
    assert of_workers - seen == set()
