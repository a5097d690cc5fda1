"""Demonstrations that Ray tasks make are those of one thread: as many, in that order, to the last byte."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config import load_config
from cluster.groups import demonstrating
from cluster.groups.demonstrating import Demonstrating, item_of
from envs.catalog import make_environment
from learner.demonstrations.demonstration import DemonstrationConfig, DemonstrationError
from learner.demonstrations.files import write_demonstrations
from learner.demonstrations.make import make_demonstrations, to_episode
from learner.worker import Item
from rollout.episode import Episode
from rollout.transcript import ChatTokens
from tests.support.chat import chat_tokens
from tests.support.tiny_models import make_picture_model
from tests.unit.learner.test_demonstrations import all_facts

pytestmark = pytest.mark.timeout(300)

CONFIGS = Path(__file__).parents[2] / "configs" / "envs"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is made here, and the rest by tasks of few."""
    monkeypatch.setattr(demonstrating, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(demonstrating, "CHUNK", 3)


def by(chat: ChatTokens, file: str, *options: str) -> Demonstrating:
    config = load_config([CONFIGS / f"{file}.yaml"], options)
    return Demonstrating(config.env, config.verifier, chat)


def plain(by: Demonstrating, data: DemonstrationConfig) -> list[Episode]:
    made = make_demonstrations(make_environment(by.env, by.verifier), data)
    return [to_episode(each, by.chat) for each in made]


def told(items: list[Item], by: Demonstrating) -> list[Any]:
    """What the learner would fetch, and what is known of it without."""
    episodes: list[Episode] = ray.get([item.episode for item in items])
    assert [item_of(item.episode, episode, by.chat) for item, episode in zip(items, episodes, strict=True)] == items
    return list(map(all_facts, episodes))


@pytest.mark.parametrize("kind", ["expert", "suboptimal"])
def test_the_same_ones_in_the_same_order_with_the_same_pictures(kind: Any, tmp_path: Path) -> None:
    chat = ChatTokens.load(make_picture_model(tmp_path / "picture"))
    ours = by(chat, "general_points_pictures", "env.look.size=112")
    data = DemonstrationConfig(count=11, first_seed=5, kind=kind)
    assert told(list(ours.made(data)), ours) == list(map(all_facts, plain(ours, data)))


def test_of_given_tasks_and_of_parts(tmp_path: Path) -> None:
    ours = by(chat_tokens(), "mixture")
    data = DemonstrationConfig(count=9)
    items = list(ours.made(data))
    expected = plain(ours, data)
    assert told(items, ours) == list(map(all_facts, expected))
    assert {item.part for item in items} == {episode.part for episode in expected} != {""}
    seeds = [7, 3, 8, 1, 0]
    by_seed = {episode.seed: all_facts(episode) for episode in expected}
    assert told(list(ours.of_tasks(data, seeds)), ours) == [by_seed[seed] for seed in seeds]


def test_what_cannot_be_demonstrated_is_told_as_in_one_thread() -> None:
    """A teacher-forced route goes on after a mistake, so that the right answer never follows it."""
    ours = by(chat_tokens(), "route_navigation", "env.teacher_forced=true")
    data = DemonstrationConfig(kind="suboptimal")
    with pytest.raises(DemonstrationError) as expected:
        plain(ours, data)
    with pytest.raises(DemonstrationError) as found:
        list(ours.made(data))
    assert str(found.value) == str(expected.value)
    assert list(ours.of_tasks(data, range(8))) == []


def test_what_goes_wrong_in_a_task_is_raised_as_it_is() -> None:
    """No model without eyes can learn from pictures."""
    blind = by(chat_tokens(), "general_points_pictures", "env.look.size=112")
    with (
        pytest.raises(DemonstrationError, match="which this model cannot see"),
        closing(blind._by_tasks(DemonstrationConfig(), iter(range(4)))) as attempts,
    ):
        list(attempts)


def test_those_of_a_file_are_read(tmp_path: Path) -> None:
    ours = by(chat_tokens(), "add_up")
    data = DemonstrationConfig(count=4)
    file = tmp_path / "made.jsonl"
    env = make_environment(ours.env, ours.verifier)
    write_demonstrations(file, make_demonstrations(env, data), {})
    read = DemonstrationConfig(file=str(file))
    assert told(list(ours.made(read)), ours) == list(map(all_facts, plain(ours, data)))
