"""Broken and hostile route data: two thousand of the mutations of which ten thousand are tried at night."""

import subprocess
from collections import Counter

import pytest

from tests.support.hostile_data import HostileFolder, peak_megabytes, watch_for_programs

MUTATIONS_A_TEST = 500
MAX_SECONDS = 1.0
MAX_MEGABYTES = 512.0

_STARTED: list[str] = []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> HostileFolder:
    folder = HostileFolder(tmp_path_factory.mktemp("hostile") / "city")
    watch_for_programs(_STARTED)
    return folder


@pytest.mark.parametrize("part", range(4))
def test_whatever_a_folder_holds_is_data_or_one_kind_of_error_and_starts_nothing(
    part: int, hostile: HostileFolder
) -> None:
    _STARTED.clear()
    before = peak_megabytes()
    tried = [hostile.try_one(seed) for seed in range(part * MUTATIONS_A_TEST, (part + 1) * MUTATIONS_A_TEST)]
    assert _STARTED == []
    assert max(mutation.seconds for mutation in tried) < MAX_SECONDS
    assert peak_megabytes() - before < MAX_MEGABYTES
    files = Counter(mutation.file.rpartition(".")[2] for mutation in tried)
    assert min(files[kind] for kind in ("json", "pkl", "jpg")) > MUTATIONS_A_TEST / 10
    # Mutations that never get past the first check would try nothing else.
    refused = sum(mutation.refused for mutation in tried)
    assert 0.3 < refused / len(tried) < 0.9


def test_the_watch_notices_a_program_that_is_started() -> None:
    started: list[str] = []
    watch_for_programs(started)
    subprocess.run(["true"], check=True)
    assert "subprocess.Popen" in started
