"""What the parts without a model cost: verdicts, the solver, and asking.

Each figure is the median over several rounds of one process on one core; the machine's noise is in it.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations_with_replacement, cycle, islice, product
from pathlib import Path
from typing import Any

from cluster.config import load_config
from envs.catalog import make_environment
from envs.general_points import NAMED_RULES, RANKS
from study.bench import Row
from verifier import solver
from verifier.config import VerifierConfig
from verifier.equation import EquationVerifier
from verifier.hand import Hand
from verifier.hostile import hostile_texts
from verifier.navigation import NavigationVerifier

CONFIGS = Path(__file__).parents[2] / "configs" / "envs"
NUM_ROUNDS = 5
NUM_CALLS = 2_000
HOSTILE_CHARACTERS = 10**6


def verifier_rows() -> list[Row]:
    hand = Hand(labels=("7", "5", "K", "4"), numbers=(7, 5, 10, 4), target=24)
    formulas = ("(7-5)*10+4=24", "7*5-10-4=24", "(7-5)*10+3=24", "(7-5)*(10+4=24", "10/(7-5)*4+4=24")
    answers = [
        json.dumps({"cards": list(hand.labels), "number": list(hand.numbers), "formula": formula})
        for formula in formulas
    ]
    rows: list[Row] = []
    for preset in ("corrected", "paper"):
        judge = EquationVerifier(VerifierConfig(preset=preset)).judge
        seconds = _seconds_each([partial(judge, answer, hand) for answer in answers], NUM_CALLS)
        rows.append((f"equation verdicts, {preset}", 1 / seconds, "per second"))
    route = make_environment(load_config([CONFIGS / "route_navigation.yaml"]).env, VerifierConfig())
    question = route.open(0, "train").first_question()
    judge_step = NavigationVerifier(VerifierConfig()).judge
    seconds = _seconds_each([partial(judge_step, question.expert_answer, question.reference)], NUM_CALLS)
    rows.append(("navigation verdicts", 1 / seconds, "per second"))
    return rows + _hostile_rows(hand, question.reference) + _solver_rows()


def _hostile_rows(hand: Hand, position: Any) -> list[Row]:
    """What the slowest megabyte costs every verifier, under each preset; of each text the best of some tries."""
    pictured = replace(hand, cards_are_shown=True)
    judged = {"equation": (EquationVerifier, pictured), "navigation": (NavigationVerifier, position)}
    texts = list(hostile_texts(HOSTILE_CHARACTERS))
    rows: list[Row] = []
    for (name, (verifier, reference)), preset in product(judged.items(), ("corrected", "paper")):
        judge = verifier(VerifierConfig(preset=preset)).judge
        slowest = max(_seconds_each([partial(judge, text, reference)], 1) for _, text in texts)
        rows.append(
            (
                f"slowest of {len(texts)} hostile texts of {HOSTILE_CHARACTERS / 1e6:g} MB, {name}, {preset}",
                slowest * 1e3,
                "ms",
            )
        )
    return rows


def _solver_rows() -> list[Row]:
    """All four-card hands under each rule, from a cold start, and what single hands cost."""
    rows: list[Row] = []
    for name, rule in NAMED_RULES.items():
        hands = [rule.numbers(ranks) for ranks in combinations_with_replacement(RANKS, 4)]
        solver.forget()
        rows.append((f"table of {len(hands)} hands, {name}", sum(map(_seconds_to_solve, hands)), "s"))
        costs = []
        for hand in hands[::10]:
            solver.forget()
            costs.append(_seconds_to_solve(hand))
        rows.append((f"one hand from a cold start, {name}", statistics.median(costs) * 1e3, "ms"))
    return rows


def _seconds_to_solve(hand: tuple[int, ...]) -> float:
    return _elapsed(partial(solver.solutions, hand, 24))


def env_rows() -> list[Row]:
    rows: list[Row] = []
    for file in sorted(CONFIGS.glob("*.yaml")):
        config = load_config([file])
        env = make_environment(config.env, config.verifier)
        env.open(0, "train").first_question()
        seeds = iter(range(1, 10**6))
        seconds = _seconds_each(
            [lambda env=env, seeds=seeds: env.open(next(seeds), "train").first_question()], max(1, NUM_CALLS // 50)
        )
        rows.append((f"{file.stem}: open and ask", seconds * 1e3, "ms"))
    return rows


def _seconds_each(calls: list[Callable[[], object]], num_calls: int) -> float:
    """The median over rounds of the mean time of a call."""
    rounds = []
    for _ in range(NUM_ROUNDS):
        batch = list(islice(cycle(calls), num_calls))
        rounds.append(_elapsed(lambda batch=batch: [call() for call in batch]) / num_calls)
    return statistics.median(rounds)


def _elapsed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
