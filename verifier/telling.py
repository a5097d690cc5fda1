"""How much of a verdict the model is told, which is another question than what it earns.

told(verifier, "full")      what is wrong, in the verifier's words
told(verifier, "outcome")   the outcome's name alone: `wrong_numbers`
told(verifier, "none")      nothing but that it is asked again
"""

from dataclasses import dataclass, replace
from typing import Any

from verifier.config import Feedback
from verifier.protocol import Verdict, Verifier


@dataclass(frozen=True, slots=True)
class _Curt:
    """A verifier that says less than it knows."""

    verifier: Verifier[Any]
    says_outcome: bool

    def judge(self, answer: str, reference: Any) -> Verdict:
        """The same verdict in fewer words."""
        verdict = self.verifier.judge(answer, reference)
        return replace(verdict, feedback=f"Outcome: {verdict.outcome}." if self.says_outcome else "")


def told(verifier: Verifier[Any], feedback: Feedback) -> Verifier[Any]:
    """The verifier, saying that much."""
    return verifier if feedback == "full" else _Curt(verifier, says_outcome=feedback == "outcome")
