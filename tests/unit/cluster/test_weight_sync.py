"""What is asked of engines behind a push: their digest where they hold exactly what they are sent, else the probe."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.groups.learner_group import LearnerGroup
from cluster.groups.weight_sync import WeightSync
from rollout.engine import EngineError, PolicyMismatch, Prompt
from rollout.probe import ProbeExpectation
from rollout.receivers import Receivers
from rollout.weight_transfer import SyncReport


class Engines:
    """Two engines that hold one number each for two weights, and the learner that sends them."""

    def __init__(self, *, keeps: str = "", hides: float = 0.0) -> None:
        """One engine never takes the weight that it `keeps`; the second stores one otherwise than it is sent."""
        self.held = [{"embedding": 1.0, "norm": 2.0}, {"embedding": 1.0, "norm": 2.0}]
        self._keeps, self._hides, self.fails = keeps, hides, 0
        self.perturbations: list[float] = []
        self.expected: list[ProbeExpectation] = []

    def send_weights(self, *_whom: Any, perturbation: float, with_digest: bool, **_how: Any) -> SyncReport:
        self.perturbations.append(perturbation)
        sent = {"embedding": 1.0 + perturbation, "norm": 2.0 + perturbation}
        for number, held in enumerate(self.held):
            held.update({name: value for name, value in sent.items() if number or name != self._keeps})
        if self.fails:
            self.fails -= 1
            raise EngineError("a worker died")
        digest = self._digest(sum(sent.values())) if with_digest else None
        return SyncReport(version=3, seconds=0.0, num_bytes=8, num_calls=1, digest=digest)

    def digests(self) -> list[dict[str, int]]:
        first, second = ({name: self._digest(value) for name, value in held.items()} for held in self.held)
        return [first, {**second, "norm": second["norm"] + self._digest(self._hides)}]

    def verify(self, expected: ProbeExpectation) -> float:
        self.expected.append(expected)
        return 0.0

    @staticmethod
    def _digest(value: float) -> int:
        return int(value * 2**20)


def sync(engines: Engines) -> WeightSync:
    learner: Any = SimpleNamespace(
        version=lambda: 3,
        forget_workers=lambda: None,
        send_weights=engines.send_weights,
        expected=lambda prompts: [[0.0] for _ in prompts],
    )
    return WeightSync(cast(LearnerGroup, learner), [Prompt(token_ids=[1, 2])], backend="nccl", dtype="bfloat16")


def receivers(engines: Engines) -> Receivers:
    return cast(Receivers, engines)


def test_engines_that_hold_what_they_are_sent_are_held_to_the_digest_of_each_push() -> None:
    engines = Engines()
    pushes = sync(engines)
    for _ in range(2):
        pushes.push(receivers(engines))
    assert [bool(each) for each in engines.perturbations] == [True, False, False], "it is proven once"
    assert [expected.digest for expected in engines.expected] == [3 * 2**20] * 2


def test_where_one_stores_them_otherwise_the_probe_alone_judges_all() -> None:
    engines = Engines(hides=0.5)
    sync(engines).push(receivers(engines))
    assert [expected.digest for expected in engines.expected] == [None]


def test_what_a_push_does_not_reach_is_named_though_the_other_engine_has_it() -> None:
    engines = Engines(keeps="norm")
    with pytest.raises(PolicyMismatch, match=r"1 of 2 weights .* not reached by a push: norm\."):
        sync(engines).push(receivers(engines))
    assert engines.expected == []


def test_an_attempt_that_broke_off_leaves_no_weight_that_looks_as_if_it_was_not_reached() -> None:
    engines = Engines()
    engines.fails = 1
    pushes = sync(engines)
    with pytest.raises(EngineError, match="died"):
        pushes.push(receivers(engines))
    pushes.push(receivers(engines))
    first, second, last = engines.perturbations
    assert first and second and first != second and not last
