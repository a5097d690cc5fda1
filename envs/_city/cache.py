"""Where made-up cities are kept: each is built the first time it is asked for, and found again ever after.

$RULESHIFT_CACHE, else $XDG_CACHE_HOME/ruleshift, else ~/.cache/ruleshift
  city-<digest of the options and of the code that builds it>/
"""

import fcntl
import hashlib
import os
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from envs._city.names import Pairs, check_signs
from envs._city.styles import STYLES


class CityConfig(BaseModel):
    """A made-up city."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    style: str = "manhattan"
    """How its streets lie and what its houses look like: an entry of `envs/_city/styles.yaml`. The signs of `emblem`
    and of its other looks, `emblem_winter`, `emblem_dusk` and `emblem_brick`, can be read in pictures of 112 pixels,
    those of the others in far larger ones."""
    look: str | None = None
    """Whose houses, sky and signs it has, if not its own style's: the same routes, which look otherwise."""
    pairs: Pairs = "all"
    """In a style with emblems, which pairs of emblem and colour its signs show: `seen` are three of four, `unseen`
    the others, to test a model on."""
    num_routes: int | None = Field(default=None, ge=1, le=2000)
    """How many routes lead through it, of all splits together; without a number it is 200 in words and 32 with
    pictures, which take some 0.4 seconds and 1 MB a route to draw, once; a fourth of the time and a tenth of the room
    with emblems and a `panorama_width` of 528."""
    num_turns: tuple[int, int] = (2, 6)
    """The fewest and the most turns on the way."""
    seed: int = Field(default=0, ge=0)
    """Another seed is another city of the same style."""
    panorama_width: int = Field(default=1024, ge=64, le=8192, multiple_of=2)
    """Pixels around the horizon. Only pictures depend on it; three times their `image_size` is enough."""

    def routes(self, *, pictures: bool) -> int:
        """How many it has."""
        return self.num_routes or (32 if pictures else 200)

    @field_validator("num_turns")
    @classmethod
    def _is_a_range(cls, num_turns: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= num_turns[0] <= num_turns[1]:
            raise ValueError(f"{num_turns} must be the fewest and the most turns, like (2, 6)")
        return num_turns

    @field_validator("style")
    @classmethod
    def _is_a_style(cls, style: str) -> str:
        if style not in STYLES:
            close = get_close_matches(style, STYLES, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(STYLES)}."
            raise ValueError(f"no city style is called '{style}'; {hint}")
        return style

    @model_validator(mode="after")
    def _signs_show_what_names_say(self) -> "CityConfig":
        check_signs(self.style, self.look, self.pairs)
        return self


def city_folder(config: CityConfig, *, pictures: bool) -> Path:
    """The folder that holds the city, which is built now if it is not there yet."""
    cache = cache_folder()
    options = config.model_dump()
    options["num_routes"] = config.routes(pictures=pictures)
    if not pictures:
        del options["panorama_width"], options["look"]
    digest = hashlib.sha256(f"{_builder_digest()} {pictures} {sorted(options.items())}".encode()).hexdigest()[:16]
    folder = cache / f"city-{digest}"
    if not folder.is_dir():
        # Loads numpy, which whoever only reads a config or an existing city need not wait for.
        from envs._city.build import build_city

        cache.mkdir(parents=True, exist_ok=True)
        # Of several processes that ask at once, one builds and the others wait for it.
        with (cache / f"city-{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                build_city(folder, pictures=pictures, **options)
    return folder


def cache_folder() -> Path:
    """Where whatever can be made again is kept."""
    if chosen := os.environ.get("RULESHIFT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ruleshift"


@lru_cache(maxsize=1)
def _builder_digest() -> str:
    """Changes with the code that builds cities, so that a city of older code is never taken for one of today's."""
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), here / "styles.yaml", here.parent / "_routes" / "compass.py"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
