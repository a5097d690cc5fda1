"""What arms gain for what they spend, in each account.

efficiencies(points, name)   →  [Efficiency(arm="rl", ledger="flops", gain=0.16, spent=1.6e12, height=0.09), …]
flips(efficiencies)          →  pairs of arms of which each is the more efficient one in some account
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from study.questions.contrasts import curve
from study.questions.figures import arms_of
from study.questions.points import ACCOUNTS, Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Of one arm, the mean of its seeds."""

    arm: str
    ledger: str
    gain: float
    """From the start to the end."""
    spent: float
    height: float
    """How much above its start it has been on average, straight between evaluations: the area under its curve."""

    @property
    def per_spent(self) -> float:
        """What is gained for one unit of the account."""
        return self.gain / self.spent


def efficiencies(points: Sequence[Kept], name: str, but: Collection[str] = ()) -> list[Efficiency]:
    """Of every arm that was measured more than once, but for those that have other beginnings than the rest."""
    found = []
    for arm in arms_of([point for point in points if point.of not in but]):
        for ledger in ACCOUNTS:
            places = [(x, rate.value) for x, rate in curve(points, arm, name, ledger)]
            if len(places) < 2:
                continue
            across, up = np.array(places).T
            spent, above = float(across[-1] - across[0]), up - up[0]
            if spent <= 0:
                continue
            area = float(np.trapezoid(above, across))
            found.append(Efficiency(arm=arm, ledger=ledger, gain=float(above[-1]), spent=spent, height=area / spent))
    return found


def flips(found: Sequence[Efficiency]) -> list[tuple[str, str]]:
    """Which two arms change places from one account to another, of those that have gained anything."""
    by_ledger = {ledger: {one.arm: one.per_spent for one in found if one.ledger == ledger} for ledger in ACCOUNTS}
    arms = list(dict.fromkeys(one.arm for one in found if one.gain > 0))
    return [pair for pair in combinations(arms, 2) if len(_signs(by_ledger, *pair)) > 1]


def _signs(by_ledger: Mapping[str, Mapping[str, float]], first: str, second: str) -> set[float]:
    """Which of the two is ahead, in the accounts that have both."""
    both = (of_arm for of_arm in by_ledger.values() if first in of_arm and second in of_arm)
    return {float(np.sign(of_arm[first] - of_arm[second])) for of_arm in both} - {0.0}
