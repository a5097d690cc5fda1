"""Several environments as one: whose each seed is, who judges, and what is told when a part goes wrong."""

from itertools import pairwise, product
from typing import Any

import pytest

from cluster.config import load_config
from cluster.errors import ConfigError
from envs.catalog import make_environment
from envs.mixture import Environment, order_of, part_of, rules_by_key
from envs.protocol import EnvError
from learner.demonstrations.demonstration import DemonstrationConfig, DemonstrationError
from learner.demonstrations.make import make_demonstrations
from learner.demonstrations.overlap import OverlapError, checked
from tests.support.more_environments import add_environments, remove_environments
from verifier.config import UnknownOutcome, VerifierConfig

TWO = "env={name: mixture, parts: {cards: {weight: 2, env: {name: general_points}}, sums: {env: {name: add_up}}}}"


def mixture(*overrides: str) -> Environment:
    config = load_config([], [TWO, *overrides])
    env = make_environment(config.env, config.verifier)
    assert isinstance(env, Environment)
    return env


def off_its_share(weights: tuple[int, ...]) -> float:
    """By how much a part has more or less than its share of any run of seeds, at most."""
    order = order_of(tuple((str(number), weight) for number, weight in enumerate(weights))) * 3
    period, worst = sum(weights), 0.0
    for number, weight in enumerate(weights):
        had = [0]
        for part in order:
            had.append(had[-1] + (part == str(number)))
        starts = product(range(period), range(period + 1))
        worst = max(worst, *(abs(had[first + n] - had[first] - n * weight / period) for first, n in starts))
    return worst


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (5, 3), (1, 9), (7, 12), (1, 1, 1), (4, 4, 4, 4)])
def test_any_run_of_seeds_has_each_part_s_share_to_within_one(weights: tuple[int, ...]) -> None:
    assert off_its_share(weights) < 1


@pytest.mark.parametrize("weights", [(1, 2, 3), (3, 3, 7), (5, 1, 1, 3), (2, 9, 4, 4, 1)])
def test_three_parts_of_different_weights_have_theirs_to_within_two(weights: tuple[int, ...]) -> None:
    assert off_its_share(weights) < 2


def test_a_seed_asks_what_its_part_asks_of_it_alone() -> None:
    env, alone = mixture(), load_config([], ["env.name=general_points"])
    cards = make_environment(alone.env, alone.verifier)
    assert [env.part(seed) for seed in range(6)] == ["cards", "cards", "sums"] * 2
    for seed, split in product((0, 1, 3), ("train", "validation", "test")):
        asked, expected = env.open(seed, split).first_question(), cards.open(seed, split).first_question()
        assert (asked.text, asked.reference.reference) == (expected.text, expected.reference)
        assert (asked.reference.part, part_of(env, seed)[0]) == ("cards", "cards")
    assert part_of(cards, 3) == ("", cards)


def test_the_part_s_own_verifier_judges_and_attempts_are_its_own() -> None:
    options = ("env.parts.sums.verifier={rewards: {correct: 7}}", "env.parts.cards.env.max_attempts=3")
    env = mixture(*options, "verifier.preset=paper")
    sums, cards = (env.open(seed, "train").first_question() for seed in (2, 0))
    assert env.verifier.judge(sums.expert_answer, sums.reference).reward == 7
    assert env.verifier.judge("nothing", cards.reference).reward == -3, "the paper's, of an answer without a formula"
    assert {name: part.config.max_attempts for name, part in env.parts.items()} == {"cards": 3, "sums": 5}
    capped = rules_by_key("env", mixture("env.max_attempts=2").config, VerifierConfig())
    assert {key: env.max_attempts for key, (env, _) in capped.items()} == {
        "env.parts.cards.env": 2,
        "env.parts.sums.env": 2,
    }


def test_demonstrations_are_of_all_parts_and_tell_which() -> None:
    made = list(make_demonstrations(mixture(), DemonstrationConfig(count=30)))
    assert [(each.part, each.env) for each in made[:3]] == [
        ("cards", "general_points"),
        ("cards", "general_points"),
        ("sums", "add_up"),
    ]
    assert sum(each.part == "cards" for each in made) == 20
    assert all(turn.verdict.correct for each in made for turn in each.turns)
    assert made[0].cards and not made[2].cards
    assert list(checked(made, mixture().config)) == made


def test_a_leak_in_one_part_is_found() -> None:
    made = make_demonstrations(mixture(), DemonstrationConfig(count=6, split="test"))
    with pytest.raises(OverlapError, match=r"6 of 6 demonstrations .* general_points/test/0"):
        list(checked(made, mixture().config))


def test_a_part_that_its_demonstrator_never_solves_is_told() -> None:
    env = mixture("env.parts.cards.env.modality=pictures", "env.parts.cards.verifier.preset=paper")
    with pytest.raises(DemonstrationError, match="20 tasks in a row unsolved; the last answer, to general_points"):
        list(make_demonstrations(env, DemonstrationConfig(count=100)))


def test_what_goes_wrong_in_a_part_names_it() -> None:
    cards = "env.parts.cards.env"
    env = mixture(f"{cards}.test_fraction=0", f"{cards}.validation_fraction=0")
    with pytest.raises(EnvError, match="part cards of the mixture: none of 20000 drawn tasks"):
        env.open(0, "test")
    with pytest.raises(UnknownOutcome, match=r"env\.parts\.sums\.verifier\.rewards\.corect: no outcome"):
        mixture("env.parts.sums.verifier.rewards={corect: 3}")
    add_environments()
    try:
        with pytest.raises(LookupError) as told:
            mixture("env.parts.sums.env={name: unreliable, raises: [2]}").open(2, "train")
    finally:
        remove_environments()
    assert told.value.__notes__ == ["in part sums of the mixture"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.parts.cards.env.num_cards=9", r"^env\.parts\.cards\.env\.num_cards=9: input should be less than or"),
        ("env.parts.sums.env.larges=9", r"^env\.parts\.sums\.env\.larges=9: no such option; did you mean 'largest'\?"),
        ("env.parts.sums.env.name=ad_up", r"^env\.parts\.sums\.env\.name=ad_up: .*did you mean 'add_up'\?"),
        ("env.parts.sums.weight=0", r"^env\.parts\.sums\.weight=0: input should be greater"),
        ("env.parts.more={weight: 2}", r"^env\.parts\.more\.env: missing"),
        ("env.parts.more={env: {largest: 3}}", r"^env\.parts\.more\.env\.name: missing; name one of the environments"),
        ("env.parts.more={env: {name: mixture, parts: {}}}", r"env\.parts: .*at least 1"),
        ("env.parts.a/b={env: {name: add_up}}", r"^env\.parts\.a/b"),
        ("verifier.rewards={correct: 3}", r"^verifier\.rewards\.correct: .* env\.parts\.cards\.verifier\.rewards$"),
    ],
)
def test_a_wrong_option_of_a_part_is_told_by_its_whole_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config([], [TWO, override])


def test_a_mixture_of_mixtures_is_refused() -> None:
    inner: Any = {"name": "mixture", "parts": {"sums": {"env": {"name": "add_up"}}}}
    with pytest.raises(ConfigError, match="a part cannot be a mixture itself"):
        load_config([], [f"env={{name: mixture, parts: {{inner: {{env: {inner}}}}}}}"])


def test_a_part_that_is_null_is_left_out_and_a_suite_may_change_one() -> None:
    assert list(load_config([], [TWO, "env.parts.sums=null"]).env.parts) == ["cards"]  # pyright: ignore
    suite = "evaluation.suites.hard={env: {parts: {cards: {env: {num_cards: 5}}, sums: null}}}"
    config = load_config([], [TWO, suite])
    assert len(config.evaluation.suites) == 1


def test_order_is_by_deadlines() -> None:
    order = order_of((("cards", 3), ("streets", 2)))
    assert order == ("cards", "streets", "cards", "cards", "streets")
    assert not any(first == second == "streets" for first, second in pairwise(order * 2))
