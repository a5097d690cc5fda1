"""Reads a configuration: defaults < YAML files, left to right < `key=value`.

    load_config(["configs/envs/general_points.yaml"], ["env.target=30"])  →  Config
    load_words(["configs/smoke.yaml", "cluster.iterations=5"])            →  the same, from what stands in a command
    suite_environments(config)                                            →  what each evaluation suite asks
    suite_shifts(config)                                                  →  what it has otherwise than training

OmegaConf merges and interpolates, frozen pydantic models validate. Defaults live in the models alone. Every fault of
the configuration is reported at once, each with its key, its value, the rule and, where there is one, the fix.
"""

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError
from pydantic.fields import FieldInfo
from yaml import YAMLError

from cluster.compare_options import CompareConfig
from cluster.errors import ConfigError
from cluster.faults import brief, hint, model_of, option_names, validation_faults
from cluster.options import ClusterConfig, EvaluationConfig, SuiteConfig
from envs import mixture
from envs.catalog import UnknownEnvironment, environment_names, find_environment
from envs.protocol import EnvConfig, EnvError, Shift
from learner.config import LearnerConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from rollout.config import RolloutConfig
from verifier.config import SAID, VerifierConfig

SuiteEnvironment = tuple[EnvConfig, VerifierConfig]


class Config(BaseModel):
    """Everything that a command needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    env: SerializeAsAny[EnvConfig]
    """What is asked: the options of the environment that `env.name` names."""
    verifier: VerifierConfig = VerifierConfig()
    """How answers are scored."""
    rollout: RolloutConfig = RolloutConfig()
    """How episodes are played."""
    learner: LearnerConfig = LearnerConfig()
    """How the policy learns."""
    data: DemonstrationConfig = DemonstrationConfig()
    """What imitation learns from."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What the policy is measured on."""
    cluster: ClusterConfig = ClusterConfig()
    """Where and how long it all runs."""
    compare: CompareConfig = CompareConfig()
    """What is trained side by side."""


def load_config(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The configuration of the files and the overrides; raises ConfigError with every fault."""
    return parse_config(_merge(files, overrides))


def parse_config(merged: Mapping[str, Any]) -> Config:
    """The configuration of all sections together; raises ConfigError with every fault."""
    asked = merged.get("env")
    env, of_env = _environment("env", asked if isinstance(asked, Mapping) else {})
    if env is None and of_env[0].startswith(("env.name:", "env.name=")):
        raise ConfigError(of_env[0])
    sections: dict[str, Any] = {key: field.annotation for key, field in Config.model_fields.items()}
    faults = [
        f"{key}: no such section; {hint(key, sections, 'the sections are')}" for key in merged if key not in sections
    ]
    parsed: dict[str, Any] = {"env": env}
    faults += of_env
    for section, model in sections.items():
        if section != "env":
            given = merged.get(section)
            parsed[section], found = _validated(section, model, {} if given is None else given)
            faults += found
    if None not in (parsed["env"], parsed["verifier"], parsed["evaluation"]):
        faults += _scoring(parsed["env"], parsed["verifier"])
        faults += _suites(parsed["env"], parsed["verifier"], parsed["evaluation"])[1]
    if faults:
        raise ConfigError("\n".join(faults))
    return Config(**parsed)


def load_words(words: Sequence[str]) -> Config:
    """The configuration of YAML files and `key=value` in any order, as they stand in a command."""
    overrides = _overrides(words)
    return load_config([word for word in words if word not in overrides], overrides)


def overrides_in(words: Sequence[str]) -> dict[str, Any]:
    """What the `key=value` among the words of a command set, section by section."""
    return _merge([], _overrides(words))


def _overrides(words: Sequence[str]) -> list[str]:
    # os.path says that a word too long for a name is no file, where Path raises.
    return [word for word in words if "=" in word and not os.path.isfile(word)]


def suite_environments(config: Config) -> dict[str, SuiteEnvironment]:
    """What each suite asks and how it is scored, by the suite's name; raises ConfigError with every fault.

    A suite's options go over those of training. Another `env.name` starts from that environment's defaults, and from
    training's verifier without its rewards, since outcomes have other names.
    """
    found, faults = _suites(config.env, config.verifier, config.evaluation)
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def suite_shifts(config: Config) -> dict[str, Shift]:
    """What each suite has otherwise than training, as it says itself or as its environment tells it."""
    said: dict[str, Shift | None] = {name: suite.shift for name, suite in config.evaluation.suites.items()}
    shown = suite_environments(config)
    return {name: said[name] or mixture.shift_between(env, config.env) for name, (env, _) in shown.items()}


def to_yaml(config: Config) -> str:
    """The resolved configuration, defaults included."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json", by_alias=True)))


def describe_options(model: type[BaseModel], prefix: str) -> str:
    """Every option with its choices, its default and what it does, those of nested sections included."""
    paragraphs = []
    for key, option in options_in(model, prefix):
        default = "required" if option.is_required() else f"default {brief(option.default)}"
        choices = " | ".join(map(str, get_args(option.annotation))) if get_origin(option.annotation) is Literal else ""
        heading = f"{key}  ({f'{choices}; ' if choices else ''}{default})"
        words = " ".join((option.description or "").split())
        paragraphs.append(f"{heading}\n{textwrap.indent(textwrap.fill(words, 90), '    ')}")
    return "\n".join(paragraphs)


def options_in(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every option under its whole key; of options by name, as suites are, those of one called NAME."""
    for name, option in option_names(model).items():
        nested = model_of(option.annotation)
        if nested is not None and nested.__name__.endswith(("Config", "Look")):
            yield from options_in(nested, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", option
        if get_origin(option.annotation) is dict and (inner := model_of(get_args(option.annotation)[1])):
            yield from options_in(inner, f"{prefix}{name}.NAME.")


def _merge(files: Sequence[str | Path], overrides: Sequence[str]) -> dict[str, Any]:
    try:
        layers = [(str(file), _read(Path(file))) for file in files]
        for override in overrides:
            if "=" not in override or override.startswith("="):
                raise ConfigError(f"{override}: an override is written key=value, as in env.max_attempts=3")
            layers.append((override, OmegaConf.from_dotlist([override])))
        resolved = OmegaConf.to_container(_merged(layers), resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None
    except YAMLError as error:
        raise ConfigError(f"an override is not readable as YAML: {_one_line(error)}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _merged(layers: Sequence[tuple[str, DictConfig]]) -> DictConfig:
    merged = OmegaConf.create()
    for name, layer in layers:
        try:
            merged = OmegaConf.merge(merged, layer)
        except TypeError:
            raise ConfigError(
                f"{name}: a list stands where options are written as {{name: value}}, or the other way round"
            ) from None
    assert isinstance(merged, DictConfig)
    return merged


def _read(file: Path) -> DictConfig:
    if not os.path.isfile(file):
        near = sorted(str(other) for other in file.parent.glob("*.yaml")) if os.path.isdir(file.parent) else []
        raise ConfigError(f"{file}: no such file; {hint(str(file), near, 'beside it are')}")
    try:
        content = OmegaConf.load(file)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file}: not readable as YAML: {_one_line(error)}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(
            f"{file}: holds a list; a configuration is a mapping of sections, as in `env: {{name: add_up}}`"
        )
    return content


def _environment(key: str, options: Mapping[str, Any]) -> tuple[EnvConfig | None, list[str]]:
    """The options as those of the environment that they name, or None and the faults, also of a mixture's parts."""
    name = options.get("name")
    if name is None:
        return None, [f"{key}.name: missing; name one of the environments: {', '.join(environment_names())}"]
    try:
        model = find_environment(str(name)).Config
    except UnknownEnvironment as error:
        return None, [f"{key}.name={name}: {error}"]
    parts, faults = options.get("parts"), []
    if issubclass(model, mixture.Config) and isinstance(parts, Mapping):
        options = {**options, "parts": dict(parts)}
        for part, given in parts.items():
            if isinstance(given, Mapping) and isinstance(given.get("env"), Mapping):
                env, found = _environment(f"{key}.parts.{part}.env", given["env"])
                options["parts"][part] = {**given, "env": env}
                faults += found
    return (None, faults) if faults else _validated(key, model, _without_nulls(model, options))


def _scoring(env: EnvConfig, verifier: VerifierConfig) -> list[str]:
    """What is wrong with scoring that environment so."""
    try:
        mixture.rules_by_key("env", env, verifier)
    except EnvError as error:
        return [str(error)]
    return []


def _validated(key: str, model: type[BaseModel], options: Any) -> tuple[Any, list[str]]:
    """The options as a model, or None and the faults."""
    try:
        return model.model_validate(options), []
    except ValidationError as error:
        return None, validation_faults(key, model, error)


def _suites(
    env: EnvConfig, verifier: VerifierConfig, evaluation: EvaluationConfig
) -> tuple[dict[str, SuiteEnvironment], list[str]]:
    environments, faults = {}, []
    for name, suite in evaluation.suites.items():
        found, of_suite = _suite(f"evaluation.suites.{name}", suite, env, verifier)
        faults += of_suite
        if found is not None:
            environments[name] = found
    return environments, faults


def _suite(
    key: str, suite: SuiteConfig, env: EnvConfig, verifier: VerifierConfig
) -> tuple[SuiteEnvironment | None, list[str]]:
    is_other = suite.env.get("name", env.name) != env.name
    scored = verifier.model_dump(mode="json", include=SAID if is_other else None, exclude={"noise"})
    base = {} if is_other else env.model_dump(mode="json")
    shown, faults = _environment(f"{key}.env", overlaid(base, suite.env))
    scoring, of_verifier = _validated(f"{key}.verifier", VerifierConfig, overlaid(scored, suite.verifier))
    faults += of_verifier
    if shown is not None and scoring is not None and (is_other or scoring != verifier):
        faults += [f"{key}.{fault}" for fault in _scoring(shown, scoring)]
    if shown is not None and suite.fixation:
        faults += _environment(f"{key}.fixation", overlaid(shown.model_dump(mode="json"), suite.fixation))[1]
    if shown is None or scoring is None or faults:
        return None, faults
    return (shown, scoring), []


def overlaid(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the changes, section by section.

    >>> overlaid({"city": {"style": "manhattan", "seed": 3}, "max_attempts": 2}, {"city": {"seed": 4}})
    {'city': {'style': 'manhattan', 'seed': 4}, 'max_attempts': 2}
    """
    merged = dict(options)
    for name, value in changes.items():
        before = merged.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[name] = overlaid(before, value)
        else:
            merged[name] = value
    return merged


def _without_nulls(model: type[BaseModel], options: Any) -> Any:
    """An environment's options, where null means the default unless the option can be null itself.

    So a file's `city` gives way to `env.dataset=FOLDER env.city=null`.
    """
    if not isinstance(options, Mapping):
        return options
    fields = option_names(model)
    return {
        name: value
        for name, value in options.items()
        if value is not None or name not in fields or type(None) in get_args(fields[name].annotation)
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
