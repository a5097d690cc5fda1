"""How a mistake in a configuration is told: the key, its value, the rule, the fix.

Finding              a rule that several options break together, or a note on what they do together
validation_faults    what pydantic finds in one section, a line each
hint                 "did you mean …?"
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

FORMS = {
    "tuple_type": "a list is written as [first, second]",
    "list_type": "a list is written as [first, second]",
    "dict_type": "options are written as {name: value}",
    "mapping_type": "options are written as {name: value}",
    "model_type": "options are written as {name: value}",
    "model_attributes_type": "options are written as {name: value}",
}
"""Pydantic's kind of error → how the value is written rightly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found.

    >>> print(Finding(key="rollout.temperature", value=0, rule="always draws one answer", fix="set it to 1.0"))
    rollout.temperature=0: always draws one answer; set it to 1.0
    """

    key: str
    """The option, as it is overridden."""
    value: Any
    """What it is."""
    rule: str
    """What is wrong with that."""
    fix: str
    """What to do."""
    is_fatal: bool = True
    """Whether nothing can run like this; otherwise it is a note."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.key}={brief(self.value)}: {self.rule}; {self.fix}"


def note(key: str, value: Any, rule: str, fix: str) -> Finding:
    """A finding that stops nothing."""
    return Finding(key=key, value=value, rule=rule, fix=fix, is_fatal=False)


def validation_faults(section: str, model: type[BaseModel], error: ValidationError) -> list[str]:
    """One line for each fault of a section."""
    return [_fault(section, model, detail) for detail in error.errors()]


def hint(written: str, names: Sequence[str] | Mapping[str, Any], preface: str) -> str:
    """The name that was probably meant, else all that there are."""
    begun = [name for name in names if written and name.startswith(written)]
    close = get_close_matches(written, list(names), n=1, cutoff=0.6) or begun
    if close:
        return f"did you mean '{close[0]}'?"
    return f"{preface} {', '.join(names)}" if names else "there is none here"


def option_names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Options by the names under which they are written."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation stands for, also in `Annotated[…]` and `… | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    is_wrapper = get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__")
    inner = get_args(annotation) if is_wrapper else ()
    return next((model for part in inner if (model := model_of(part))), None)


def brief(value: Any) -> str:
    """A value in at most 60 characters."""
    text = str(_plain(value))
    return text if len(text) <= 60 else text[:57] + "…"


def _plain(value: Any) -> Any:
    """As it would be written in YAML."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _fault(section: str, model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    path = detail["loc"]
    key = ".".join(map(str, (section, *path)))
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        beside = _at(model, path[:-1])
        options = list(option_names(beside)) if isinstance(beside, type) else []
        return f"{key}={brief(value)}: no such option; {hint(str(path[-1]), options, 'the options are')}"
    if kind == "missing":
        return f"{key}: missing; this option has no default"
    rule = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    rule = rule[:1].lower() + rule[1:] if rule.startswith("Input should") else rule
    return f"{key}{'' if isinstance(value, Mapping) else f'={brief(value)}'}: {rule}{_fix(model, detail)}"


def _fix(model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return ""  # such a rule is written by us, and says what to do
    if kind in FORMS:
        return f"; {FORMS[kind]}"
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        close = get_close_matches(str(detail["input"]), choices, n=1)
        return f"; did you mean '{close[0]}'?" if close else ""
    field = _at(model, detail["loc"])
    if not isinstance(field, FieldInfo) or field.default in (PydanticUndefined, None):
        return ""
    return f"; the default is {brief(field.default)}"


def _at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | FieldInfo | None:
    """What stands at a path inside a model: the model itself, an option, or the model that an option holds."""
    current: type[BaseModel] | FieldInfo | None = model
    annotation: Any = model
    for step in path:
        inner = model_of(annotation)
        if inner is not None:
            current = option_names(inner).get(str(step))
            annotation = current.annotation if current else None
        else:
            current = None
            annotation = get_args(annotation)[-1] if get_origin(annotation) is dict else None
    return model_of(annotation) or current
