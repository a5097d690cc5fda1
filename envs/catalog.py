"""Finds environments by file name: `envs/add_up.py` is `add_up`. There is no list to keep."""

import pkgutil
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from threading import Lock
from types import ModuleType

import envs
from envs.protocol import Env, EnvConfig, EnvError
from verifier.config import VerifierConfig
from verifier.telling import told

_shared: dict[tuple[str, str], Env] = {}
_making: dict[tuple[str, str], Lock] = {}


class UnknownEnvironment(EnvError):
    """No environment has this name; the message names the nearest."""


@lru_cache(maxsize=1)
def environment_names() -> tuple[str, ...]:
    """Every module of `envs/` that holds an environment, in alphabetical order."""
    public = sorted(module.name for module in pkgutil.iter_modules(envs.__path__) if not module.name.startswith("_"))
    return tuple(name for name in public if hasattr(import_module(f"envs.{name}"), "Environment"))


def find_environment(name: str) -> ModuleType:
    """The module of an environment; its docstring says what it asks."""
    if name not in environment_names():
        close = get_close_matches(name, environment_names(), n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(environment_names())}."
        raise UnknownEnvironment(f"no environment is called '{name}'; {hint}")
    return import_module(f"envs.{name}")


def summary(name: str) -> str:
    """One line on what an environment asks: the first of its module's docstring."""
    return (find_environment(name).__doc__ or "").strip().splitlines()[0]


def make_environment(config: EnvConfig, verifier_config: VerifierConfig) -> Env:
    """The environment that the config names."""
    made = find_environment(config.name).Environment(config, verifier_config)
    made.verifier = told(made.verifier, verifier_config.feedback)
    return made


def shared_environment(config: EnvConfig, verifier_config: VerifierConfig) -> Env:
    """The same one for equal options, in all threads of this process: a city may take minutes to draw. Who asks while
    it is made waits for it."""
    key = (config.model_dump_json(), verifier_config.model_dump_json())
    with _making.setdefault(key, Lock()):
        if key not in _shared:
            _shared[key] = make_environment(config, verifier_config)
        return _shared[key]
