"""Several environments in one run: what is learned together is balanced, and each part is told by itself."""

from collections import Counter
from random import Random

import pytest

from cluster.config import load_config
from cluster.groups.dealing import deal
from cluster.iteration.imitated import spread
from cluster.iteration.played import items_of
from cluster.iteration.rows import parts_row
from cluster.measuring.asked import Asked, TrainingRule
from cluster.measuring.measures import evaluate_episodes
from cluster.planning.hardware import Hardware
from cluster.planning.plan import attempts_at_most, contexts_at_most, make_plan
from envs.catalog import make_environment
from envs.mixture import Environment as Mixture
from learner.config import LearnerConfig
from learner.demonstrations.demonstration import DemonstrationConfig
from learner.demonstrations.make import make_demonstrations, to_episode
from learner.worker import Item
from rollout.worker import Played
from tests.support.chat import chat_tokens
from tests.support.model_folders import make_folder
from verifier.config import VerifierConfig

LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
MIXTURE = (
    "env={name: mixture, parts: {cards: {weight: 2, env: {name: general_points, max_attempts: 3}}, "
    "streets: {env: {name: route_navigation, city: {num_routes: 60}}}}}"
)


def item(part: str, *, length: int = 10, is_demonstration: bool = False) -> Item:
    return Item(episode=None, num_tokens=length, group=0, part=part, is_demonstration=is_demonstration)


def test_demonstrations_of_one_environment_stay_in_their_order() -> None:
    order = Random(1).sample(range(50), 50)
    assert spread(order, [""] * 50) == order


def test_any_run_of_demonstrations_has_each_part_s_share() -> None:
    parts = ["cards"] * 300 + ["streets"] * 100
    order = spread(Random(1).sample(range(400), 400), parts)
    assert sorted(order) == list(range(400))
    for first in range(400 - 64):
        counts = Counter(parts[index] for index in order[first : first + 64])
        assert abs(counts["streets"] - 16) <= 1


def test_each_optimizer_step_learns_from_all_parts() -> None:
    items = [item("streets" if number % 4 == 0 else "cards") for number in range(64)]
    config = LearnerConfig(num_ranks=2, minibatches=4)
    for step in range(4):
        dealt = [each for rank in deal(items, config) for each in rank[step]]
        assert Counter(each.part for each in dealt) == {"cards": 12, "streets": 4}


def test_rows_tell_each_part_apart() -> None:
    config = load_config([], [MIXTURE])
    env, chat = make_environment(config.env, config.verifier), chat_tokens()
    made = [to_episode(each, chat) for each in make_demonstrations(env, DemonstrationConfig(count=3))]
    assert [episode.part for episode in made] == ["cards", "cards", "streets"]
    played = [(Played.of(episode, chat), None) for episode in made]
    items = [*items_of(played), item("cards", is_demonstration=True)]
    row = parts_row(played, items)
    assert {name: row[f"train/cards/{name}"] for name in ("episodes", "success", "learned_from", "demonstrations")} == {
        "episodes": 2,
        "success": 1.0,
        "learned_from": 2,
        "demonstrations": 1,
    }
    assert row["train/streets/turns"] == len(made[2].turns) > 1
    assert parts_row([], [item("")]) == {}
    measured = evaluate_episodes(made, env=(config.env, config.verifier))
    assert measured["success"] == 1.0 and measured["num_clusters"] == 3
    assert measured["per_step_accuracy/forward"] == 1.0, "of the part that has such a thing"


def test_answers_of_each_part_are_judged_by_its_own_rule_of_training() -> None:
    """Right numbers under the shifted rule of cards are wrong under the old one; sums have no rule."""
    cards = "env={name: mixture, parts: {cards: {env: {name: general_points}}, sums: {env: {name: add_up}}}}"
    rule = "env.parts.cards.env.face_cards"
    shifted, trained = (load_config([], [cards, f"{rule}={name}"]).env for name in ("eleven_twelve_thirteen", "ten"))
    env, chat = make_environment(shifted, VerifierConfig()), chat_tokens()
    assert isinstance(env, Mixture)
    judge = TrainingRule(Asked(env), make_environment(trained, VerifierConfig()))
    made = [to_episode(each, chat) for each in make_demonstrations(env, DemonstrationConfig(count=40))]
    told = {part: [judge.is_right(each, each.turns[0]) for each in made if each.part == part] for part in env.parts}
    assert set(told["sums"]) == {None}
    assert set(told["cards"]) == {None, False}, "hands without a face card are the same under both"


def test_a_plan_looks_at_every_part() -> None:
    env = load_config([], [MIXTURE]).env
    streets = load_config([], ["env.name=route_navigation"]).env
    assert contexts_at_most(env) == contexts_at_most(streets) > 30
    assert attempts_at_most(env) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.parts.cards.env.modality=pictures", "llama cannot see, and env.parts.cards.env.modality=pictures"),
        (
            "env.parts.cards={env: {name: general_points, modality: pictures}, verifier: {preset: paper}}",
            "env.parts.cards.env.name=general_points: the expert's own answers do not solve",
        ),
        ("env.parts.cards.verifier.rewards={corect: 1}", "env.parts.cards.verifier.rewards.corect=1.0: no outcome"),
        (
            "env.parts.streets.env={dataset: no/where, city: null}",
            "env.parts.streets.env.dataset=no/where: there is no route_infos",
        ),
        ("data.kind=search_trace", "data.kind=search_trace: route_navigation has no hand to search"),
        (
            "evaluation.suites.in_distribution.env.parts.cards.env.test_fraction=0",
            "evaluation.suites.in_distribution.env.parts.cards.env.name=general_points: the first task of its test",
        ),
        ("env.parts.streets.env.route_order=sequential", "env.parts.streets.env.route_order=sequential: a part of a"),
    ],
)
def test_what_is_wrong_with_a_part_is_found_before_anything_starts(
    tmp_path_factory: pytest.TempPathFactory, override: str, message: str
) -> None:
    model = make_folder(tmp_path_factory.mktemp("models") / "nano")
    config = load_config([], [MIXTURE, f"learner.model={model}", override])
    command = "sft" if override.startswith("data") else "rl"
    assert message in "\n".join(map(str, make_plan(config, command, LAPTOP).findings))


def test_rewards_of_the_run_are_told_to_belong_to_a_part() -> None:
    config = load_config([], [MIXTURE])
    with pytest.raises(ValueError, match=r"env\.parts\.cards\.verifier\.rewards"):
        make_environment(config.env, VerifierConfig(rewards={"correct": 3}))
