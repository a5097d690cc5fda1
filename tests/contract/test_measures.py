"""What every environment says it is measured by is in the rows of its evaluations, whatever its options."""

from dataclasses import replace

import pytest

from cluster.measuring.measures import evaluate_episodes
from envs.protocol import Part
from rollout.episode import EpisodeEnd
from tests.contract.test_environments import environment, every_variant, play, variants
from tests.support.episodes import episode, turn


@every_variant
def test_every_measure_that_is_named_is_measured(name: str) -> None:
    env, config = environment(name)
    episodes = []
    for seed in range(3):
        solved, judged = play(env, seed, lambda question, episode: question.expert_answer)
        turns = [
            replace(
                turn(verdict.outcome, step=question.step, attempt=question.attempt),
                question_text=question.text,
                verdict=verdict,
            )
            for question, verdict in judged
        ]
        end = EpisodeEnd.SOLVED if solved else EpisodeEnd.OUT_OF_ATTEMPTS
        episodes.append(episode(*turns, end=end, env=config.env.name, seed=seed))
    row = evaluate_episodes(episodes, env=(config.env, config.verifier))
    measures = config.env.measures()
    assert {measure.name for measure in measures.all} <= set(row)
    assert len({measure.name for measure in measures.all}) == len({measure.title for measure in measures.all})


@pytest.mark.parametrize("name", [name for name in variants() if environment(name)[1].env.rule_options])
def test_where_a_rule_can_shift_something_tells_of_it_and_something_does_not(name: str) -> None:
    env, config = environment(name)
    measures = config.env.measures()
    parts: tuple[Part, ...] = ("rule", "rest")
    asks = getattr(config.env, "asks", "solution")
    assert all(measures.of(part) for part in parts) == (asks not in ("cards", "recognition"))
    options = type(env.config).model_fields
    told = (*config.env.rule_options, *config.env.look_options, *config.env.task_options)
    assert {option.partition(".")[0] for option in told} <= set(options)
    assert {f"training_{option}" for option in config.env.rule_options} <= set(options)
