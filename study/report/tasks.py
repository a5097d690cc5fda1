"""Studies side by side, each of a task, as figures and a page show them.

tasks = Tasks.of([Findings(study), …])
tasks.arms              the arms that any of them has; each has its colour by this order
tasks.label(study)      "cards in words", or the study's name where two studies have one task
tasks.suite(study, …)   the suite of a study under the rule of training, the shifted rule or the shifted look
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from envs.protocol import Shift
from study.report.drawing import in_lines
from study.report.findings import Findings
from study.report.records import Study

WORDS: Mapping[Shift, str] = {"none": "training rule", "rule": "shifted rule", "look": "shifted look"}
"""What suites are called where those of several studies stand together."""
ROWS: Mapping[Shift, str] = {shift: f"{words.replace(' ', chr(10))} (%)" for shift, words in WORDS.items()}
"""The same beside a row of small axes, whose height has no room for it in one line."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """One study or several."""

    findings: Sequence[Findings]
    arms: tuple[str, ...]
    """Arms of one name are one arm."""

    @classmethod
    def of(cls, findings: Sequence[Findings]) -> Self:
        """In the order given."""
        return cls(findings, tuple(dict.fromkeys(arm for one in findings for arm in one.study.arms)))

    @property
    def studies(self) -> list[Study]:
        """The records behind the findings."""
        return [one.study for one in self.findings]

    @property
    def is_one(self) -> bool:
        """Whether there is but one study, whose figures have room for more."""
        return len(self.findings) == 1

    def label(self, study: Study) -> str:
        """What a study is of, in a few words."""
        tasks = [task_of(one) for one in self.studies]
        return task_of(study) if tasks.count(task_of(study)) == 1 else study.name

    def title(self, study: Study, measure: str) -> str:
        """What a panel or a group of several studies is headed with: the task in two lines, and what is measured."""
        return f"{in_lines(self.label(study), 10)}\n{measure}"

    def suite(self, study: Study, shift: Shift) -> str | None:
        """The suite that shows it; None where the study has none."""
        return study.trained_suite if shift == "none" else study.shifted(shift)


def task_of(study: Study) -> str:
    """What the study asks, in a few words."""
    env = study.asked[study.trained_suite].env
    return study.name if env is None else env.description().task
