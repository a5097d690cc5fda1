"""Routes in the original's format: one folder to train on and another as the shifted look, by their paths alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.config import Config, load_config, suite_environments
from envs.catalog import make_environment
from envs.protocol import EnvConfig, Question, Split
from study.cli import main
from tests.support.original_routes import COLORS, COMPASS, Leg, Way, write_routes
from tests.support.runs import ROOT, TIMEOUT_SECONDS, Run, rows
from tests.support.tiny_models import make_picture_model

CONFIGS = ROOT / "configs"
YAML = {
    name: CONFIGS / "envs" / f"{file}.yaml"
    for name, file in (("text", "route_navigation"), ("pictures", "route_navigation_pictures"))
}

NEW_YORK = [
    Way(
        start=(40.7 + number / 500, -74.0),
        legs=(
            Leg(towards="north", metres=80, seen=f"Deli {number} is on your left"),
            Leg(towards="east", metres=96),
            Leg(towards="south", metres=48),
        ),
        destination=f"Joe's Pizza {number}",
    )
    for number in range(4)
]
ELSEWHERE = [
    Way(
        start=start,
        legs=(Leg(towards="west", metres=64, seen="Duomo is on your right front"), Leg(towards="north", metres=48)),
        destination=destination,
    )
    for start, destination in (((45.46, 9.19), "Caffè Milano"), ((-33.87, 151.2), "Opera Bar"))
]

SUITES = {"in_distribution": NEW_YORK, "rule_shift": NEW_YORK, "visual_shift": ELSEWHERE}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The routes of training, and a benchmark's routes in other cities."""
    root = tmp_path_factory.mktemp("VIRL_routes")
    return write_routes(root / "nyc_1k_routes", NEW_YORK), write_routes(root / "vln_mini", ELSEWHERE)


def suites(benchmark: Path) -> tuple[str, ...]:
    return (
        "evaluation.suites.in_distribution.env.route_order=sequential",
        "evaluation.suites.rule_shift.env={route_order: sequential, actions: relative, training_actions: absolute}",
        f"evaluation.suites.visual_shift.env={{route_order: sequential, splits: none, dataset: {benchmark}}}",
    )


def walked(env: EnvConfig, config: Config, num_routes: int, split: Split = "test") -> list[list[Question]]:
    """The questions of so many routes, whose expert has to solve them."""
    environment, found = make_environment(env, config.verifier), []
    for seed in range(num_routes):
        episode, questions = environment.open(seed, split), list[Question]()
        question: Question | None = episode.first_question()
        while question is not None:
            questions.append(question)
            verdict = environment.verifier.judge(question.expert_answer, question.reference)
            question = episode.next_question(question.expert_answer, verdict)
        assert episode.solved
        found.append(questions)
    return found


def destinations(routes: list[list[Question]]) -> list[str]:
    return [questions[-1].reference.landmark for questions in routes]


@pytest.mark.parametrize("modality", YAML)
def test_a_folder_is_trained_on_and_another_is_the_shifted_look(modality: str, folders: tuple[Path, Path]) -> None:
    training, benchmark = folders
    options = (f"env.dataset={training}", "env.splits=none", *suites(benchmark))
    config = load_config([YAML[modality]], options)
    played = walked(config.env, config, 12, "train")
    assert set(destinations(played)) == {way.destination for way in NEW_YORK}
    environments = suite_environments(config)
    for name, ways in SUITES.items():
        routes = walked(environments[name][0], config, len(ways))
        assert destinations(routes) == [way.destination for way in ways]
        for questions, way in zip(routes, ways, strict=True):
            turns = [question.reference.action for question in questions if "turn" in question.reference.action]
            assert len(turns) == len(way.legs)
            assert (turns[1] == f"turn_direction({way.legs[1].towards})") == (name != "rule_shift")
            assert all(bool(question.images) == (modality == "pictures") for question in questions)


def test_the_pictures_show_what_lies_ahead_right_behind_and_left(folders: tuple[Path, Path]) -> None:
    options = (f"env.dataset={folders[0]}", "env.splits=none", "env.image_size=112", *suites(folders[1]))
    config = load_config([YAML["pictures"]], options)
    for name, ways in (("in_distribution", NEW_YORK), ("visual_shift", ELSEWHERE)):
        for questions, way in zip(walked(suite_environments(config)[name][0], config, len(ways)), ways, strict=True):
            picture = np.asarray(questions[-1].images[0]).astype(int)
            ahead = COMPASS.index(way.legs[-1].towards)
            for turn, (down, right) in enumerate(((28, 28), (28, 84), (84, 28), (84, 84))):
                wanted = COLORS[COMPASS[(ahead + turn) % 4]]
                assert np.abs(picture[down, right] - wanted).max() < 12


def test_the_papers_study_plays_both_folders_once_its_cities_give_way(folders: tuple[Path, Path]) -> None:
    training, benchmark = folders
    options = (
        f"env.dataset={training}",
        "env.city=null",
        "env.splits=none",
        "env.image_size=112",
        f"evaluation.suites.visual_shift.env.dataset={benchmark}",
        "evaluation.suites.visual_shift.env.city=null",
    )
    config = load_config([CONFIGS / "paper" / "virl_vl.yaml"], options)
    environments = suite_environments(config)
    assert destinations(walked(environments["in_distribution"][0], config, 4)) == [way.destination for way in NEW_YORK]
    assert destinations(walked(environments["visual_shift"][0], config, 2)) == [way.destination for way in ELSEWHERE]


@pytest.mark.parametrize("modality", YAML)
def test_demonstrations_come_from_the_folder(
    modality: str, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demonstrations.jsonl"
    options = [f"env.dataset={folders[0]}", f"env.modality={modality}", "env.image_size=64", "data.count=8"]
    assert main(["data", str(CONFIGS / "data" / "route_navigation_expert.yaml"), str(out), *options]) == 0
    assert "Joe's Pizza" in out.read_text()
    assert "Milano" not in out.read_text()
    assert (tmp_path / "demonstrations.jsonl.pictures").exists() == (modality == "pictures")
    capsys.readouterr()


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_run_plays_pictures_of_one_folder_and_is_measured_on_those_of_the_other(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    training, benchmark = folders
    options: list[Any] = [
        f"env.dataset={training}",
        "env.splits=none",
        "env.image_size=64",
        "env.max_attempts=1",
        "rollout.max_answer_tokens=16",
        "rollout.engine={max_context_tokens: 2048, cpu_cache_gib: 0.25}",
        f"learner.model={make_picture_model(tmp_path / 'model')}",
        "cluster.iterations=1",
        "cluster.episodes_per_iteration=4",
        "cluster.dashboard=false",
        "evaluation.episodes=2",
        *suites(benchmark),
    ]
    run = Run(tmp_path, str(YAML["pictures"]), *options).result()
    measured = rows(run, "evaluations")
    assert {row["suite"] for row in measured} == set(SUITES)
    assert all(row["push/gap"] < 1e-4 for row in rows(run, "metrics"))
    said = {suite: (run / "episodes" / f"{suite}_t1_000001.jsonl").read_text() for suite in SUITES}
    assert "Joe's Pizza" in said["in_distribution"] and "Joe's Pizza" in said["rule_shift"]
    assert "Milano" in said["visual_shift"] and "Joe's Pizza" not in said["visual_shift"]
    assert [row["rollout/episodes"] for row in rows(run, "metrics")] == [4]
