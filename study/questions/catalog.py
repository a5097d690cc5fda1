"""The questions of configs/questions/, by name: a YAML each, and nothing else.

names()                       →  ["attempts", …]
load("attempts", overrides)   →  Config, the files that it stands behind below it
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from cluster.config import Config, load_words
from cluster.errors import ConfigError
from cluster.faults import hint
from cluster.question_options import QuestionConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "questions"


def names() -> list[str]:
    """All that there are."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def file_of(name: str) -> Path:
    """A question by its name, or by its file where it is one's own; ConfigError where there is none."""
    if name.endswith(".yaml") and Path(name).is_file():
        return Path(name)
    if name not in names():
        raise ConfigError(f"{name}: no question is called so; {hint(name, names(), 'there are')}; or name a YAML file")
    return FOLDER / f"{name}.yaml"


def load(name: str, overrides: Sequence[str] = ()) -> tuple[Config, QuestionConfig]:
    """The study that asks it, and what it asks."""
    file = file_of(name)
    told = OmegaConf.select(OmegaConf.load(file), "compare.question.behind") or ()
    below = [str(path if (path := Path(each)).is_file() else ROOT / path) for each in told]
    config = load_words([*below, str(file), *overrides])
    if config.compare.question is None:
        raise ConfigError(f"{file}: asks nothing; say what in compare.question, as {{asks: …, figure: …}}")
    model = config.learner.model
    if model and not Path(model).is_dir() and (ROOT / model).is_dir():
        learner = config.learner.model_copy(update={"model": str(ROOT / model)})
        config = config.model_copy(update={"learner": learner})
    assert config.compare.question is not None
    return config, config.compare.question
