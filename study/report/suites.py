"""What each suite of a study asks: read from the configurations that the study and its runs left behind.

    read_suites([text, …], {"rule_shift": "shifted rule"})  →  {"rule_shift": Suite(shift="rule", measures=…, …)}

A configuration that can no longer be read, as one of an older version, leaves what names and titles tell.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.config import Config, parse_config, suite_environments, suite_shifts
from cluster.errors import RuleshiftError
from envs.protocol import EnvConfig, Measures, Shift, Split
from verifier.config import VerifierConfig

_TOLD: Mapping[Shift, tuple[str, ...]] = {
    "none": ("in_distribution", "training", "validation"),
    "rule": ("rule_shift", "shifted rule"),
    "look": ("visual_shift", "look_shift", "shifted look"),
}
"""How names or titles of suites begin whose options are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One environment that policies were measured on."""

    name: str
    title: str
    """What it is, in words."""
    shift: Shift
    """What it has otherwise than training."""
    measures: Measures
    split: Split = "test"
    asks: tuple[EnvConfig, VerifierConfig] | None = None
    """What it asks, and how answers are scored; None where that is not known."""

    @property
    def env(self) -> EnvConfig | None:
        """What it asks, where that is known."""
        return None if self.asks is None else self.asks[0]

    @property
    def chooses(self) -> bool:
        """Whether it is there to choose by, and not to tell of."""
        return self.split == "validation"

    def recorded(self, columns: Collection[str]) -> Measures:
        """Those of its measures that rows have; without its headline, that is success."""
        named = [measure for measure in self.measures.all if measure.name in columns]
        wanted = (self.measures.headline.name, "success")
        headline = next((one for name in wanted for one in named if one.name == name), Measures().headline)
        return Measures(headline, tuple(one for one in named if one is not headline))


def read_suites(texts: Iterable[str], titles: Mapping[str, str]) -> dict[str, Suite]:
    """The suites with these titles, by the first of the configurations that can be read."""
    config = next((read for text in texts if (read := _read(text)) is not None), None)
    known = {} if config is None else _known(config, titles)
    measures = Measures() if config is None else config.env.measures()
    return {
        name: known.get(name) or Suite(name=name, title=title, shift=_by_name(name, title), measures=measures)
        for name, title in titles.items()
    }


def read_commands(text: str) -> dict[str, str]:
    """By which command each arm of a study is trained, where its configuration can be read."""
    config = _read(text)
    return {} if config is None else {name: arm.command for name, arm in config.compare.arms.items()}


def _known(config: Config, titles: Mapping[str, str]) -> dict[str, Suite]:
    shifts = suite_shifts(config)
    return {
        name: Suite(
            name=name,
            title=titles[name],
            shift=shifts[name],
            measures=env.measures(),
            split=config.evaluation.suites[name].split,
            asks=(env, verifier),
        )
        for name, (env, verifier) in suite_environments(config).items()
        if name in titles
    }


def _read(text: str) -> Config | None:
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.create(text))
        return parse_config(cast(dict[str, Any], loaded)) if isinstance(loaded, dict) else None
    except (RuleshiftError, YAMLError, OmegaConfBaseException):
        return None


def _by_name(name: str, title: str) -> Shift:
    for shift, beginnings in _TOLD.items():
        if name.startswith(beginnings) or title.startswith(beginnings):
            return shift
    return "other"
