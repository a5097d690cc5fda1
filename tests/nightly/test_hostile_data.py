"""Ten thousand broken and hostile copies of a folder of routes, none of which the ordinary tests try."""

from pathlib import Path

import pytest

from tests.support.hostile_data import HostileFolder, peak_megabytes, watch_for_programs

FIRST_SEED = 100_000
NUM_MUTATIONS = 10_000


@pytest.mark.timeout(1800)
def test_ten_thousand_mutations_are_data_or_one_kind_of_error_and_start_nothing(tmp_path: Path) -> None:
    folder = HostileFolder(tmp_path / "city")
    started: list[str] = []
    watch_for_programs(started)
    before = peak_megabytes()
    tried = [folder.try_one(seed) for seed in range(FIRST_SEED, FIRST_SEED + NUM_MUTATIONS)]
    slowest = max(tried, key=lambda mutation: mutation.seconds)
    print(f"refused {sum(mutation.refused for mutation in tried)} of {len(tried)}")
    print(f"slowest {slowest}; {peak_megabytes() - before:.0f} MiB more at the peak; programs started: {started}")
    assert started == []
    assert slowest.seconds < 1.0
    assert peak_megabytes() - before < 512
