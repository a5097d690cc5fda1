"""Which rule a policy follows, how sure that is, and whether two policies differ: against tables worked out by hand."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.measuring.asked import Asked
from cluster.measuring.intervals import Share, interval, mcnemar, paired_difference, pass_at_k
from cluster.measuring.measures import Rules, compare_policies, evaluate_episodes
from envs.catalog import find_environment, make_environment
from envs.protocol import Question
from rollout.episode import Episode, EpisodeEnd
from rollout.scores import Rate
from tests.support.episodes import episode, right, turn, wrong
from tests.support.oracle import expected_outcome
from verifier.config import VerifierConfig
from verifier.hand import Hand
from verifier.solver import some_solutions

CITY = {"style": "garden", "num_routes": 6, "num_turns": (1, 2)}
GIVEN_UP = EpisodeEnd.OUT_OF_ATTEMPTS


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RULESHIFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def rules(name: str, **options: Any) -> Rules:
    return find_environment(name).Config(name=name, **options), VerifierConfig()


def cards(**options: Any) -> Rules:
    shift = {"face_cards": "eleven_twelve_thirteen", "training_face_cards": "ten", "at_least_one_face_card": True}
    return rules("general_points", **{**shift, "max_attempts": 2, **options})


def routes(**options: Any) -> Rules:
    return rules("route_navigation", **{"city": CITY, "splits": "none", "actions": "relative", **options})


def played(asked: Rules, seeds: Sequence[int], answer: Callable[[Question], str]) -> list[Episode]:
    """Episodes in which every question is answered so."""
    env = make_environment(*asked)
    episodes = []
    for seed in seeds:
        opened = env.open(seed, "test")
        question: Question | None = opened.first_question()
        turns = []
        while question is not None:
            text = answer(question)
            verdict = env.verifier.judge(text, question.reference)
            given_answer = replace(turn(verdict.outcome), verdict=verdict, answer=text, question_text=question.text)
            turns.append(replace(given_answer, step=question.step, attempt=question.attempt))
            question = opened.next_question(text, verdict)
        end = EpisodeEnd.SOLVED if opened.solved else GIVEN_UP
        episodes.append(replace(episode(*turns, end=end, env=env.config.name, seed=seed), split="test"))
    return episodes


def formula(text: str) -> str:
    return json.dumps({"formula": f"{text}=24"})


def by_the_old_rule(question: Question) -> str:
    """A hand's solution as if J, Q and K counted 10, where there is one; else a formula that is always wrong."""
    hand: Hand = question.reference
    numbers = tuple({"J": 10, "Q": 10, "K": 10, "A": 1}.get(label) or int(label) for label in hand.labels)
    found = some_solutions(numbers, 24)
    return formula(found[0] if found else "1+1")


def fixated_by_hand(episodes: Sequence[Episode], asked: Rules) -> Rate:
    """Answers right by the old rule, of those that are wrong, by Python's own arithmetic."""
    verdicts = []
    for one in episodes:
        hand = make_environment(*asked).open(one.seed, "test").first_question().reference
        numbers = tuple({"J": 10, "Q": 10, "K": 10, "A": 1}.get(label) or int(label) for label in hand.labels)
        for said in one.turns:
            text = json.loads(said.answer)["formula"].removesuffix("=24")
            if expected_outcome(text, hand.numbers, 24) != "correct":
                verdicts.append(expected_outcome(text, numbers, 24) == "correct")
    return Rate(sum(verdicts), len(verdicts))


def test_fixation_on_cards_is_what_is_counted_by_hand() -> None:
    episodes = played(cards(), range(25), by_the_old_rule)
    expected = fixated_by_hand(episodes, cards())
    assert 0 < expected.successes < expected.n
    told = evaluate_episodes(episodes)
    assert (told["rule_fixation"], told["rule_fixation_n"]) == (expected.value, expected.n)
    judged = evaluate_episodes(episodes, env=cards(), fixation_env=cards(face_cards="ten", training_face_cards=None))
    assert {name: value for name, value in judged.items() if name.startswith("rule_fixation")}.keys() > {
        "rule_fixation"
    }
    assert (judged["rule_fixation"], judged["rule_fixation_n"]) == (expected.value, expected.n)


def test_fixation_needs_no_environment_that_names_the_old_rule() -> None:
    """The same seed is another hand under the old rule, so it is the cards that are judged again, not the seed."""
    asked, trained = cards(training_face_cards=None, splits="none"), cards(face_cards="ten", training_face_cards=None)
    episodes = played(asked, range(25), by_the_old_rule)
    assert "rule_fixation" not in evaluate_episodes(episodes)
    row = evaluate_episodes(episodes, env=asked, fixation_env=trained)
    assert row["rule_fixation"] == fixated_by_hand(episodes, asked).value


def test_hands_that_both_rules_count_alike_say_nothing_of_fixation() -> None:
    asked = cards(at_least_one_face_card=False, training_face_cards=None, splits="none")
    episodes = played(asked, range(40), lambda question: formula("1+1"))
    hands = [make_environment(*asked).open(one.seed, "test").first_question().reference for one in episodes]
    shifted = [hand for hand in hands if set(hand.labels) & set("JQK")]
    row = evaluate_episodes(episodes, env=asked, fixation_env=rules("general_points"))
    assert 0 < len(shifted) < 40
    assert (row["rule_fixation"], row["rule_fixation_n"]) == (0.0, 2 * len(shifted))


def test_another_target_is_a_shift_too() -> None:
    asked = rules("general_points", target=10, splits="none", max_attempts=1)

    def for_24(question: Question) -> str:
        return formula((some_solutions(question.reference.numbers, 24) or ("1+1",))[0])

    row = evaluate_episodes(
        played(asked, range(15), for_24), env=asked, fixation_env=rules("general_points", target=24)
    )
    assert 0.5 < row["rule_fixation"] <= 1


def test_compass_words_under_the_relative_rule_are_fixation_and_straight_on_is_not() -> None:
    env = make_environment(*routes(actions="absolute"))

    def by_compass(question: Question) -> str:
        """The right action in the words of training, found by the place's reference under the other rule."""
        action = question.reference.training_action or question.reference.action
        return json.dumps({"action": action})

    asked = routes(training_actions="absolute", teacher_forced=True)
    episodes = played(asked, range(6), by_compass)
    turns = sum(said.verdict.outcome != "correct" for one in episodes for said in one.turns)
    told = evaluate_episodes(episodes)
    judged = evaluate_episodes(episodes, env=asked, fixation_env=(env.config, VerifierConfig()))
    for row in (told, judged):
        assert (row["rule_fixation"], row["rule_fixation_n"]) == (1.0, turns)
    assert judged["per_step_accuracy/forward"] == judged["per_step_accuracy/stop"] == 1.0
    assert judged["per_step_accuracy/turn_direction"] == 0.0
    assert judged["per_step_accuracy/turn_direction_n"] == turns


def test_accuracy_by_kind_of_action_counts_retries_as_the_whole_does() -> None:
    """One who only ever goes forward is asked about the first turn, twice, and no further."""
    asked = routes(max_attempts=2)
    row = evaluate_episodes(played(asked, range(4), lambda question: '{"action": "forward()"}'), env=asked)
    assert (row["per_step_accuracy/turn_direction"], row["per_step_accuracy/turn_direction_n"]) == (0.0, 8)
    assert "per_step_accuracy/forward" not in row
    assert row["per_step_accuracy_n"] == 8


@pytest.mark.parametrize("preset", ["corrected", "paper"])
def test_teacher_forcing_counts_every_step_of_one_who_is_always_wrong_by_kind_of_action(preset: str) -> None:
    forced, free = routes(teacher_forced=True, preset=preset), routes(preset=preset)
    steps = [turn for one in played(free, range(6), lambda question: question.expert_answer) for turn in one.turns]
    expected = Counter(json.loads(said.answer)["action"].partition("(")[0] for said in steps)
    assert expected.keys() == {"forward", "turn_direction", "stop"}
    row = evaluate_episodes(played(forced, range(6), lambda question: '{"action": "dance()"}'), env=forced)
    by_action = {action: row[f"per_step_accuracy/{action}_n"] for action in expected}
    assert by_action == expected
    assert all(row[f"per_step_accuracy/{action}"] == 0 for action in expected)
    assert (row["per_step_accuracy"], row["per_step_accuracy_n"]) == (0.0, len(steps))
    assert row["success"] == 0
    stopped = evaluate_episodes(played(free, range(6), lambda question: '{"action": "dance()"}'), env=free)
    assert stopped["per_step_accuracy_n"] < len(steps)
    assert "per_step_accuracy/stop" not in stopped


def test_one_who_is_always_right_scores_the_same_forced_or_free() -> None:
    forced, free = (
        evaluate_episodes(played(asked, range(6), lambda question: question.expert_answer), env=asked)
        for asked in (routes(teacher_forced=True), routes())
    )
    assert forced == free
    assert forced["success"] == forced["per_step_accuracy/turn_direction"] == 1


def test_a_training_target_said_again_is_regurgitated_and_so_is_its_formula() -> None:
    targets = ['{"cards": ["K", "2"], "formula": "(7-5)*10+4=24"}', '{"formula": "6*4=24"}']
    answers = [targets[0], ' {"formula": "6*4=24"}\n', '{"cards": ["J"], "formula": "(7-5) * 10+4=24"}', "hm", "6*4"]
    said = [replace(wrong(attempt=number), answer=answer) for number, answer in enumerate(answers, start=1)]
    unread = replace(wrong("attempts_exceeded", attempt=6), answer=targets[0])
    row = evaluate_episodes([episode(*said, unread, end=GIVEN_UP)], training_targets=targets)
    assert (row["regurgitated"], row["regurgitated_n"]) == (2 / 5, 5)
    assert (row["regurgitated_formula"], row["regurgitated_formula_n"]) == (3 / 5, 5)
    without = evaluate_episodes([episode(*said, end=GIVEN_UP)], training_targets=["yes"])
    assert without["regurgitated"] == 0 and "regurgitated_formula" not in without


def test_pass_at_k_is_the_mean_over_tasks_that_were_played_often_enough() -> None:
    """Of four plays, 1, 0 and 4 are right; a fourth task has one play left, since the others failed."""
    plays = [
        episode(right() if sample < solved else wrong(), seed=seed, sample=sample, end=end)
        for seed, solved in enumerate((1, 0, 4))
        for sample in range(4)
        for end in [EpisodeEnd.SOLVED if sample < solved else GIVEN_UP]
    ]
    plays += [episode(right(), seed=3)]
    plays += [episode(seed=3, sample=sample, end=EpisodeEnd.FAILED) for sample in (1, 2, 3)]
    row = evaluate_episodes(plays, pass_at=(1, 2, 4))
    assert row["pass@1"] == pytest.approx((0.25 + 0 + 1 + 1) / 4)
    assert (row["pass@2"], row["pass@2_n"]) == (pytest.approx((0.5 + 0 + 1) / 3), 3)
    assert row["pass@4"] == pytest.approx((1 + 0 + 1) / 3)
    assert row["num_failed"] == 3 and row["success_n"] == 13


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n), st.integers(0, n))))
def test_pass_at_k_is_the_share_of_all_choices_that_hold_a_right_one(counts: tuple[int, int, int]) -> None:
    k, samples, right_ones = counts
    choices = [any(index < right_ones for index in chosen) for chosen in combinations(range(samples), k)]
    assert pass_at_k(k, samples, right_ones) == pytest.approx(sum(choices) / len(choices))


@pytest.mark.parametrize(("k", "samples", "solved"), [(0, 4, 1), (5, 4, 1), (1, 4, 5), (1, 4, -1)])
def test_impossible_samples_are_refused(k: int, samples: int, solved: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        pass_at_k(k, samples, solved)


def test_scores_stand_in_the_row_under_the_name_of_success_with_intervals_by_cluster() -> None:
    checks = {"readable": True, "numbers_read": False}
    episodes = [
        episode(right(checks=checks), seed=1),
        episode(wrong(checks=checks), right(attempt=2, checks=checks), seed=2),
        episode(wrong(checks=checks), wrong(attempt=2, checks=checks), seed=3, end=GIVEN_UP),
    ]
    row = evaluate_episodes(episodes)
    assert (row["success"], row["success_n"], row["num_clusters"]) == (2 / 3, 3, 3)
    assert (row["success_low"], row["success_high"]) == interval([Share(1, 1), Share(1, 1), Share(0, 1)])
    assert row["first_try_success"] == row["success_by_attempt/1"] == 1 / 3
    assert (row["success_by_attempt/2"], row["step_success"]) == (1 / 2, 2 / 3)
    assert (row["checks/numbers_read"], row["checks/numbers_read_n"]) == (0.0, 5)
    assert row["checks_at_first_attempt/numbers_read_n"] == 3
    assert not any(name.startswith(("solved", "step_solved")) for name in row)
    assert row["ends/solved"] == 2
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_hands_with_the_same_numbers_are_one_problem() -> None:
    asked = rules("general_points", draw="with_replacement", num_cards=3, max_attempts=1)
    episodes = played(asked, range(60), lambda question: question.expert_answer)
    env = make_environment(*asked)
    distinct = {tuple(sorted(env.open(seed, "test").first_question().reference.numbers)) for seed in range(60)}
    row = evaluate_episodes(episodes, env=asked)
    assert row["num_clusters"] == len(distinct) < 60
    assert row["success_low"] < evaluate_episodes(episodes)["success_low"] < 1


def test_walks_along_one_route_are_one_problem_and_other_environments_have_tasks() -> None:
    asked = routes(route_order="sequential")
    episodes = played(asked, range(12), lambda question: question.expert_answer)
    assert evaluate_episodes(episodes, env=asked)["num_clusters"] == 6
    sums = rules("add_up")
    assert evaluate_episodes(played(sums, range(5), lambda question: "?"), env=sums)["num_clusters"] == 5
    assert evaluate_episodes(episodes, cluster_of=lambda one: one.seed % 2)["num_clusters"] == 2


def test_failed_episodes_are_counted_and_measured_nowhere_else() -> None:
    whole = [episode(right(), seed=1), episode(wrong(), seed=2, end=GIVEN_UP)]
    broken = episode(wrong("unreadable"), seed=3, end=EpisodeEnd.FAILED)
    row, without = evaluate_episodes([*whole, broken]), evaluate_episodes(whole)
    assert {name for name in row if row[name] != without[name]} == {"num_episodes", "num_failed", "ends/failed"}
    assert evaluate_episodes([broken])["success_n"] == evaluate_episodes([])["num_clusters"] == 0


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda episodes: evaluate_episodes(episodes, fixation_env=cards()), "fixation_env needs env"),
        (lambda episodes: evaluate_episodes(episodes, env=cards(target=20)), "played under other options"),
        (lambda episodes: evaluate_episodes(episodes, env=rules("countdown")), "not asked by countdown"),
        (
            lambda episodes: evaluate_episodes(episodes, env=cards(), fixation_env=rules("countdown")),
            "countdown has no rule for the questions of general_points",
        ),
    ],
)
def test_environments_that_do_not_fit_the_episodes_are_refused(
    measure: Callable[[list[Episode]], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(played(cards(), range(3), by_the_old_rule))


def test_environments_without_a_rule_to_shift_are_refused() -> None:
    for name, message in (("countdown", "no rule of what cards count"), ("add_up", "no training rule to judge by")):
        asked = rules(name, max_attempts=1)
        episodes = played(asked, range(2), lambda question: "?")
        with pytest.raises(ValueError, match=message):
            evaluate_episodes(episodes, env=asked, fixation_env=asked)


def test_a_training_rule_that_moves_the_places_is_refused() -> None:
    asked = routes(teacher_forced=True)
    episodes = played(asked, range(6), lambda question: '{"action": "?"}')
    with pytest.raises(ValueError, match="another place"):
        evaluate_episodes(episodes, env=asked, fixation_env=routes(actions="absolute", drop_probability=0.9))


def test_questions_are_opened_once_however_many_answers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_environment(*cards())
    opened: list[int] = []
    real = type(env).open
    monkeypatch.setattr(type(env), "open", lambda self, seed, split: opened.append(seed) or real(self, seed, split))
    episodes = played(cards(), [4], by_the_old_rule)
    opened.clear()
    asked = Asked(env)
    for _ in range(3):
        for said in episodes[0].turns:
            asked.of(episodes[0], said)
    assert opened == [4]


def test_telling_which_tasks_are_alike_draws_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = routes(modality="pictures", image_size=64)
    env: Any = make_environment(*asked)
    drawn: list[Any] = []
    real = type(env).picture
    monkeypatch.setattr(type(env), "picture", lambda self, place: drawn.append(place) or real(self, place))
    [walked] = played(asked, [1], lambda question: question.expert_answer)
    assert Asked(env).of(walked, walked.turns[-1])
    assert not drawn
    question = env.open(1, "test").first_question()
    assert len(question.images) == 1
    assert not drawn
    assert question.images[0] is question.images[0]
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("shares", "low", "high"),
    [
        # Of six, three are right; the variance 3/2 x (1 + 1 + 0) / 36 is that of three independent ones; Student's
        # quantile at two degrees of freedom is 4.303.
        ([Share(2, 2), Share(0, 2), Share(1, 2)], 0.0362, 0.9638),
        # None is right, so two clusters of five are two: q²/(2 + q²), with 12.706 for one degree of freedom.
        ([Share(0, 5), Share(0, 5)], 0.0, 0.988),
        # One cluster is one, whatever it holds: 3.8415 / 4.8415.
        ([Share(0, 9)], 0.0, 0.7935),
        ([Share(9, 9)], 0.2065, 1.0),
        ([], 0.0, 1.0),
        ([Share(0, 0)], 0.0, 1.0),
    ],
)
def test_intervals_by_cluster_are_the_ones_worked_out_by_hand(shares: list[Share], low: float, high: float) -> None:
    assert interval(shares) == pytest.approx((low, high), abs=4e-3)


def test_many_independent_units_have_wilsons_interval() -> None:
    independent = [Share(1, 1)] * 300 + [Share(0, 1)] * 700
    assert interval(independent) == pytest.approx(Rate(300, 1000).interval(), abs=2e-4)


shares = st.lists(
    st.integers(1, 6).flatmap(lambda n: st.builds(Share, st.integers(0, n), st.just(n))), min_size=1, max_size=12
)


@settings(max_examples=40)
@given(shares, st.floats(0.5, 0.99))
def test_an_interval_holds_its_rate_within_the_possible(parts: list[Share], confidence: float) -> None:
    low, high = interval(parts, confidence)
    assert 0 <= low <= sum(part.successes for part in parts) / sum(part.n for part in parts) <= high <= 1


@settings(max_examples=40)
@given(st.lists(st.integers(0, 1), min_size=2, max_size=30), st.integers(2, 5))
def test_saying_the_same_again_makes_nothing_surer(outcomes: list[int], times: int) -> None:
    once, again = ([Share(times_said * one, times_said) for one in outcomes] for times_said in (1, times))
    assert interval(again) == pytest.approx(interval(once))


def test_nineteen_of_twenty_intervals_by_cluster_hold_the_truth_and_wilsons_do_not() -> None:
    """Forty problems of six hands each; how hard a problem is decides most."""
    generator = np.random.default_rng(1)
    held = held_by_wilson = 0
    for _ in range(400):
        right_ones = generator.binomial(6, generator.beta(0.6, 1.4, size=40))
        low, high = interval([Share(int(count), 6) for count in right_ones])
        held += low <= 0.3 <= high
        low, high = Rate(int(right_ones.sum()), 240).interval()
        held_by_wilson += low <= 0.3 <= high
    assert held / 400 > 0.92
    assert held_by_wilson / 400 < 0.80


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_impossible_shares_and_confidences_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        interval([Share(successes, n)])
    with pytest.raises(ValueError, match="both excluded"):
        interval([Share(1, 2)], confidence=1.0)


@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    # 2 x (1 + 12 + 66) / 4096; and an even split is no evidence.
    [(10, 2, 158 / 4096), (2, 10, 158 / 4096), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 2 / 64)],
)
def test_mcnemars_test_is_the_one_worked_out_by_hand(first: int, second: int, p_value: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p_value)
    with pytest.raises(ValueError, match="cannot be less than 0"):
        mcnemar(-1, second)


def policy(*solved: bool, sample: int = 0) -> list[Episode]:
    return [
        episode(right() if one else wrong(), seed=seed, sample=sample, end=EpisodeEnd.SOLVED if one else GIVEN_UP)
        for seed, one in enumerate(solved)
    ]


def test_policies_are_compared_task_by_task() -> None:
    found = compare_policies(policy(True, True, True, False), policy(False, False, True, False))
    assert (found.value, found.n, found.num_clusters) == (0.5, 4, 4)
    assert (found.only_first, found.only_second, found.mcnemar_p) == (2, 0, 0.5)
    assert found.p_value == pytest.approx(0.5, abs=0.02)
    assert (found.low, found.high) == (0.0, 1.0)
    back = compare_policies(policy(False, False, True, False), policy(True, True, True, False))
    assert (back.value, back.only_first, back.only_second) == (-0.5, 0, 2)


def test_a_difference_in_one_cluster_is_one_difference() -> None:
    """Forty hands of two problems: by hands it is beyond doubt, by problems it is nothing."""
    first, second = policy(*[True] * 40), policy(*[False] * 40)
    by_task = compare_policies(first, second)
    by_cluster = compare_policies(first, second, cluster_of=lambda one: one.seed % 2)
    assert by_task.p_value < 0.001 and by_task.mcnemar_p is not None and by_task.mcnemar_p < 1e-10
    assert by_cluster.num_clusters == 2 and by_cluster.p_value == pytest.approx(0.5, abs=0.02)


def test_equal_policies_do_not_differ() -> None:
    found = compare_policies(policy(True, False, True), policy(True, False, True))
    assert (found.value, found.low, found.high, found.p_value, found.mcnemar_p) == (0.0, 0.0, 0.0, 1.0, 1.0)


def test_several_plays_of_a_task_are_averaged_and_failed_ones_left_out() -> None:
    first = [*policy(True, True), *policy(False, True, sample=1)]
    second = [*policy(False, True), *policy(False, True, sample=1)]
    broken = episode(seed=2, end=EpisodeEnd.FAILED)
    found = compare_policies([*first, broken], [*second, *policy(True, True, True)[2:]])
    assert (found.value, found.n, found.mcnemar_p) == (0.25, 2, None)


def test_policies_that_met_other_tasks_are_not_compared() -> None:
    with pytest.raises(ValueError, match="met different tasks"):
        compare_policies(policy(True, True), policy(True))
    with pytest.raises(ValueError, match="no task"):
        paired_difference({}, {})


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_equals_are_told_apart_no_oftener_than_the_test_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    tasks = range(60)
    first = {task: [bool(generator.random() < 0.5)] for task in tasks}
    second = {task: [bool(generator.random() < 0.5)] for task in tasks}
    found = paired_difference(first, second)
    assert 1e-4 <= found.p_value <= 1
    assert found.low <= found.value <= found.high
    assert math.isclose(found.value, -paired_difference(second, first).value, abs_tol=1e-12)
