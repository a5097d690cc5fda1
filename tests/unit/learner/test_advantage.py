"""Advantages: tables worked out by hand, sums written out in full, and what must never make a difference."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.advantage import Advantages, FloatArray, Trajectories, compute_advantages
from learner.loss_config import AdvantageConfig

WITH_CRITIC = ("token", "turn", "bi_level")
WITH_GROUPS = ("grpo", "dr_grpo", "rloo")
KINDS = (*WITH_CRITIC, *WITH_GROUPS, "reinforce")
NORMALISATIONS = ("none", "std", "mean_std")


class Token(NamedTuple):
    """One sampled token."""

    reward: float
    value: float


class Played(NamedTuple):
    """An episode as a tree, unlike the flat arrays under test."""

    turns: list[list[Token]]
    after: float = 0.0
    group: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.turns))


def flat(episodes: Sequence[Played]) -> Trajectories:
    """Every other turn number is skipped, as if nothing had been sampled there."""
    rows = [
        (number, 2 * turn, token.reward, token.value)
        for number, episode in enumerate(episodes)
        for turn, tokens in enumerate(episode.turns)
        for token in tokens
    ]
    return Trajectories(
        episodes=np.array([row[0] for row in rows], np.int64),
        turns=np.array([row[1] for row in rows], np.int32),
        rewards=np.array([row[2] for row in rows], np.float64),
        values=np.array([row[3] for row in rows], np.float64),
        after=np.array([episode.after for episode in episodes], np.float64),
        groups=np.array([episode.group for episode in episodes], np.int64),
    )


def config(kind: str, normalise: str = "none", **decays: float) -> AdvantageConfig:
    aliased = {name.rstrip("_"): decay for name, decay in decays.items()}
    return AdvantageConfig.model_validate({"kind": kind, "normalise": normalise, **aliased})


def advantages_of(episodes: Sequence[Played], options: AdvantageConfig) -> FloatArray:
    return compute_advantages(flat(episodes), options).advantages


def scored(*scores: float, group: int = 0) -> list[Played]:
    """Episodes of one turn of two tokens, without a critic."""
    return [Played([[Token(0, 0), Token(score, 0)]], group=group) for score in scores]


def close(values: Any) -> Any:
    return pytest.approx(np.asarray(values, np.float64), rel=1e-9, abs=1e-9)


# The example of the module: two turns, then one, of two tokens each.
EXAMPLE = [
    Played([[Token(0, 1), Token(-1, 7)], [Token(0, 2), Token(5, 7)]]),
    Played([[Token(0, 1), Token(-1, 7)]]),
]


# Tables worked out by hand


def test_token_level() -> None:
    """γ = λ = ½, so that surprises fade by ¼. The same three tokens, cut off before a state of worth 8, and ended.

    Surprises: 0 + ½·2 − 1 = 0;  0 + ½·4 − 2 = 0;  1 + ½·8 − 4 = 1, or 1 + ½·0 − 4 = −3.
    """
    tokens = [[Token(0, 1), Token(0, 2)], [Token(1, 4)]]
    result = compute_advantages(flat([Played(tokens, 8.0), Played(tokens)]), config("token", gamma=0.5, lambda_=0.5))
    assert result.advantages == close([1 / 16, 1 / 4, 1, -3 / 16, -3 / 4, -3])
    assert result.returns == close([17 / 16, 9 / 4, 5, 13 / 16, 5 / 4, 1])
    assert result.is_value_target.all()


def test_turn_level() -> None:
    """γ = ½, λ = 1. Turns' surprises: −1 + ½·2 − 1 = −1 and 5 − 2 = 3, so −1 + ½·3 = ½ and 3;  −1 − 1 = −2."""
    result = compute_advantages(flat(EXAMPLE), config("turn", turn_gamma=0.5, turn_lambda=1.0))
    assert result.advantages == close([0.5, 0.5, 3, 3, -2, -2])
    assert result.returns == close([1.5, 0, 5, 0, -1, 0])
    assert result.is_value_target.tolist() == [True, False, True, False, True, False]


def test_turn_level_where_the_episode_was_cut_off() -> None:
    """As above, but a state of worth 4 comes behind the first episode: its last surprise is 5 + ½·4 − 2 = 5."""
    episodes = [EXAMPLE[0]._replace(after=4.0), EXAMPLE[1]]
    advantages = advantages_of(episodes, config("turn", turn_gamma=0.5, turn_lambda=1.0))
    assert advantages == close([1.5, 1.5, 5, 5, -2, -2])


def test_bi_level() -> None:
    """The turns' returns are 1.5, 5 and −1, as above; in each turn γ = 1, λ = ½.

    Last tokens: 1.5 − 7 = −5.5;  5 − 7 = −2;  −1 − 7 = −8.
    First tokens: (7 − 1) − ½·5.5 = 3.25;  (7 − 2) − ½·2 = 4;  (7 − 1) − ½·8 = 2.
    """
    options = config("bi_level", gamma=1.0, lambda_=0.5, turn_gamma=0.5, turn_lambda=1.0)
    result = compute_advantages(flat(EXAMPLE), options)
    assert result.advantages == close([3.25, -5.5, 4, -2, 2, -8])
    assert result.returns == close([4.25, 1.5, 6, 5, 3, -1])
    assert result.is_value_target.all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # 5, −1 and 2 are 3, −3 and 0 from their mean of 2; the root of (9 + 9 + 0) / 3 is √6.
        ("grpo", [3 / (6**0.5 + 1e-6), -3 / (6**0.5 + 1e-6), 0, 0]),
        ("dr_grpo", [3, -3, 0, 0]),
        # The others' means are (−1 + 2) / 2, (5 + 2) / 2 and (5 − 1) / 2.
        ("rloo", [4.5, -4.5, 0, 0]),
    ],
)
def test_against_the_group(kind: str, expected: list[float]) -> None:
    """The fourth episode is alone in its group."""
    result = compute_advantages(flat([*scored(5, -1, 2, group=7), *scored(9, group=3)]), config(kind))
    assert result.advantages == close(np.repeat(expected, 2))
    assert not result.is_value_target.any() and not result.returns.any()


def test_reinforce() -> None:
    """γ = 0.9. Earned from each turn on: −1 + 0.9·5 = 3.5, then 5; and −1. Their mean is 2.5."""
    result = compute_advantages(flat(EXAMPLE), config("reinforce", turn_gamma=0.9))
    assert result.advantages == close([1, 1, 2.5, 2.5, -3.5, -3.5])
    assert not result.is_value_target.any() and not result.returns.any()


@pytest.mark.parametrize(
    ("lambda_", "expected"),
    [
        (1.0, [3, 3, 3, 3, 3]),
        # The one surprise, 5 − 2 = 3 at the end, fades by 0.95^60 = 0.0461 from turn to turn.
        (0.95, [0.00, 0.00, 0.01, 0.14, 3.00]),
        # 0.99^60 = 0.547.
        (0.99, [0.27, 0.49, 0.90, 1.64, 3.00]),
    ],
)
def test_credit_reaches_back_over_answers_only(lambda_: float, expected: list[float]) -> None:
    """Five answers of 60 tokens, a critic that says 2, and 5 at the end: at the last token of each answer. Were the
    environment's tokens between them steps of their own, little but the last would be left."""
    turns = [[Token(0, 2)] * 60 for _ in range(4)] + [[*[Token(0, 2)] * 59, Token(5, 2)]]
    advantages = advantages_of([Played(turns)], config("token", gamma=1.0, lambda_=lambda_))
    assert advantages[59::60] == pytest.approx(expected, abs=0.005)


def test_normalisation() -> None:
    """½, ½, 3, 3, −2, −2 are 0, 0, 2½, 2½, −2½, −2½ from their mean of ½, so they deviate by √(25/6)."""
    deviation = (25 / 6) ** 0.5 + 1e-8
    plain = np.array([0.5, 0.5, 3, 3, -2, -2])
    decays = {"turn_gamma": 0.5, "turn_lambda": 1.0}
    assert advantages_of(EXAMPLE, config("turn", "std", **decays)) == close(plain / deviation)
    assert advantages_of(EXAMPLE, config("turn", "mean_std", **decays)) == close((plain - 0.5) / deviation)
    for normalise in NORMALISATIONS:
        returns = compute_advantages(flat(EXAMPLE), config("turn", normalise, **decays)).returns
        assert returns == close([1.5, 0, 5, 0, -1, 0])


def test_equal_advantages_are_not_blown_up() -> None:
    hands = [Played([[Token(0, 0), Token(-0.1, 0)]])] * 3
    assert advantages_of(hands, config("turn", "std")) == close([-0.1] * 6)
    assert advantages_of(hands, config("turn", "mean_std")) == close([0] * 6)
    # A third of 0.1 + 0.1 + 0.1 is not 0.1.
    for kind in WITH_GROUPS:
        assert not advantages_of(hands, config(kind, "std")).any()


def test_an_episode_without_a_token_enters_no_mean() -> None:
    unplayed = Played([], after=3.0)
    for kind in KINDS:
        options = config(kind, "mean_std")
        expected = advantages_of(EXAMPLE, options)
        assert advantages_of([unplayed, EXAMPLE[0], unplayed, EXAMPLE[1], unplayed], options) == close(expected)


# Sums written out in full

numbers = st.integers(-50, 50).map(lambda tenths: tenths / 10)
fractions = st.sampled_from([0.0, 0.5, 0.9, 1.0])
turns = st.lists(st.builds(Token, numbers, numbers), min_size=1, max_size=4)
played = st.builds(Played, st.lists(turns, max_size=4), numbers, st.integers(0, 2))
batches = st.lists(played, max_size=6)
short_answers = st.lists(played.map(lambda each: each._replace(turns=[turn[:1] for turn in each.turns])), max_size=6)


def configs(*kinds: str, normalise: Sequence[str] = ("none",)) -> st.SearchStrategy[AdvantageConfig]:
    options = {"gamma": fractions, "lambda_": fractions, "turn_gamma": fractions, "turn_lambda": fractions}
    return st.builds(config, st.sampled_from(kinds), st.sampled_from(normalise), **options)


def property_test(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return lambda test: settings(max_examples=40)(given(*strategies)(test))


def summed(steps: Sequence[Token], after: float, gamma: float, lambda_: float) -> list[float]:
    """Each step's advantage as the sum of all later surprises."""
    worths = [*(step.value for step in steps), after]
    surprises = [step.reward + gamma * worths[at + 1] - worths[at] for at, step in enumerate(steps)]
    return [
        sum((gamma * lambda_) ** (later - at) * surprises[later] for later in range(at, len(steps)))
        for at in range(len(steps))
    ]


def slow_advantages(episode: Played, options: AdvantageConfig) -> list[float]:
    if options.kind == "token":
        tokens = [token for turn in episode.turns for token in turn]
        return summed(tokens, episode.after, options.gamma, options.lambda_)
    steps = [Token(sum(token.reward for token in turn), turn[0].value) for turn in episode.turns]
    of_turns = summed(steps, episode.after, options.turn_gamma, options.turn_lambda)
    if options.kind == "turn":
        return [advantage for advantage, turn in zip(of_turns, episode.turns, strict=True) for _ in turn]
    advantages = []
    for advantage, turn in zip(of_turns, episode.turns, strict=True):
        tokens = [Token(0.0, token.value) for token in turn]
        tokens[-1] = Token(advantage + turn[0].value, turn[-1].value)
        advantages += summed(tokens, 0.0, options.gamma, options.lambda_)
    return advantages


@property_test(batches, configs(*WITH_CRITIC))
def test_agrees_with_the_sums(batch: list[Played], options: AdvantageConfig) -> None:
    result = compute_advantages(flat(batch), options)
    assert result.advantages == close([advantage for each in batch for advantage in slow_advantages(each, options)])
    targets = result.is_value_target
    assert result.returns[targets] == close((result.advantages + flat(batch).values)[targets])
    firsts = [token == 0 for each in batch for turn in each.turns for token in range(len(turn))]
    assert targets.tolist() == (firsts if options.kind == "turn" else [True] * len(firsts))


@property_test(batches)
def test_undiscounted_tokens_earn_what_is_still_to_come(batch: list[Played]) -> None:
    """With γ = λ = 1, less what the critic had expected."""
    expected = []
    for each in batch:
        tokens = [token for turn in each.turns for token in turn]
        for at, token in enumerate(tokens):
            expected.append(sum(later.reward for later in tokens[at:]) + each.after - token.value)
    assert advantages_of(batch, config("token", gamma=1.0, lambda_=1.0)) == close(expected)


@property_test(short_answers, fractions, fractions)
def test_all_levels_agree_where_an_answer_is_one_token(batch: list[Played], gamma: float, lambda_: float) -> None:
    of_turns = compute_advantages(flat(batch), config("turn", turn_gamma=gamma, turn_lambda=lambda_))
    for options in (
        config("token", gamma=gamma, lambda_=lambda_),
        config("bi_level", gamma=0.7, lambda_=0.3, turn_gamma=gamma, turn_lambda=lambda_),
    ):
        other = compute_advantages(flat(batch), options)
        assert other.advantages == close(of_turns.advantages)
        assert other.returns == close(of_turns.returns)


# What must never make a difference


@property_test(batches, batches, batches, configs(*WITH_CRITIC))
def test_other_episodes_change_nothing(
    before: list[Played], batch: list[Played], behind: list[Played], options: AdvantageConfig
) -> None:
    among_others = advantages_of([*before, *batch, *behind], options)
    start = sum(each.num_tokens for each in before)
    alone = advantages_of(batch, options)
    assert among_others[start : start + len(alone)].tolist() == alone.tolist()


@property_test(batches, played, batches, numbers, configs(*WITH_CRITIC))
def test_what_follows_an_episode_is_its_own(
    before: list[Played], episode: Played, behind: list[Played], after: float, options: AdvantageConfig
) -> None:
    given_one = advantages_of([*before, episode, *behind], options)
    given_other = advantages_of([*before, episode._replace(after=after), *behind], options)
    start = sum(each.num_tokens for each in before)
    others = np.r_[0:start, start + episode.num_tokens : len(given_one)]
    assert given_one[others].tolist() == given_other[others].tolist()


@property_test(batches, st.randoms(use_true_random=False), configs(*KINDS, normalise=NORMALISATIONS))
def test_the_order_of_episodes_does_not_matter(batch: list[Played], random: Random, options: AdvantageConfig) -> None:
    order = random.sample(range(len(batch)), len(batch))
    advantages = advantages_of(batch, options)
    owners = flat(batch).episodes
    expected = [advantage for number in order for advantage in advantages[owners == number]]
    assert advantages_of([batch[number] for number in order], options) == close(expected)


def on_ranks(parts: Sequence[Sequence[Played]], options: AdvantageConfig) -> list[Advantages]:
    """Each part on a rank of its own. One that gathers more often than another breaks the barrier."""
    barrier = Barrier(len(parts), timeout=10)
    sent: list[FloatArray] = [np.zeros(0)] * len(parts)

    def compute(rank: int) -> Advantages:
        def gather(rows: FloatArray) -> FloatArray:
            assert rows.ndim == 2 and rows.dtype == np.float64
            sent[rank] = rows
            barrier.wait()
            gathered = np.concatenate(sent)
            barrier.wait()
            return gathered

        return compute_advantages(flat(parts[rank]), options, gather)

    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(compute, range(len(parts))))


@property_test(batches, batches, configs(*KINDS, normalise=NORMALISATIONS))
def test_two_ranks_are_as_one(first: list[Played], second: list[Played], options: AdvantageConfig) -> None:
    one = compute_advantages(flat([*first, *second]), options)
    two = on_ranks([first, second], options)
    assert np.concatenate([result.advantages for result in two]) == close(one.advantages)
    assert np.concatenate([result.returns for result in two]) == close(one.returns)
    assert np.concatenate([result.is_value_target for result in two]).tolist() == one.is_value_target.tolist()


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_without_tokens_gathers_as_often(kind: str, normalise: str) -> None:
    options = config(kind, normalise)
    empty, full, unplayed = on_ranks([[], EXAMPLE, [Played([], after=1.0)]], options)
    assert full.advantages == close(advantages_of(EXAMPLE, options))
    assert all(len(array) == 0 for array in (empty.advantages, empty.returns, empty.is_value_target))
    assert len(unplayed.advantages) == 0
    assert len(advantages_of([], options)) == 0


def test_single_precision_is_widened() -> None:
    whole = flat([Played([[Token(0.1, 0.2), Token(0.3, 1e-3)]], after=0.7)])
    halves = {name: getattr(whole, name).astype(np.float32) for name in ("rewards", "values", "after")}
    narrow = Trajectories(episodes=whole.episodes, turns=whole.turns, groups=whole.groups, **halves)
    widened = {name: array.astype(np.float64) for name, array in halves.items()}
    wide = Trajectories(episodes=whole.episodes, turns=whole.turns, groups=whole.groups, **widened)
    for kind in KINDS:
        result, expected = (compute_advantages(each, config(kind)) for each in (narrow, wide))
        assert result.advantages.dtype == result.returns.dtype == np.float64
        assert result.advantages.tolist() == expected.advantages.tolist()


# Input that does not fit


@pytest.mark.parametrize(
    ("field", "entries", "message"),
    [
        ("turns", [0, 0], r"turns has the shape \(2,\).* 3 tokens .* must be \(3,\)"),
        ("rewards", [0.0], "rewards has the shape"),
        ("values", [[0.0, 0.0, 0.0]], r"values has the shape \(1, 3\)"),
        ("groups", [0], r"groups has the shape \(1,\).* 2 episodes .* must be \(2,\)"),
        ("after", [[0.0, 0.0]], "after has the shape"),
        ("episodes", [[0, 0, 1]], "episodes has the shape"),
        ("episodes", [0, 1, 0], "episodes must not decrease"),
        ("episodes", [0, 1, 2], "episodes must lie between 0 and 1"),
        ("episodes", [-1, 0, 0], "episodes must lie between 0 and 1"),
        ("turns", [1, 0, 0], "turns must not decrease within an episode"),
        ("groups", [0, 2**53 + 1], "groups must lie within"),
        ("groups", [-(2**63), 0], "groups must lie within"),
    ],
)
def test_what_does_not_fit_is_named(field: str, entries: list[Any], message: str) -> None:
    arrays = {
        "episodes": np.array([0, 0, 1]),
        "turns": np.array([0, 1, 0]),
        "rewards": np.zeros(3),
        "values": np.zeros(3),
        "after": np.zeros(2),
        "groups": np.zeros(2, np.int64),
    }
    Trajectories(**arrays)
    with pytest.raises(ValueError, match=message):
        Trajectories(**{**arrays, field: np.array(entries)})


def answers(*lengths_and_rewards: tuple[int, float]) -> list[Played]:
    """Episodes of one answer of so many tokens, without a critic's opinion."""
    return [
        Played([[*(Token(0, 0) for _ in range(length - 1)), Token(reward, 0)]])
        for length, reward in lengths_and_rewards
    ]


def test_turns_are_brought_to_one_scale_over_answers_however_long_they_are() -> None:
    """Of three answers at 1 and one at −1 the mean is ½ and the deviation √¾, were the last one ten times as long."""
    found = advantages_of(answers((50, 1), (50, 1), (500, -1), (50, 1)), config("turn", normalise="mean_std"))
    better, worse = 0.5 / 0.75**0.5, -1.5 / 0.75**0.5
    assert found == pytest.approx([better] * 100 + [worse] * 500 + [better] * 50, rel=1e-6)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    others=st.lists(st.integers(1, 6), min_size=5, max_size=5),
    normalise=st.sampled_from(["std", "mean_std"]),
)
def test_how_long_answers_are_changes_no_turns_advantage(lengths: list[int], others: list[int], normalise: str) -> None:
    rewards = [float(index % 3 - 1) for index in range(len(lengths))]
    firsts = []
    for chosen in (lengths, others[: len(lengths)]):
        found = advantages_of(
            answers(*zip(chosen, rewards, strict=True)), config("turn", normalise=normalise, turn_gamma=1.0)
        )
        starts = np.cumsum([0, *chosen[:-1]])
        firsts.append(found[starts])
    assert firsts[0] == close(firsts[1])
