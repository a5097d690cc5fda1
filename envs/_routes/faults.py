"""What is wrong with a route data set: the one error for all of it, and the one way to read its files.

RouteDataError                       an EnvError; made by broken(file, rule, fix, …)
read_file(path, max_bytes=…)         its bytes, or that error: whatever kind of file, or none, stands there
first_error(validation_error)        what pydantic says, as arguments of broken
"""

import stat
from pathlib import Path
from reprlib import Repr
from typing import Any

from pydantic import ValidationError

from envs._routes.printable import printable
from envs.protocol import EnvError


class RouteDataError(EnvError):
    """A route data set is broken; the message names the file, the route and field, the value, the rule and the fix."""


def broken(
    file: Path, rule: str, fix: str, *, route: int | None = None, field: str = "", value: Any = None
) -> RouteDataError:
    """The error for one broken value."""
    place = ", ".join(part for part in ("" if route is None else f"route {route}", field) if part)
    where = f"{place}{' is ' + _shown(value) if value is not None else ''}: " if place else ""
    return RouteDataError(printable(f"{file}: {where}{rule}; {fix}"))


def read_file(path: Path, *, max_bytes: int, route: int | None = None) -> bytes:
    """The whole file, if it is a plain one of no more than `max_bytes`; anything else is a fault of the data."""
    try:
        # Asked before it is opened: to open a named pipe would last until somebody writes into it.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise broken(path, "is no plain file", "put the file there itself", route=route)
        if status.st_size > max_bytes:
            rule = f"{status.st_size} bytes are more than the {max_bytes} that are read"
            raise broken(path, rule, "split the data set, or make the file again", route=route)
        with path.open("rb") as file:
            return file.read(status.st_size)
    except OSError as error:
        raise broken(path, f"cannot be read ({error.strerror})", "copy or make it again", route=route) from error


def first_error(error: ValidationError) -> dict[str, Any]:
    """Field, value and rule."""
    first = error.errors()[0]
    rule = "must be an object, {...}" if first["type"] == "model_type" else first["msg"]
    value = None if first["type"] == "missing" else first["input"]
    return {"field": ".".join(map(str, first["loc"])), "value": value, "rule": rule}


def _shown(value: Any) -> str:
    # Written by parts, each cut before it is written out: a value may be half the file, or lists within lists.
    writer = Repr()
    writer.maxlevel, writer.maxstring, writer.maxother = 3, 120, 120
    text = writer.repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
