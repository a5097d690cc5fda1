"""What a study consists of: seeds, starts, arms, and every combination of a sweep."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cluster.config import Config, load_words, parse_config, suite_environments
from cluster.errors import ConfigError
from envs.catalog import find_environment
from study.cells import TASKS_BETWEEN_SEEDS, Cell, Study
from study.compare import require_same
from study.side_by_side import in_turn

ARMS = {"sft": {"command": "sft"}, "rl": {"command": "rl", "options": {"env": {"max_attempts": 3}}}}


def config_of(**compare: Any) -> Config:
    study = {"arms": ARMS, "init": {"command": "sft"}, "budget": 1e9, **compare}
    return parse_config({"env": {"name": "add_up"}, "compare": study})


def cells_of(config: Config) -> tuple[Cell, ...]:
    return Study.of(config, Path("study")).cells


def names(cells: tuple[Cell, ...]) -> list[str]:
    return [cell.folder.name for cell in cells]


def test_each_seed_is_whole_before_the_next_begins() -> None:
    cells = cells_of(config_of(seeds=[3, 5]))
    assert names(cells) == ["init_seed3", "sft_seed3", "rl_seed3", "init_seed5", "sft_seed5", "rl_seed5"]
    assert [cell.start and cell.start.name for cell in cells] == [None, "init", "init"] * 2


def test_side_by_side_starts_come_first_and_play_before_imitation() -> None:
    order = names(tuple(in_turn(cells_of(config_of(seeds=[5, 3])))))
    assert order == ["init_seed5", "init_seed3", "rl_seed5", "sft_seed5", "rl_seed3", "sft_seed3"]
    assert names(tuple(in_turn(cells_of(config_of(init=None))))) == ["rl_seed0", "sft_seed0"]


def test_without_an_init_every_arm_starts_from_the_model() -> None:
    cells = cells_of(config_of(init=None))
    assert names(cells) == ["sft_seed0", "rl_seed0"]
    assert cells[0].config.cluster.evaluate_at_start


def test_a_sweep_makes_every_arm_with_every_combination() -> None:
    config = config_of(sweep={"env.max_attempts": [1, 5], "learner.optimizer.learning_rate": [1e-5, 1e-3]})
    cells = cells_of(config)
    assert [cell.name for cell in cells] == [
        "init",
        *(f"{arm}_max_attempts_{n}_learning_rate_{r}" for arm in ARMS for n in (1, 5) for r in ("1e-05", "0.001")),
    ]
    made = [cell.config for cell in cells[1:]]
    assert [(one.env.max_attempts, one.learner.optimizer.learning_rate) for one in made[4:]] == [
        (1, 1e-5),
        (1, 1e-3),
        (5, 1e-5),
        (5, 1e-3),
    ]


def test_a_sweep_of_the_init_makes_several_starts_and_all_arms_from_each() -> None:
    cells = cells_of(config_of(sweep={"init.cluster.iterations": [10, 20]}))
    assert [(cell.name, cell.start and cell.start.name) for cell in cells] == [
        ("init_iterations_10", None),
        ("init_iterations_20", None),
        ("sft_iterations_10", "init_iterations_10"),
        ("rl_iterations_10", "init_iterations_10"),
        ("sft_iterations_20", "init_iterations_20"),
        ("rl_iterations_20", "init_iterations_20"),
    ]


def test_keys_may_be_nested_as_a_command_writes_them_and_null_takes_one_back() -> None:
    nested = config_of(sweep={"learner": {"optimizer": {"learning_rate": [1e-4]}}, "env": {"max_attempts": None}})
    assert nested.compare.sweep == {"learner.optimizer.learning_rate": (1e-4,)}


def test_an_arm_that_a_later_file_sets_to_null_is_left_out() -> None:
    assert list(config_of(arms={**ARMS, "sft": None}).compare.arms) == ["rl"]


def test_options_with_one_last_word_are_told_apart_by_the_whole_key() -> None:
    config = config_of(sweep={"learner.seed": [1], "rollout.engine.seed": [2]})
    assert cells_of(config)[-1].name == "rl_learner.seed_1_rollout.engine.seed_2"


def test_a_cell_has_the_studys_options_the_arms_and_its_seeds_tasks() -> None:
    config = config_of(seeds=[2], temperatures=[0.5], evaluations=3)
    cells = cells_of(config)
    init, sft, rl = (cell.config for cell in cells)
    assert {one.cluster.first_seed for one in (init, sft, rl)} == {2 * TASKS_BETWEEN_SEEDS}
    assert {one.data.first_seed for one in (init, sft, rl)} == {2 * TASKS_BETWEEN_SEEDS}
    assert {one.evaluation.final_temperatures for one in (init, sft, rl)} == {(0.5,)}
    assert (init.cluster.budget, sft.cluster.budget, rl.cluster.evaluations) == (None, 1e9, 3)
    assert (init.learner.model, sft.learner.model, rl.learner.model) == (
        None,
        str(cells[0].policy),
        str(cells[0].policy),
    )
    assert (sft.env.max_attempts, rl.env.max_attempts) == (config.env.max_attempts, 3)
    assert not sft.cluster.evaluate_at_start  # its start has just been measured


def test_what_an_arm_says_of_a_suite_itself_stands_whatever_else_changes() -> None:
    asked = {"evaluation": {"suites": {"same": {"env": {"target": 12}}}}}
    config = parse_config(
        {
            "env": {"name": "general_points"},
            "evaluation": {"suites": {"same": {}, "other": {}}},
            "compare": {
                "arms": {"sft": {"command": "sft", "options": asked}},
                "sweep": {"env.max_attempts": [1, 3]},
            },
        }
    )
    for cell, attempts in zip(cells_of(config), (1, 3), strict=True):
        suites = suite_environments(cell.config)
        assert cell.config.env.max_attempts == attempts
        assert [getattr(suites[name][0], "target", None) for name in ("same", "other")] == [12, 24]
        assert suites["same"][0].max_attempts == config.env.max_attempts


def test_an_arm_may_train_on_another_environment_and_is_measured_on_what_all_are() -> None:
    study = {
        "arms": {
            "alone": {"command": "sft"},
            "other": {"command": "sft", "options": {"env": {"name": "countdown", "num_numbers": 3}}},
            "shown": {"command": "sft", "options": {"env": {"modality": "pictures"}, "verifier": {"preset": "paper"}}},
            "both": {
                "command": "rl",
                "options": {
                    "env": {
                        "name": "mixture",
                        "parts": {"hands": {"env": {"name": "general_points"}}, "sums": {"env": {"name": "add_up"}}},
                    }
                },
            },
        }
    }
    config = parse_config(
        {
            "env": {"name": "general_points", "target": 30},
            "verifier": {"rewards": {"wrong_value": -7}},
            "evaluation": {
                "suites": {
                    "same": {},
                    "shifted": {"env": {"face_cards": "eleven_twelve_thirteen"}, "fixation": {"face_cards": "ten"}},
                    "countdown": {"env": {"name": "countdown"}},
                }
            },
            "compare": study,
        }
    )
    alone, other, shown, both = (cell.config for cell in cells_of(config))
    assert (alone.env.name, other.env.name, both.env.name) == ("general_points", "countdown", "mixture")
    # From its own defaults, and scored without rewards for outcomes that it may not have.
    assert other.env == find_environment("countdown").Config(name="countdown", num_numbers=3)
    assert (alone.verifier.rewards, other.verifier.rewards) == ({"wrong_value": -7}, {})
    assert shown.env == config.env.model_copy(update={"modality": "pictures"})
    assert shown.verifier.preset == "paper"
    for arm in (other, shown, both):
        assert suite_environments(arm) == suite_environments(config)
    assert other.evaluation.suites["shifted"].fixation == {"face_cards": "ten"}


def test_an_arm_with_other_options_of_the_same_environment_keeps_the_rest() -> None:
    arms = {"seen": {"command": "sft", "options": {"env": {"modality": "pictures"}}}}
    config = parse_config({"env": {"name": "general_points", "target": 30}, "compare": {"arms": arms}})
    [seen] = (cell.config for cell in cells_of(config))
    assert (seen.env.modality, seen.env.target) == ("pictures", 30)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"arms": {"sft": {"command": "sft", "options": {"env": {"name": "countdow"}}}}}, "did you mean 'countdown'"),
        ({"sweep": {"init.seed": [1]}, "init": None}, "compare.sweep.init.seed: there is no compare.init"),
        ({"sweep": {"learner.optimizer.learning_rat": [1]}}, "did you mean 'learning_rate'"),
        ({"arms": {"sft": {"command": "sft", "options": {"learner": {"epochs": 0}}}}}, "compare.arms.sft (sft)"),
    ],
)
def test_what_cannot_be_made_is_told_with_its_key(study: dict[str, Any], words: str) -> None:
    config = config_of(**study)
    with pytest.raises(ConfigError) as told:
        cells_of(config)
    assert words in str(told.value)


@given(
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    attempts=st.lists(st.integers(1, 9), max_size=3, unique=True),
    epochs=st.lists(st.integers(1, 4), max_size=3, unique=True),
)
def test_no_two_cells_share_a_folder_and_each_start_comes_first(
    seeds: list[int], attempts: list[int], epochs: list[int]
) -> None:
    sweep = {"env.max_attempts": attempts, "init.learner.epochs": epochs}
    cells = cells_of(config_of(seeds=seeds, sweep={key: values for key, values in sweep.items() if values}))
    assert len({cell.folder for cell in cells}) == len(cells)
    assert len(cells) == len(seeds) * max(1, len(epochs)) * (1 + len(ARMS) * max(1, len(attempts)))
    for number, cell in enumerate(cells):
        assert cell.is_init or cell.start in cells[:number]


def made(cell: Cell, leaving_out: str | None = None, **learner: Any) -> None:
    """As an older version left it: its digest is another, its configuration as given."""
    options = cell.config.model_dump(mode="json", by_alias=True)
    options["learner"] |= learner
    if leaving_out:
        *sections, key = leaving_out.split(".")
        del reduce(dict.__getitem__, sections, options)[key]
    cell.folder.mkdir(parents=True)
    (cell.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(options)))
    (cell.folder / "cell.json").write_text('{"digest": "another", "is_done": true}')


def test_a_cell_that_is_older_than_an_option_is_the_same_cell(tmp_path: Path) -> None:
    start, arm, *_ = Study.of(config_of(), tmp_path).cells
    for cell in (start, arm):
        made(cell, leaving_out="learner.pulls_every")
        require_same(cell)


def test_so_is_one_whose_suites_are_older_than_an_option(tmp_path: Path) -> None:
    """An arm with an `env` of its own writes out what its suites ask."""
    *_, arm = Study.of(config_of(init=None), tmp_path).cells
    assert "largest" in arm.config.evaluation.suites["in_distribution"].env
    made(arm, leaving_out="evaluation.suites.in_distribution.env.largest")
    require_same(arm)


def test_a_cell_that_was_made_otherwise_is_told_by_what(tmp_path: Path) -> None:
    start, sft, rl = Study.of(config_of(), tmp_path).cells
    made(start, epochs=3)
    made(sft)
    made(rl, no_such_option=1)
    with pytest.raises(ConfigError, match=r"init_seed0: .*learner\.epochs was 3, is 1\); give the study"):
        require_same(start)
    with pytest.raises(ConfigError, match=r"sft_seed0: .*learner\.epochs was 3, is 1"):
        require_same(sft)
    with pytest.raises(ConfigError, match=r"rl_seed0: .*no_such_option"):
        require_same(rl)
    (start.folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"init_seed0.config.yaml is not there"):
        require_same(sft)


@pytest.mark.parametrize("feedback", ["full", "outcome", "none"])
def test_what_the_verifier_says_is_the_same_in_all_arms_and_suites_whatever_they_ask(feedback: str) -> None:
    transfer = Path(__file__).parents[3] / "configs" / "nano" / "transfer.yaml"
    cells = cells_of(load_words([str(transfer), f"verifier.feedback={feedback}"]))
    assert len({cell.config.env.name for cell in cells}) == 3
    for cell in cells:
        assert cell.config.verifier.feedback == feedback
        assert {verifier.feedback for _, verifier in suite_environments(cell.config).values()} == {feedback}
