"""The command line as a stranger meets it."""

import argparse
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from study.cli import COMMANDS, FILES, main

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "envs"
ADD_UP = str(CONFIGS / "add_up.yaml")


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What the person at the keyboard types, and then the end of input."""
    remaining = iter(lines)

    def read_line(prompt: str) -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read_line)


def test_envs_lists_every_environment_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["add_up", "countdown", "general_points", "mixture", "route_navigation"]


def test_envs_shows_the_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "general_points"]) == 0
    assert "env.face_cards" in capsys.readouterr().out


def test_a_person_plays_with_verdict_and_feedback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, '{"sum": 1}', "expert", "{", '"sum": "?"', "}", "well", "", "quit")
    assert main(["play", ADD_UP, "--as", "human"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("→ wrong (-0.5) The value of sum is not right.") == 2
    assert shown.count("→ unreadable (-1)") == 1
    assert "given up after 3 answers" in shown


def test_the_expert_solves_every_episode(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", ADD_UP, "--as", "expert", "--episodes", "3", "env.largest=9"]) == 0
    assert "3 of 3 episodes solved." in capsys.readouterr().out


def test_pictures_are_saved_where_the_player_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(CONFIGS / "general_points_pictures.yaml")
    assert main(["play", config, "--as", "random", "--pictures", str(tmp_path), "env.look.size=112"]) == 0
    saved = list(tmp_path.glob("*.png"))
    assert len(saved) == 1
    assert str(saved[0]) in capsys.readouterr().out


TOO_LONG = "a" * 256
"""No file system here takes it as a name."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["play", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["play", ADD_UP, "env.larges=3"], "did you mean 'largest'?"),
        (["play", ADD_UP, "verifier.rewards={rihgt: 1}"], "verifier.rewards.rihgt: no outcome of this verifier"),
        (["envs", "ad_up"], "did you mean 'add_up'?"),
        (["envs", "countdown", "--check", "out"], "--check out: only route_navigation reads a folder"),
        (["envs", "route_navigation", "--check", "nowhere"], "nowhere"),
        (["play", TOO_LONG], "no such file"),
        (["plan", ADD_UP, f"learner.model={TOO_LONG}"], "file name too long; name another place"),
        (["report", TOO_LONG], "file name too long; name another place"),
        (["city", "out", "--style", "venice"], "--style venice: there is no such style; there are"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_ends_with_status_two(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("ruleshift: ")
    assert message in told
    assert len(told.splitlines()) == 1


def test_options_that_leave_no_task_are_told_as_a_mistake_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", str(CONFIGS / "general_points.yaml"), "env.target=999", "env.num_cards=3"]) == 2
    assert "loosen one of them" in capsys.readouterr().err


@pytest.mark.parametrize("inner", ["", "inner"])
@pytest.mark.parametrize(
    "words",
    [
        ("base", "configs/nano/bases/random_small.yaml"),
        ("city", "--style", "harbour", "--routes", "3"),
        ("compare", "configs/nano/gp_l.yaml", "--out"),
        ("rl", "configs/smoke.yaml", "cluster.folder="),
    ],
    ids=lambda words: words[0],
)
def test_a_file_where_a_folder_should_be_is_told_at_once(
    words: tuple[str, ...], inner: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("kept")
    place = str(tmp_path / "taken" / inner)
    line = [*words[:-1], f"{words[-1]}{place}"] if words[-1].endswith("=") else [*words, place]
    assert main(line) == 2
    assert str(tmp_path / "taken") in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "taken").read_text() == "kept"


def test_a_city_is_written_and_then_played(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "city"
    arguments = ["city", str(out), "--style", "oldtown", "--routes", "12", "--seed", "3", "--no-pictures"]
    assert main(arguments) == 0
    assert main(["play", str(CONFIGS / "route_navigation.yaml"), "--as", "expert", f"env.dataset={out}"]) == 0
    assert "═══ solved" in capsys.readouterr().out
    assert main(arguments) == 2, "a folder that holds something is not overwritten"


def test_a_city_for_tiny_models_is_written_in_the_look_of_another_style(tmp_path: Path) -> None:
    options = ["--style", "emblem", "--look", "emblem_dusk", "--pairs", "seen", "--panorama-width", "64"]
    assert main(["city", str(tmp_path / "city"), "--routes", "1", *options]) == 0
    with Image.open(next((tmp_path / "city" / "street_views").glob("*.jpg"))) as panorama:
        assert panorama.size == (64, 32)


def test_a_folder_of_routes_is_described_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, picture = tmp_path / "city", tmp_path / "pictures" / "routes.png"
    main(["city", str(out), "--style", "oldtown", "--routes", "5", "--no-pictures"])
    assert main(["envs", "route_navigation", "--check", str(out), "--picture", str(picture)]) == 0
    assert "5 can be played" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    routes, counter = json.loads((out / "route_infos.json").read_text())
    routes[3]["milestone_info"] = "{"
    (out / "route_infos.json").write_text(json.dumps([routes, counter]))
    assert main(["envs", "route_navigation", "--check", str(out), "--picture", str(picture)]) == 1
    told = capsys.readouterr().out
    assert "4 can be played, 1 is left out" in told


@pytest.mark.parametrize("what", ["verifier", "envs"])
def test_a_bench_ends_with_one_line_of_json(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.bench.ground.NUM_ROUNDS", 1)
    monkeypatch.setattr("study.bench.ground.NUM_CALLS", 20)
    monkeypatch.setattr("study.bench.ground.HOSTILE_CHARACTERS", 10**4)
    assert main(["bench", what]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures.pop("bench") == what
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does_and_what_each_argument_means(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: ruleshift {command} [-h]" in told
    assert told.split("\n\n")[1][0].isupper(), "what it does stands before its arguments"
    file = import_module(f"study.commands.{FILES.get(command, command)}")
    parser = argparse.ArgumentParser()
    file.add_arguments(parser)
    assert [action.dest for action in parser._actions if not action.help] == []


def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import sys\nfrom study.cli import main\ntry: main(['--help'])\n"
        "except SystemExit: print(*{'pydantic', 'yaml', 'ray', 'argcomplete'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    *told, imported = ran.stdout.splitlines()
    assert imported == ""
    assert {line.split()[0] for line in told if line.startswith("  ")} >= set(COMMANDS)


@pytest.mark.parametrize(
    ("typed_so_far", "offered"),
    [
        ("ruleshift pl", {"play", "plan", "plot"}),
        ("ruleshift rl configs/smo", {"configs/smoke.yaml"}),
        ("ruleshift rl configs/smoke.yaml learner.lora.r", {"learner.lora.rank="}),
        ("ruleshift plan configs/smoke.yaml env.face_cards_", {"env.face_cards_as_numbers="}),
    ],
)
def test_a_shell_is_told_what_may_come_next(typed_so_far: str, offered: set[str], tmp_path: Path) -> None:
    file = tmp_path / "offered"
    asked = {"COMP_LINE": typed_so_far, "COMP_POINT": str(len(typed_so_far)), "_ARGCOMPLETE": "1"}
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(file), "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run([sys.executable, "-m", "study.cli"], cwd=ROOT, env=environment, check=True)
    assert {word.strip() for word in file.read_text().splitlines()} == offered


@pytest.mark.parametrize(("word", "told"), [("plann", "did you mean plan?"), ("zzz", "see ruleshift --help")])
def test_a_command_that_there_is_not_is_told_with_the_nearest(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    assert f"{word}: no such command; {told}" in capsys.readouterr().err
