"""Reads a configuration: defaults < YAML files, left to right < `key=value`.

    load_config(["configs/envs/general_points.yaml"], ["env.target=30"])  →  Config

OmegaConf merges and interpolates, frozen pydantic models validate. Defaults live in the models alone. Every fault of
the configuration is reported at once, each with its key, its value, the rule and, where there is one, the fix.
"""

import textwrap
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError
from yaml import YAMLError

from cluster.errors import ConfigError
from envs.catalog import UnknownEnvironment, environment_names, find_environment
from envs.protocol import EnvConfig
from rollout.config import RolloutConfig
from verifier.rewards import VerifierConfig

Location = tuple[str | int, ...]


class Config(BaseModel):
    """Everything that a command needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    env: SerializeAsAny[EnvConfig]
    """What is asked: the options of the environment that `env.name` names."""
    verifier: VerifierConfig = VerifierConfig()
    """How answers are scored."""
    rollout: RolloutConfig = RolloutConfig()
    """How episodes are played."""


def load_config(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The configuration of the files and the overrides; raises ConfigError with every fault."""
    merged = _merge(files, overrides)
    name = merged.get("env", {}).get("name") if isinstance(merged.get("env"), dict) else None
    if name is None:
        known = ", ".join(environment_names())
        raise ConfigError(f"env.name: missing; name one of the environments: {known}")
    try:
        env_model = find_environment(str(name)).Config
    except UnknownEnvironment as error:
        raise ConfigError(f"env.name={name}: {error}") from None
    sections = {"env": env_model, "verifier": VerifierConfig, "rollout": RolloutConfig}
    faults = [
        f"{key}: no such section; {_hint(key, sections, 'the sections are')}" for key in merged if key not in sections
    ]
    parsed: dict[str, BaseModel] = {}
    for section, model in sections.items():
        try:
            parsed[section] = model.model_validate(merged.get(section, {}))
        except ValidationError as error:
            faults += [_fault(section, model, detail) for detail in error.errors()]
    if faults:
        raise ConfigError("\n".join(faults))
    return Config(**parsed)  # pyright: ignore[reportArgumentType]


def to_yaml(config: Config) -> str:
    """The resolved configuration, defaults included."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json")))


def describe_options(model: type[BaseModel], prefix: str) -> str:
    """Every option with its choices, its default and what it does, those of nested sections included."""
    paragraphs = []
    for name, option in model.model_fields.items():
        nested = _model_of(option.annotation)
        if nested is not None and nested.__name__.endswith(("Config", "Look")):
            paragraphs.append(describe_options(nested, f"{prefix}{name}."))
            continue
        default = "required" if option.is_required() else f"default {_brief(option.default)}"
        choices = " | ".join(map(str, get_args(option.annotation))) if get_origin(option.annotation) is Literal else ""
        heading = f"{prefix}{name}  ({f'{choices}; ' if choices else ''}{default})"
        words = " ".join((option.description or "").split())
        paragraphs.append(f"{heading}\n{textwrap.indent(textwrap.fill(words, 90), '    ')}")
    return "\n".join(paragraphs)


def _merge(files: Sequence[str | Path], overrides: Sequence[str]) -> dict[str, Any]:
    try:
        layers = [_read(Path(file)) for file in files]
        for override in overrides:
            if "=" not in override or override.startswith("="):
                raise ConfigError(f"{override}: an override is written key=value, as in env.max_attempts=3")
        merged = OmegaConf.merge(*layers, OmegaConf.from_dotlist(list(overrides)))
        resolved = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{getattr(error, 'full_key', None) or 'configuration'}: {str(error).splitlines()[0]}"
        ) from None
    except YAMLError as error:
        raise ConfigError(f"an override is not readable as YAML: {_one_line(error)}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _read(file: Path) -> DictConfig:
    if not file.is_file():
        near = sorted(str(other) for other in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        raise ConfigError(f"{file}: no such file; {_hint(str(file), near, 'beside it are')}")
    try:
        content = OmegaConf.load(file)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file}: not readable as YAML: {_one_line(error)}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(
            f"{file}: holds a list; a configuration is a mapping of sections, as in `env: {{name: add_up}}`"
        )
    return content


def _fault(section: str, model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    """One line for one fault that pydantic found."""
    location: Location = (section, *detail["loc"])
    key = ".".join(map(str, location))
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        options = _options_at(model, detail["loc"][:-1])
        return f"{key}={_brief(value)}: no such option; {_hint(str(location[-1]), options, 'the options are')}"
    if kind == "missing":
        return f"{key}: missing; this option has no default"
    rule = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    rule = rule[:1].lower() + rule[1:] if rule.startswith("Input should") else rule
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        close = get_close_matches(str(value), choices, n=1)
        rule += f"; did you mean '{close[0]}'?" if close else ""
    shown = "" if isinstance(value, Mapping) else f"={_brief(value)}"
    return f"{key}{shown}: {rule}"


def _options_at(model: type[BaseModel], path: Location) -> list[str]:
    """The option names of the model that stands at a path inside another."""
    current: type[BaseModel] | None = model
    for step in path:
        field = current.model_fields.get(str(step)) if current else None
        current = _model_of(field.annotation) if field else None
    return list(current.model_fields) if current else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation stands for, also in `Annotated[…]` and `… | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    is_wrapper = get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__")
    inner = get_args(annotation) if is_wrapper else ()
    return next((model for part in inner if (model := _model_of(part))), None)


def _hint(written: str, names: Sequence[str] | Mapping[str, Any], preface: str) -> str:
    close = get_close_matches(written, list(names), n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"{preface} {', '.join(names)}" if names else "there is none here"


def _brief(value: Any) -> str:
    text = str(value.model_dump(mode="json")) if isinstance(value, BaseModel) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
