"""What a study may choose its runs by, and which runs are one method at several doses."""

from pathlib import Path
from typing import Any

import pytest

from cluster.config import Config, parse_config
from cluster.errors import ConfigError
from study.cells import Study
from study.selection import Role, roles

RATES = "learner.optimizer.learning_rate"


def arm(command: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"command": command, "options": {"learner": {"optimizer": {"learning_rate": rate}}}, **more}


ARMS = {"sft": arm("sft", 1e-3, dose="paper"), "rl": arm("rl", 3e-4, dose="both")}
SUITES = {
    "in_distribution": {"env": {"max_attempts": 2}},
    "rule_shift": {"split": "validation", "env": {"face_cards": "eleven_twelve_thirteen"}},
    "thirty": {"split": "validation", "env": {"target": 30}},
    "countdown": {"split": "validation", "env": {"name": "countdown"}},
    "validation": {"split": "validation", "env": {"max_attempts": 2, "at_least_one_face_card": True}},
}


def config_of(suites: dict[str, Any] | None = None, **compare: Any) -> Config:
    return parse_config(
        {
            "env": {"name": "general_points"},
            "evaluation": {"suites": SUITES if suites is None else suites},
            "compare": {"arms": ARMS, "budget": 1e9, **compare},
        }
    )


def study_of(config: Config) -> Study:
    return Study.of(config, Path("study"))


@pytest.mark.parametrize("select", ["validation/success", "validation", "validation/checks/readable"])
def test_a_validation_suite_under_the_rule_of_training_may_choose(select: str) -> None:
    assert study_of(config_of(select=select)).config.compare.select == select


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("validatoin/success", "no suite is called 'validatoin'; did you mean 'validation'?"),
        ("success", "no suite is called 'success'; the suites are in_distribution, rule_shift"),
        ("rule_shift/success", "that suite is one of a shift of the rule; choose by one under the rule"),
        ("thirty/success", "that suite is one of a shift to another task"),
        ("countdown/success", "that suite is one of a shift to another task"),
        ("in_distribution/success", "its tasks are of the test split, which is not there to choose by; choose by one"),
    ],
)
def test_what_may_not_choose_is_told_with_the_fix(select: str, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        study_of(config_of(select=select))
    assert str(told.value).startswith(f"compare.select={select}: ") and words in str(told.value)


def test_what_chooses_is_not_all_that_is_measured() -> None:
    with pytest.raises(ConfigError, match="no other suite, and what has chosen is no result; name one of the test"):
        study_of(config_of({"validation": SUITES["validation"]}, select="validation"))


def test_cells_that_would_be_asked_otherwise_cannot_be_chosen_between() -> None:
    suites = {**SUITES, "validation": {"split": "validation"}}
    asked = {"evaluation.suites.validation.env.max_attempts": [1, 3]}
    with pytest.raises(ConfigError, match=r"sft_max_attempts_[13] would not be asked.*suites\.validation\.env"):
        study_of(config_of(suites, select="validation", sweep=asked))
    # Whatever they are trained with, all are asked what the study asks.
    study_of(config_of(suites, select="validation", sweep={"env.max_attempts": [1, 3]}))


def test_a_selection_changes_no_cell() -> None:
    plain = [cell.digest for cell in study_of(config_of()).cells]
    assert [cell.digest for cell in study_of(config_of(select="validation")).cells] == plain
    unmarked = {name: {**options, "dose": None} for name, options in ARMS.items()}
    assert [cell.digest for cell in study_of(config_of(arms=unmarked)).cells] == plain


def test_arms_that_differ_in_their_optimizer_alone_are_one_method() -> None:
    arms = {
        **ARMS,
        "sft_chosen": arm("sft", 1e-4, dose="chosen"),
        "hybrid": arm("rl", 3e-4) | {"options": {"cluster": {"demonstrations_per_iteration": 8}}},
    }
    config = config_of(arms=arms)
    assert roles(study_of(config).cells, config) == {
        "sft": Role("sft", "paper"),
        "rl": Role("rl", "both"),
        "sft_chosen": Role("sft", "chosen"),
        "hybrid": Role("hybrid", None),
    }


def test_of_a_sweep_the_run_with_the_arms_own_value_has_the_arms_role() -> None:
    config = config_of(sweep={RATES: [1e-4, 3e-4, 1e-3]}, init={"command": "sft"})
    assert roles(study_of(config).cells, config) == {
        "sft_learning_rate_0.0001": Role("sft", None),
        "sft_learning_rate_0.0003": Role("sft", None),
        "sft_learning_rate_0.001": Role("sft", "paper"),
        "rl_learning_rate_0.0001": Role("rl", None),
        "rl_learning_rate_0.0003": Role("rl", "both"),
        "rl_learning_rate_0.001": Role("rl", None),
    }


def test_a_value_that_is_the_default_counts_as_the_arms_own() -> None:
    config = config_of(arms={"sft": {"command": "sft", "dose": "paper"}}, sweep={"learner.epochs": [1, 2]})
    assert [role.dose for role in roles(study_of(config).cells, config).values()] == ["paper", None]


def test_more_attempts_and_harder_hands_are_no_shift() -> None:
    trained = config_of().env
    same = trained.model_copy(update={"max_attempts": 1, "at_least_one_face_card": True})
    assert same.shift_from(trained) == "none"
    assert same.model_copy(update={"target": 30, "num_cards": 5}).shift_from(trained) != "none"
