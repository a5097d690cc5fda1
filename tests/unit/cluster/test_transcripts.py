"""Which of a round's episodes are written down to read."""

from pathlib import Path

from cluster.record.episode_log import transcribe
from cluster.record.run_directory import RunDirectory
from rollout.episode import EpisodeEnd
from tests.support.episodes import episode, right, wrong


def test_a_few_episodes_are_written_and_every_one_that_failed(tmp_path: Path) -> None:
    whole = [episode(right(reward=float(seed)), seed=seed) for seed in range(20)]
    failed = [episode(wrong(), end=EpisodeEnd.FAILED, seed=seed) for seed in range(20, 25)]
    run = RunDirectory.at(tmp_path)
    path = transcribe(run, "rule_shift_t1_000040", [*whole, *failed], title="Rule shift")
    assert path == run.episodes / "rule_shift_t1_000040.md"
    headings = [line for line in path.read_text().splitlines() if line.startswith("## ")]
    assert [heading.rpartition(" ")[2] for heading in headings if "## best" in heading] == ["19", "18"]
    assert [heading.rpartition(" ")[2] for heading in headings if "## worst" in heading] == ["0", "1"]
    assert len([heading for heading in headings if "## random" in heading]) == 2
    assert [heading.rpartition(" ")[2] for heading in headings if "## failed" in heading] == [*map(str, range(20, 25))]
    assert path.read_text().count("Traceback …") == 5
