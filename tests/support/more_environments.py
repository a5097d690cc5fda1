"""Makes the environments of `tests/support/environments/` ones of `envs/`, in whichever process calls it."""

from pathlib import Path

import envs
from envs.catalog import environment_names

FOLDER = str(Path(__file__).with_name("environments"))


def add_environments() -> None:
    """From now on they are found."""
    envs.__path__.append(FOLDER)
    environment_names.cache_clear()


def remove_environments() -> None:
    """From now on they are not."""
    envs.__path__.remove(FOLDER)
    environment_names.cache_clear()
