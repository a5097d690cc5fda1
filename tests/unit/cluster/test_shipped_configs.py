"""Every configuration that ships can be played: demonstrations are right, in training and in every suite."""

import json
from pathlib import Path

import pytest

from cluster.config import Config, load_config, suite_environments
from cluster.planning.demonstration_checks import _in_short, demonstration_findings, left_out_routes
from envs._city.build import build_city
from envs.catalog import make_environment
from learner.demonstrations.make import make_demonstrations
from rollout.console import ExpertPlayer, play
from study.cells import Study

CONFIGS = Path(__file__).parents[3] / "configs"
WHAT_IS_NO_RUN = {f"configs/nano/{name}.yaml" for name in ("demo", "grid", "question")}
RUNS = sorted(
    str(file.relative_to(CONFIGS.parent))
    for file in CONFIGS.rglob("*.yaml")
    if file.parent.name not in ("hardware", "bases", "questions")
    and str(file.relative_to(CONFIGS.parent)) not in WHAT_IS_NO_RUN
)


def config_of(file: str) -> Config:
    return load_config([CONFIGS.parent / file])


@pytest.mark.parametrize("file", RUNS)
def test_three_demonstrations_are_made_of_every_configuration(file: str) -> None:
    config = config_of(file)
    env = make_environment(_in_short(config.env), config.verifier)
    made = list(make_demonstrations(env, config.data.model_copy(update={"count": 3})))
    assert len(made) == 3
    if config.data.kind == "expert" and not config.data.corrupted_fraction:
        assert all(turn.verdict.correct for demonstration in made for turn in demonstration.turns)


@pytest.mark.parametrize("file", RUNS)
def test_the_expert_solves_three_tasks_of_every_suite(file: str) -> None:
    config = config_of(file)
    for name, (env_config, verifier) in suite_environments(config).items():
        env = make_environment(_in_short(env_config), verifier)
        split = config.evaluation.suites[name].split
        for seed in range(3):
            outcome = play(
                env, ExpertPlayer(), seed=seed, split=split, show=lambda line: None, save_pictures=lambda images: []
            )
            assert outcome.solved and outcome.reward > 0, (name, seed)


@pytest.mark.parametrize("file", [file for file in RUNS if load_config([CONFIGS.parent / file]).compare.arms])
def test_every_study_that_ships_consists_of_cells_that_can_be_asked(file: str, tmp_path: Path) -> None:
    for cell in Study.of(config_of(file), tmp_path).cells:
        assert list(demonstration_findings(cell.config)) == [], cell.name


def test_what_the_verifier_cannot_read_is_told_before_anything_starts() -> None:
    """JSON with a list of cards is what the original's parser took for no cards at all."""
    config = load_config([CONFIGS / "paper" / "gp_vl.yaml"], ["env.written=json"])
    found = list(demonstration_findings(config))
    assert {finding.key for finding in found} >= {"env.name", "evaluation.suites.rule_shift.env.name"}
    assert "verifier.preset=paper; the first is judged → wrong_cards (-1.5)" in str(found[0])
    assert "evaluation.suites.countdown.env.name" not in {finding.key for finding in found}, "it shows no cards"


def test_a_task_that_there_is_not_is_told_before_anything_starts() -> None:
    config = load_config([CONFIGS / "envs" / "general_points.yaml"], ["env.target=999", "env.num_cards=3"])
    [finding, *_] = demonstration_findings(config)
    assert "the first task of its train split cannot be asked" in str(finding) and "loosen one of them" in str(finding)


def test_routes_that_are_left_out_are_told_with_the_first_reason(tmp_path: Path) -> None:
    build_city(tmp_path / "city", style="oldtown", num_routes=12, seed=0, pictures=False)
    file = tmp_path / "city" / "route_infos.json"
    routes, counter = json.loads(file.read_text())
    options = [f"env.dataset={tmp_path / 'city'}", "env.city=null", "evaluation.suites.other_city=null"]
    config = load_config([CONFIGS / "paper" / "virl_l.yaml"], options)
    assert list(left_out_routes(config)) == []
    for number in (4, 7):
        routes[number]["milestone_info"] = "{"
    file.write_text(json.dumps([routes, counter]))
    [told] = left_out_routes(config)
    assert "routes that are left out: 2; the first is number 4: route_infos.json" in told


def test_a_data_set_that_is_elsewhere_is_left_alone_where_that_is_said() -> None:
    config = load_config(
        [CONFIGS / "paper" / "virl_l.yaml"],
        ["env.dataset=/no/such/folder", "env.city=null", "evaluation.suites.other_city=null"],
    )
    assert "env.name" not in {finding.key for finding in demonstration_findings(config, elsewhere=True)}
    assert "env.name" in {finding.key for finding in demonstration_findings(config)}
