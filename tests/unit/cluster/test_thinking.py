"""What thoughts state is computed again: by hand, and of every demonstration that the built-in expert gives."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.measuring.thinking import Thought, thoughts
from envs.catalog import make_environment
from envs.countdown import Config as CountdownConfig
from envs.general_points import Config as CardsConfig
from verifier.config import VerifierConfig


def answer(thinking: str, formula: str = "2*(1+2+9)=24") -> str:
    return json.dumps({"thinking": thinking, "cards": ["2", "A", "2", "9"], "number": [2, 1, 2, 9], "formula": formula})


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ("Try 2/1+2*9 = 20, no. Try 2*(1+2+9) = 24, yes. Check: it uses 2, 1, 2, 9, each once.", (2, 2, True, True)),
        ("Try 2/1+2*9 = 21, no. Try 2*(1+2+9) = 24, yes.", (2, 1, False, False)),
        ("Try 1-2*9 = -17, no. Try 9/2 = 9/2, no.", (2, 2, True, False)),
        ("Start with 1*9 = 9: 9, 2, 2 cannot make 24.", (1, 1, True, False)),
        # 9, 2, 3: 9*2+3*2 is no way, but (9+3)*2 is one.
        ("Start with 1+2 = 3: 3, 9, 2 cannot make 24.", (1, 1, False, False)),
        # What is left does not hold what was made.
        ("Start with 1*9 = 9: 8, 2, 2 cannot make 24.", (1, 1, False, False)),
        # What was not made, and what was dropped although it makes what the answer does.
        ("Start with 2*9 = 3: 3, 2 cannot make 24.", (1, 0, False, False)),
        ("Try 2*(1+2+9) = 24, no.", (1, 1, False, False)),
        ("Try -3+4 = 1, no. Try 2+2 = 4/1, no.", (2, 2, True, False)),
        (f"Try 1+1 = {'1' * 5000}, no. Check: it uses {'9' * 5000}, each once.", (0, 0, False, False)),
        ("Check: it uses 2, 1, 2, 8, each once.", (0, 0, False, False)),
        ("Try 2/0 = 3, no. Try ((2 = 2, no.", (2, 0, False, False)),
        ("", (0, 0, False, False)),
    ],
)
def test_a_thought_by_hand(thinking: str, expected: tuple[int, int, bool, bool]) -> None:
    found = Thought.of(answer(thinking))
    assert found is not None
    assert (found.statements, found.right, found.backtracks, found.checks) == expected


def test_a_check_of_what_cannot_be_read_is_none() -> None:
    found = Thought.of(answer("Check: it uses 2, 1, 2, 9, each once.", formula="2*("))
    assert found is not None and not found.checks


def test_answers_that_do_not_think_are_not_counted() -> None:
    assert thoughts(['{"formula": "1+1"}', '{"thinking": "1+1 = 2", "action": "forward()"}', "no answer", ""]) == {}
    rates = thoughts([answer("Try 1+1 = 2, no."), answer("Try 1+1 = 3, no."), '{"formula": "1+1"}'])
    assert (rates["thinking/backtracks"].successes, rates["thinking/backtracks"].n) == (1, 2)
    assert (rates["thinking/statements_right"].successes, rates["thinking/statements_right"].n) == (1, 2)


@pytest.mark.parametrize("made", [CardsConfig, CountdownConfig])
def test_the_experts_thoughts_are_true_and_checked(made: type[CardsConfig] | type[CountdownConfig]) -> None:
    name = made.__module__.rpartition(".")[2]
    env = make_environment(made.model_validate({"name": name, "thinking": True}), VerifierConfig())
    answers = [env.open(seed, "train").first_question().expert_answer for seed in range(200)]
    rates = thoughts(answers)
    assert rates["thinking/statements_right"].successes == rates["thinking/statements_right"].n > 300
    assert rates["thinking/checks"].successes == 200
    assert rates["thinking/backtracks"].successes > 150


@given(st.text(alphabet="()+-*/ =0123456789,:Try no.cant make", max_size=300))
def test_any_thought_is_read(text: str) -> None:
    found = Thought.of(answer(text))
    assert found is not None and 0 <= found.right <= found.statements


@pytest.mark.parametrize("text", ["1" * 32_768, "(" * 32_768, "1+" * 16_384, "1, " * 10_000, "1 = " * 8_000])
def test_a_long_thought_is_read_in_time(text: str) -> None:
    started = time.process_time()
    Thought.of(answer(text))
    assert time.process_time() - started < 0.5
