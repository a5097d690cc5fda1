"""Samples of one task that all earned the same teach nothing: other tasks are played for them, or they are left out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Config, load_config
from cluster.iteration.play_ahead import tasks_instead_of, tasks_of
from cluster.iteration.played import choose
from cluster.iteration.rows import failed_tasks, flat_tasks, rollout_row
from rollout.episode import EpisodeEnd
from rollout.play import Task
from rollout.traffic import Traffic
from rollout.worker import Played


def config(flat_groups: str = "redraw", **cluster: int) -> Config:
    numbers = {"episodes_per_iteration": 12, "samples_per_task": 3, "iterations": 7, "first_seed": 5, **cluster}
    return load_config(
        [],
        [
            f"learner={{model: m, advantage: {{kind: grpo, flat_groups: {flat_groups}, redraws: 2}}}}",
            "env.name=add_up",
            *(f"cluster.{name}={number}" for name, number in numbers.items()),
        ],
    )


def played(seed: int, sample: int, reward: float) -> tuple[Played, None]:
    summary = Played(
        task=Task(seed=seed, sample=sample),
        part="",
        end=EpisodeEnd.SOLVED if reward > 0 else EpisodeEnd.OUT_OF_ATTEMPTS,
        error=None,
        reward=reward,
        num_turns=1,
        num_right=int(reward > 0),
        traffic=Traffic(tokens=9, scored=4),
        num_context_tokens=5,
        drawn=0,
        oldest_version=0,
    )
    return summary, None


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(0, 100), st.integers(1, 4))
def test_tasks_played_instead_are_no_other_iterations(
    num_tasks: int, samples: int, iterations: int, first: int, redraws: int
) -> None:
    options = config(
        episodes_per_iteration=num_tasks * samples, samples_per_task=samples, iterations=iterations, first_seed=first
    )
    advantage = options.learner.advantage.model_copy(update={"redraws": redraws})
    options = options.model_copy(update={"learner": options.learner.model_copy(update={"advantage": advantage})})
    seen: set[tuple[int, int]] = set()
    for iteration in range(iterations):
        rounds = [tasks_of(iteration, options)]
        rounds += [tasks_instead_of(num_tasks, iteration, redraw, options) for redraw in range(redraws)]
        assert tasks_instead_of(num_tasks, iteration, redraws, options) == []
        for tasks in rounds:
            found = {(task.seed, task.sample) for task in tasks}
            assert len(found) == num_tasks * samples and found.isdisjoint(seen)
            assert len({task.seed for task in tasks}) == num_tasks
            seen |= found


def test_as_many_are_played_as_were_flat_and_none_unless_asked_for() -> None:
    assert [task.seed for task in tasks_instead_of(1, 0, 0, config())] == [5 + 4] * 3
    assert [task.seed for task in tasks_of(1, config())][::3] == [5 + 12, 5 + 13, 5 + 14, 5 + 15]
    assert tasks_instead_of(0, 0, 0, config()) == []
    for kept in ("keep", "drop"):
        assert tasks_instead_of(4, 0, 0, config(kept)) == []


@pytest.mark.parametrize("flat_groups", ["drop", "redraw"])
def test_what_is_flat_is_not_learned_from(flat_groups: str) -> None:
    episodes = [played(seed, sample, reward) for seed in range(4) for sample, reward in enumerate((-1, -1, seed - 1.0))]
    assert flat_tasks(one for one, _ in episodes) == {0}
    chosen = choose(episodes, 0, config(flat_groups))
    assert [one.task.seed for one, _ in chosen] == [1] * 3 + [2] * 3 + [3] * 3
    assert rollout_row(episodes, chosen, version=0, max_lag=0)["rollout/flat_groups"] == 0.25
    assert len(choose(episodes, 0, config("keep"))) == 12


def test_where_all_are_flat_a_few_stay_for_the_update_to_have_some() -> None:
    episodes = [played(seed, sample, -1.0) for seed in range(2) for sample in range(3)]
    assert len(choose(episodes, 0, config())) == 1


def test_what_failed_is_what_no_sample_solved_and_nothing_broke() -> None:
    episodes = [played(seed, sample, reward)[0] for seed in (3, 1, 2) for sample, reward in enumerate((-1, seed - 2.0))]
    assert failed_tasks(episodes) == [1, 2]
    broken = replace(episodes[-1], end=EpisodeEnd.FAILED)
    assert failed_tasks([*episodes[:-1], broken]) == [1]


def test_one_sample_a_task_is_no_group() -> None:
    episodes = [played(seed, 0, -1.0) for seed in range(3)]
    assert "rollout/flat_groups" not in rollout_row(episodes, episodes, version=0, max_lag=0)
