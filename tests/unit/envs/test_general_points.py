"""GeneralPoints and Countdown: hands, rules, splits, looks, demonstrations and mistakes."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from envs._cards.pictures import CardLook
from envs.countdown import Config as CountdownConfig
from envs.countdown import Environment as Countdown
from envs.general_points import Config, Environment
from envs.protocol import SPLITS, Question, Split
from tests.support.oracle import value_by_python
from verifier.config import Preset, VerifierConfig
from verifier.hand import Hand
from verifier.solver import is_solvable

SMALL = CardLook(size=112)


def environment(**options: object) -> Environment:
    return Environment(Config.model_validate({"name": "general_points", **options}), VerifierConfig())


def questions(env: Environment | Countdown, num: int = 60, split: Split = "train") -> Iterable[Question]:
    return (env.open(seed, split).first_question() for seed in range(num))


def hands(env: Environment | Countdown, num: int = 60, split: Split = "train") -> list[Hand]:
    return [question.reference for question in questions(env, num, split)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"face_cards": "eleven_twelve_thirteen"},
        {"face_cards": {"J": 5, "Q": 2, "K": 9}},
        {"target": 30},
        {"draw": "with_replacement"},
        {"num_cards": 3},
        {"num_cards": 5},
        {"num_cards": 6},
    ],
)
def test_every_hand_can_be_solved_under_its_rule(options: dict[str, object]) -> None:
    env = environment(**options)
    for hand in hands(env, 30):
        assert len(hand.numbers) == env.config.num_cards
        assert is_solvable(hand.numbers, env.config.target)


def test_the_rule_decides_what_face_cards_count_and_the_question_says_so() -> None:
    for rule, numbers, sentence in (
        ("ten", {"J": 10, "Q": 10, "K": 10, "A": 1}, "J, Q and K each count 10"),
        ("eleven_twelve_thirteen", {"J": 11, "Q": 12, "K": 13, "A": 1}, "J counts 11, Q counts 12 and K counts 13"),
        ({"J": 7, "Q": 8, "K": 1}, {"J": 7, "Q": 8, "K": 1, "A": 1}, "J counts 7, Q counts 8 and K counts 1"),
    ):
        for question in questions(environment(face_cards=rule)):
            assert sentence in question.text
            for label, number in zip(question.reference.labels, question.reference.numbers, strict=True):
                assert number == numbers.get(label, 0) or number == int(label)


@pytest.mark.parametrize("rule", ["ten", "eleven_twelve_thirteen"])
def test_no_hand_of_one_split_is_ever_drawn_in_another_under_any_rule(rule: str) -> None:
    """Splits follow the numbers under the training rule, so K-5-7-4 and 10-5-7-4 go together."""
    train = environment()
    shifted = environment(face_cards=rule, training_face_cards="ten")
    seen = {split: {_trained(hand) for hand in hands(train, 400, split)} for split in SPLITS}
    tested = {_trained(hand) for hand in hands(shifted, 400, "test")}
    assert all(len(keys) > 25 for keys in seen.values())
    assert not seen["train"] & (seen["validation"] | seen["test"] | tested)
    assert not seen["validation"] & (seen["test"] | tested)


def _trained(hand: Hand) -> tuple[int, ...]:
    """The multiset of the hand's numbers where face cards count 10, worked out from the labels."""
    return tuple(sorted({"A": 1, "J": 10, "Q": 10, "K": 10}.get(label) or int(label) for label in hand.labels))


def test_a_multiset_held_out_here_is_held_out_in_countdown_too() -> None:
    trained = {tuple(sorted(hand.numbers)) for hand in hands(environment(), 400)}
    countdown = Countdown(CountdownConfig(name="countdown", largest_number=10), VerifierConfig())
    assert not trained & {tuple(sorted(hand.numbers)) for hand in hands(countdown, 400, "test")}


def test_without_splits_every_split_draws_from_all_hands() -> None:
    env = environment(splits="none", draw="with_replacement")
    train = {_trained(hand) for hand in hands(env, 600)}
    test = {_trained(hand) for hand in hands(env, 600, "test")}
    assert train & test


def test_split_shares_are_the_configured_ones() -> None:
    config = Config(name="general_points", validation_fraction=0.3, test_fraction=0.5)
    tasks = [f"hand {number}" for number in range(4_000)]
    shares = {split: sum(config.admits(task, split) for task in tasks) / len(tasks) for split in SPLITS}
    assert shares == pytest.approx({"train": 0.2, "validation": 0.3, "test": 0.5}, abs=0.03)


def test_hands_can_be_required_to_hold_a_face_card_or_to_feel_the_shift() -> None:
    assert all(set(hand.labels) & set("JQK") for hand in hands(environment(at_least_one_face_card=True)))
    sensitive = environment(
        face_cards={"J": 10, "Q": 10, "K": 13}, training_face_cards="ten", rule_changes_numbers=True
    )
    assert all("K" in hand.labels for hand in hands(sensitive))


def test_a_deck_gives_no_card_twice_and_drawing_with_replacement_does() -> None:
    two_suits = hands(environment(suits="black"), 300)
    assert max(hand.labels.count(label) for hand in two_suits for label in hand.labels) == 2
    replaced = hands(environment(suits="black", draw="with_replacement"), 600)
    assert max(hand.labels.count(label) for hand in replaced for label in hand.labels) > 2


def test_look_and_wording_leave_the_hand_as_it_is() -> None:
    plain = hands(environment(modality="pictures"), 10)
    changed = hands(environment(modality="pictures", suits="red", wording="diverse", look={"font": "serif"}), 10)
    assert plain == changed
    assert [hand.labels for hand in plain] == [hand.labels for hand in hands(environment(), 10)]


def test_red_hands_look_different_and_hold_red_ink() -> None:
    black, red = (
        environment(modality="pictures", suits=suits, look={"size": 112}).open(3, "train").first_question().images[0]
        for suits in ("black", "red")
    )
    assert black.tobytes() != red.tobytes()
    assert black.size == red.size == (112, 112)
    assert _num_red(red) > 50 > _num_red(black)


def _num_red(image: object) -> int:
    pixels = image.convert("RGB").get_flattened_data()  # pyright: ignore[reportAttributeAccessIssue]
    return sum(r > 150 and g < 90 and b < 90 for r, g, b in pixels)


def test_a_picture_question_shows_the_cards_and_does_not_name_them() -> None:
    env = environment(modality="pictures", look={"size": 112})
    for question in questions(env, 8):
        assert len(question.images) == 1
        assert str(list(question.reference.labels)) not in question.text.replace('"', "'")
        episode_text = env.open(0, "train").next_question("", env.verifier.judge("", question.reference))
        assert episode_text is not None and not episode_text.images


def test_diverse_wording_says_the_same_in_several_ways() -> None:
    fixed = {re.sub(r"\[.*?\]", "", question.text) for question in questions(environment(), 40)}
    diverse = {re.sub(r"\[.*?\]", "", question.text) for question in questions(environment(wording="diverse"), 40)}
    assert len(fixed) == 1
    assert len(diverse) >= 8
    assert all("24" in text and '"formula"' in text and "count" in text for text in diverse)


def test_the_answer_format_in_the_question_is_json() -> None:
    for options in ({}, {"thinking": True}, {"modality": "pictures", "asks": "cards", "look": {"size": 112}}):
        text = environment(**options).open(0, "train").first_question().text
        assert json.loads(text[text.rindex("\n{") :])


def test_demonstrations_are_json_in_the_asked_order_and_the_shortest_solution() -> None:
    for question in questions(environment(thinking=True)):
        document = json.loads(question.expert_answer)
        assert list(document) == ["thinking", "cards", "number", "formula"]
        assert tuple(document["cards"]) == question.reference.labels
        assert tuple(document["number"]) == question.reference.numbers
        assert document["formula"].endswith("=24")
    shortest = [len(question.expert_answer) for question in questions(environment())]
    others = [len(question.expert_answer) for question in questions(environment(demonstration="any"))]
    assert sum(shortest) < sum(others)


def test_every_sentence_of_a_thought_is_true() -> None:
    num_dead_ends = 0
    for question in questions(environment(thinking=True), 150):
        thought = json.loads(question.expert_answer)["thinking"]
        for formula, value, said in re.findall(r"Try (\S+) = (\S+), (yes|no)\.", thought):
            assert value_by_python(formula.split("=")[0]) == value_by_python(value)
            assert (said == "yes") == (value == "24")
        for left, value, rest in re.findall(r"Start with (\S+) = (\d+): ([\d, ]+) cannot make 24", thought):
            num_dead_ends += 1
            assert value_by_python(left) == int(value)
            assert not is_solvable([int(number) for number in rest.split(", ")], 24)
        assert thought.count("yes.") == 1
    assert num_dead_ends > 10


def test_mistakes_come_in_several_kinds_and_none_is_correct() -> None:
    env = environment(face_cards="eleven_twelve_thirteen", training_face_cards="ten", at_least_one_face_card=True)
    generator, outcomes = Random(0), set()
    for seed in range(120):
        episode = env.open(seed, "train")
        verdict = env.verifier.judge(episode.mistake(generator), episode.first_question().reference)
        outcomes.add((verdict.outcome, verdict.checks["right_under_training_rule"]))
        assert not verdict.correct
    assert {"wrong_value", "wrong_numbers", "illegal_formula"} <= {outcome for outcome, _ in outcomes}
    assert ("wrong_numbers", True) in outcomes, "some mistakes follow the training rule"


def test_the_originals_unread_last_attempt_is_asked_for_on_request() -> None:
    env = environment(max_attempts=2, unscored_last_attempt=True)
    episode = env.open(0, "train")
    question, outcomes = episode.first_question(), []
    while question is not None:
        verdict = env.verifier.judge("nothing", question.reference)
        outcomes.append(verdict.outcome)
        question = episode.next_question("nothing", verdict)
    assert outcomes == ["unreadable", "unreadable", "attempts_exceeded"]


def test_countdown_targets_lie_in_range_and_can_be_made() -> None:
    config = CountdownConfig(name="countdown", num_numbers=5, smallest_target=20, largest_target=40)
    for hand in hands(Countdown(config, VerifierConfig()), 40):
        assert 20 <= hand.target <= 40
        assert is_solvable(hand.numbers, hand.target)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"face_cards": "eleven"}, "rules with a name"),
        ({"face_cards": {"J": 1}}, "Field required"),
        ({"asks": "cards"}, "needs modality=pictures"),
        ({"rule_changes_numbers": True}, "needs a training_face_cards"),
        ({"num_cards": 7}, "less than or equal to 6"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "something to train on"),
        ({"look": {"size": 20}}, "greater than or equal to 112"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], phrase: str) -> None:
    with pytest.raises(ValidationError, match=phrase):
        environment(**options)


def test_options_that_leave_no_hand_are_an_error_that_names_them() -> None:
    impossible = environment(num_cards=3, target=999)
    with pytest.raises(ValueError, match=r"target=999, num_cards=3.*loosen"):
        impossible.open(0, "train")


def test_splitting_by_hand_leaves_the_numbers_that_are_held_out_alone() -> None:
    """Three kinds: hands to train on, unseen hands of numbers that training meets, and unseen numbers."""
    by_hand = environment(split_by="hand", at_least_one_face_card=True)
    shifted = environment(
        split_by="hand", at_least_one_face_card=True, face_cards="eleven_twelve_thirteen", training_face_cards="ten"
    )
    trained, unseen = hands(by_hand, 600), [*hands(by_hand, 200, "test"), *hands(shifted, 200, "test")]
    unseen_numbers = {_trained(hand) for hand in hands(environment(at_least_one_face_card=True), 300, "test")}
    trained_numbers = {_trained(hand) for hand in trained}
    assert not {_cards(hand) for hand in trained} & {_cards(hand) for hand in unseen}
    assert sum(_trained(hand) in trained_numbers for hand in unseen) > 200
    assert not unseen_numbers & {*trained_numbers, *map(_trained, unseen)}


def test_plain_numbers_stand_for_face_cards_and_no_rule_changes_them() -> None:
    plain = environment(
        face_cards_as_numbers=True, face_cards="eleven_twelve_thirteen", training_face_cards="ten", target=24
    )
    seen = hands(plain, 300)
    assert {"11", "12", "13"} < {label for hand in seen for label in hand.labels}
    for hand in seen:
        assert not set(hand.labels) & set("JQK")
        assert hand.numbers == hand.training_numbers == tuple(1 if a == "A" else int(a) for a in hand.labels)
    replaced = {"11": 10, "12": 10, "13": 10}
    as_faces = {tuple(sorted(replaced.get(label) or int(label.replace("A", "1")) for label in h.labels)) for h in seen}
    assert not as_faces & {_trained(hand) for hand in hands(environment(), 300, "test")}


@pytest.mark.parametrize("option", ["at_least_one_face_card", "rule_changes_numbers"])
def test_plain_numbers_and_face_cards_do_not_go_together(option: str) -> None:
    with pytest.raises(ValidationError, match="face_cards_as_numbers deals no face card"):
        environment(face_cards_as_numbers=True, training_face_cards="eleven_twelve_thirteen", **{option: True})
    with pytest.raises(ValidationError, match="needs modality=text"):
        environment(face_cards_as_numbers=True, modality="pictures")


def _cards(hand: Hand) -> tuple[str, ...]:
    return tuple(sorted(hand.labels))


@pytest.mark.parametrize("modality", ["text", "pictures"])
@pytest.mark.parametrize("preset", ["corrected", "paper"])
@pytest.mark.parametrize("options", [{}, {"face_cards": "eleven_twelve_thirteen"}, {"target": 30}], ids=str)
def test_the_originals_form_is_read_by_both_presets_whatever_the_hand(
    modality: str, preset: Preset, options: dict[str, Any]
) -> None:
    config = Config(name="general_points", modality=modality, written="original", look=SMALL, **options)  # pyright: ignore
    env = Environment(config, VerifierConfig(preset=preset))
    all_digits = 0
    for seed in range(40):
        question = env.open(seed, "train").first_question()
        verdict = env.verifier.judge(question.expert_answer, question.reference)
        assert verdict.correct and verdict.reward == 5, question.expert_answer
        assert verdict.checks["numbers_read"] and verdict.checks["readable"]
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(question.expert_answer)
        all_digits += all(label.isdigit() for label in question.reference.labels)
    assert all_digits, "such lists are read in the fewest spellings"


def test_of_a_picture_the_paper_preset_reads_the_originals_form_and_no_json_list() -> None:
    asked = {"name": "general_points", "modality": "pictures", "look": SMALL}
    answers = {}
    for written in ("json", "original"):
        env = Environment(Config(**asked, written=written), VerifierConfig(preset="paper"))
        question = env.open(1, "train").first_question()
        answers[written] = env.verifier.judge(question.expert_answer, question.reference).outcome
        assert ("JSON" in question.text) == (written == "json")
    assert answers == {"json": "wrong_cards", "original": "correct"}


def test_mistakes_are_written_in_the_originals_form_too() -> None:
    env = Environment(Config(name="general_points", written="original"), VerifierConfig(preset="paper"))
    mistakes = [env.open(seed, "train").mistake(Random(seed)) for seed in range(20)]
    assert all(mistake.startswith('{\n"cards": [') and mistake.endswith(",\n}") for mistake in mistakes)


def drawn_face_cards(**options: Any) -> float:
    """The mean number of face cards in hands as they are drawn, before any is turned down."""
    env = Environment(Config(name="general_points", at_least_one_face_card=True, **options), VerifierConfig())
    generator = Random(0)
    hands = [env._draw_ranks(generator) for _ in range(20_000)]
    return sum(rank in "JQK" for hand in hands for rank in hand) / len(hands)


def test_a_face_card_that_must_be_is_dealt_as_the_original_dealt_it() -> None:
    """One of J, Q and K and three of all ranks, so 1 + 3 x 3/13 of them; not a hand drawn until it has one."""
    assert drawn_face_cards(draw="with_replacement") == pytest.approx(1 + 9 / 13, abs=0.02)
    assert drawn_face_cards(draw="deck") == pytest.approx(4 * 3 / 13, abs=0.02)


def test_the_forced_card_lies_anywhere_and_is_any_of_the_three() -> None:
    config = Config(name="general_points", at_least_one_face_card=True, draw="with_replacement")
    env, generator = Environment(config, VerifierConfig()), Random(1)
    alone = [hand for hand in (env._draw_ranks(generator) for _ in range(6000)) if sum(r in "JQK" for r in hand) == 1]
    places = Counter(next(place for place, rank in enumerate(hand) if rank in "JQK") for hand in alone)
    ranks = Counter(next(rank for rank in hand if rank in "JQK") for hand in alone)
    assert min(places.values()) > 0.8 * len(alone) / 4 and min(ranks.values()) > 0.8 * len(alone) / 3
