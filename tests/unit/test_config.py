"""Configurations merge left to right, and every mistake is told with its key, value, rule and fix."""

from pathlib import Path

import pytest

from cluster.config import describe_options, load_config, to_yaml
from cluster.errors import ConfigError
from envs.general_points import Config as GeneralPointsConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "envs"
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


def test_every_option_is_described_with_its_default() -> None:
    described = describe_options(GeneralPointsConfig, "env.")
    assert "env.target  (default 24)\n    The value to make." in described
    assert "env.look.size" in described
    for name, option in GeneralPointsConfig.model_fields.items():
        assert option.description, f"{name} has no docstring"
