"""What is said of a learner that starts anew, and what is only logged."""

import pytest

from cluster.errors import RunError
from cluster.groups.learner_group import LearnerDied
from cluster.supervisor import Supervisor


def test_a_dead_rank_is_one_line_on_the_terminal_and_the_rest_stands_in_the_log_and_in_the_last_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[str] = []
    supervisor = Supervisor(lambda: None, 1, said.append)

    def die() -> None:
        with supervisor.iteration():
            raise LearnerDied("learner rank 1 died in update; host 10.0.0.4, process 7\nlog worker-7.err\nlast words")

    die()
    assert said == [
        "learner rank 1 died in update; host 10.0.0.4, process 7. All learner ranks start anew from the newest "
        "checkpoint."
    ]
    assert caplog.messages == ["log worker-7.err\nlast words"]
    with pytest.raises(RunError) as raised:
        die()
    first, *rest = str(raised.value).splitlines()
    assert first.startswith("learner rank 1 died in update; host 10.0.0.4, process 7. They are not started again: ")
    assert first.endswith("Go on with --resume.")
    assert rest == ["log worker-7.err", "last words"]
