"""Configurations merge left to right, and every mistake is told with its key, value, rule and fix."""

import doctest
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import config as config_module
from cluster import faults
from cluster.config import Config, describe_options, load_config, load_words, suite_environments, to_yaml
from cluster.errors import ConfigError
from envs.countdown import Config as CountdownConfig
from envs.general_points import Config as GeneralPointsConfig
from envs.route_navigation import Config as RouteConfig
from study.cells import Study

CONFIGS = Path(__file__).parents[3] / "configs" / "envs"
CARDS = CONFIGS / "general_points.yaml"


def write(folder: Path, text: str) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(text)
    return file


def test_later_files_and_then_overrides_win(tmp_path: Path) -> None:
    experiment = write(tmp_path, "env: {target: 30, num_cards: 5}\nverifier: {preset: paper}")
    config = load_config([CARDS, experiment], ["env.target=36"])
    assert isinstance(config.env, GeneralPointsConfig)
    assert (config.env.target, config.env.num_cards, config.verifier.preset) == (36, 5, "paper")


def test_values_can_refer_to_one_another(tmp_path: Path) -> None:
    experiment = write(tmp_path, "env: {name: add_up, largest: 7, max_attempts: '${env.largest}'}")
    assert load_config([experiment]).env.max_attempts == 7


def test_the_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = load_config([CARDS], ["env.face_cards=eleven_twelve_thirteen", "env.look.layout=grid"])
    assert load_config([write(tmp_path, to_yaml(config))]) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.max_attempt=3", "env.max_attempt=3: no such option; did you mean 'max_attempts'?"),
        ("env.look.sise=300", "env.look.sise=300: no such option; did you mean 'size'?"),
        ("enw.target=3", "enw: no such section; did you mean 'env'?"),
        ("env.target=many", "env.target=many: input should be a valid integer"),
        ("env.target=0", "env.target=0: input should be greater than or equal to 1"),
        ("env.num_cards=9", "env.num_cards=9: input should be less than or equal to 6"),
        (
            "env.modality=picture",
            "env.modality=picture: input should be 'text' or 'pictures'; did you mean 'pictures'?",
        ),
        ("env.face_cards=eleven", "env.face_cards=eleven: the rules with a name are ten, eleven_twelve_thirteen"),
        ("env.face_cards={J: 5}", "env.face_cards.Q: missing"),
        ("env.asks=cards", "env: asks=cards needs modality=pictures"),
        ("env.test_fraction=0.95", "together must leave something to train on"),
        ("env.name=general_point", "env.name=general_point: no environment is called"),
        ("verifier.preset=original", "verifier.preset=original: input should be 'corrected' or 'paper'"),
        ("verifier.rewards={correct: much}", "verifier.rewards.correct=much: input should be a valid number"),
        ("env.target", "env.target: an override is written key=value"),
        ("env.target=${nothing}", "Interpolation key 'nothing' not found"),
        ("env.target=[1", "not readable as YAML"),
        ("env=3", "env.name: missing; name one of the environments: add_up, countdown"),
        ("env.target=0", "; the default is 24"),
        ("learner.advantage.lamda=0.9", "learner.advantage.lamda=0.9: no such option; did you mean 'lambda'?"),
        ("learner.advantage.lambda=2", "learner.advantage.lambda=2: input should be less than or equal to 1"),
        ("learner.preset=papers", "did you mean 'paper'?"),
        ("learner.freeze=vision_tower", "a list is written as [first, second]"),
        (
            "learner=3",
            "learner=3: input should be a valid dictionary or instance of LearnerConfig; options are written",
        ),
        ("learner.optimizer.schedule=cosine", "learner.optimizer: schedule cosine needs total_steps"),
        ("data.knd=expert", "data.knd=expert: no such option; did you mean 'kind'?"),
        ("evaluation.suites.hard.envs={}", "evaluation.suites.hard.envs={}: no such option; did you mean 'env'?"),
        (
            "evaluation.suites.hard.env.taget=3",
            "evaluation.suites.hard.env.taget=3: no such option; did you mean 'target'?",
        ),
        ("evaluation.suites.hard.env.target=x", "evaluation.suites.hard.env.target=x: input should be a valid integer"),
        (
            "evaluation.suites.hard.env.name=countdwn",
            "evaluation.suites.hard.env.name=countdwn: no environment is called",
        ),
        ("evaluation.suites.hard.verifier.presets=a", "did you mean 'preset'?"),
        ("evaluation.suites.hard.fixation.face_cards=two", "evaluation.suites.hard.fixation.face_cards=two: the rules"),
        ("cluster.tracking.wandb=me", "cluster.tracking.wandb=me: no such option; did you mean 'wandb_project'?"),
    ],
)
def test_a_mistake_is_told_with_its_key_and_the_fix(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        load_config([CARDS], [override])
    assert message in str(fault.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as fault:
        load_config([CARDS], ["env.target=x", "env.wordin=y", "verifier.preset=z", "verifyer.a=1"])
    assert len(str(fault.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env: [1, 2", "not readable as YAML"),
        ("- env", "holds a list; a configuration is a mapping"),
        ("", "env.name: missing"),
        ("env: {name: add_up, name: countdown}", "not readable as YAML"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        load_config([write(tmp_path, text)])
    assert message in str(fault.value)


def test_a_missing_file_suggests_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"general_point\.yaml: no such file; did you mean '.*general_points\.yaml'"):
        load_config([CONFIGS / "general_point.yaml"])


def test_an_option_with_an_alias_is_written_by_it(tmp_path: Path) -> None:
    experiment = write(tmp_path, "env: {name: add_up}\nlearner: {advantage: {lambda: 0.5}}")
    assert load_config([experiment]).learner.advantage.lambda_ == 0.5
    config = load_config([experiment], ["learner.advantage.lambda=0.25", "learner.preset=paper"])
    assert config.learner.advantage.lambda_ == 0.25
    assert "lambda: 0.25" in to_yaml(config)
    assert load_config([write(tmp_path, to_yaml(config))]) == config


def test_files_and_overrides_may_stand_in_any_order(tmp_path: Path) -> None:
    experiment = write(tmp_path, "env: {target: 30}")
    config = load_words(["env.num_cards=5", str(CARDS), str(experiment)])
    assert isinstance(config.env, GeneralPointsConfig)
    assert (config.env.target, config.env.num_cards) == (30, 5)


def suites(*overrides: str, file: Path = CARDS) -> Config:
    return load_config([file], overrides)


def test_a_suite_differs_from_training_only_where_it_says_so() -> None:
    config = suites(
        "env.target=30",
        "env.look.layout=grid",
        "verifier.rewards={correct: 3}",
        "evaluation.suites.shifted.env={look: {font: serif}, face_cards: eleven_twelve_thirteen}",
        "evaluation.suites.shifted.verifier.rewards.unreadable=-4",
        "evaluation.suites.in_distribution={}",
    )
    env, verifier = suite_environments(config)["shifted"]
    assert isinstance(env, GeneralPointsConfig)
    assert (env.target, env.look.layout, env.look.font, env.face_cards.K) == (30, "grid", "serif", 13)
    assert verifier.rewards == {"correct": 3, "unreadable": -4}
    assert suite_environments(config)["in_distribution"] == (config.env, config.verifier)


def test_a_suite_of_another_environment_starts_from_its_defaults() -> None:
    config = suites(
        "env.max_attempts=2",
        "verifier={preset: paper, rewards: {correct: 3}}",
        "evaluation.suites.countdown.env={name: countdown, num_numbers: 5}",
    )
    env, verifier = suite_environments(config)["countdown"]
    assert env == CountdownConfig(name="countdown", num_numbers=5)
    assert (verifier.preset, verifier.rewards) == ("paper", {})


def test_null_gives_way_to_an_option_that_excludes_another() -> None:
    routes = CONFIGS / "route_navigation.yaml"
    written = ["env.city.num_routes=50", "env.dataset=here"]
    with pytest.raises(ConfigError, match="dataset and city are both given"):
        suites(*written, file=routes)
    config = suites(*written, "env.city=null", "evaluation.suites.other.env={dataset: null, city: null}", file=routes)
    assert isinstance(config.env, RouteConfig)
    assert config.env.dataset == Path("here")
    other = suite_environments(config)["other"][0]
    assert isinstance(other, RouteConfig)
    assert other.dataset is None


def test_all_mistakes_in_suites_are_told_at_once_and_by_name() -> None:
    with pytest.raises(ConfigError) as fault:
        suites("evaluation.suites.a.env.taget=3", "evaluation.suites.b.env.num_cards=9", "cluster.iterations=0")
    assert [line.partition("=")[0] for line in str(fault.value).splitlines()] == [
        "cluster.iterations",
        "evaluation.suites.a.env.taget",
        "evaluation.suites.b.env.num_cards",
    ]


def test_every_option_of_every_section_has_its_docstring() -> None:
    described = describe_options(Config, "")
    assert "learner.advantage.lambda  (default 0.95)" in described
    assert "evaluation.suites.NAME.split  (train | validation | test; default test)" in described
    assert "cluster.placement  (cpu | one_gpu | colocated | split; default cpu)" in described
    lines = described.splitlines()
    bare = [line for line, below in zip(lines, [*lines[1:], ""], strict=True) if "  (" in line and not below.strip()]
    assert bare == []


@pytest.mark.parametrize("override", ["env=[]", "cluster=[1]", "evaluation.suites=[]", "env.city=[3]"])
def test_a_list_where_a_mapping_belongs_is_told_with_its_override(override: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config([CONFIGS.parent / "paper" / "virl_l.yaml"], ["cluster.iterations=3", override])
    assert str(told.value).startswith(f"{override}: a list stands where options are written as {{name: value}}")


def test_an_override_may_be_longer_than_any_name_of_a_file() -> None:
    aliases = [f"model-{number}" for number in range(64)]
    config = load_words(
        [str(CONFIGS.parent / "smoke.yaml"), f"rollout.engine.extra={{served_model_name: [{','.join(aliases)}]}}"]
    )
    assert config.rollout.engine.extra["served_model_name"] == aliases


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "env", "suites", "arms", "options", "parts", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(section=st.sampled_from([*Config.model_fields, "no_such_section"]), value=VALUES, is_override=st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_the_place_of_a_section_is_a_configuration_or_a_fault_that_is_told(
    section: str, value: Any, is_override: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = yaml.safe_dump({section: value}, default_flow_style=True, width=10_000)
    words = [str(CONFIGS.parent / "nano" / "gp_l.yaml"), str(CONFIGS.parent / "nano" / "demo.yaml")]
    if is_override:
        of_value = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
        words.append(f"{section}={of_value}")
    else:
        words.append(str(write(tmp_path_factory.mktemp("config"), written)))
    with suppress(ConfigError):
        Study.of(load_words(words), Path("study"))


def test_the_examples_in_the_docstrings_hold() -> None:
    for module in (config_module, faults):
        ran = doctest.testmod(module)
        assert ran.attempted > 0
        assert ran.failed == 0


def test_every_option_is_described_with_its_default() -> None:
    described = describe_options(GeneralPointsConfig, "env.")
    assert "env.target  (default 24)\n    The value to make." in described
    assert "env.look.size" in described
    for name, option in GeneralPointsConfig.model_fields.items():
        assert option.description, f"{name} has no docstring"
