"""Something may be started anew so many times within any hour, whenever these were."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.groups.restarts import HOUR, RestartBudget


@given(st.integers(0, 4), st.lists(st.floats(0, HOUR), max_size=40))
def test_no_hour_has_more_than_it_may_and_none_is_refused_that_it_has(limit: int, pauses: list[float]) -> None:
    now, taken = 0.0, []
    budget = RestartBudget(limit, clock=lambda: now)
    for pause in pauses:
        now += pause
        within = [moment for moment in taken if now - moment < HOUR]
        assert budget.take() == (len(within) < limit)
        if len(within) < limit:
            taken.append(now)


def test_what_is_left_is_when_the_oldest_is_an_hour_old() -> None:
    now = 0.0
    budget = RestartBudget(2, clock=lambda: now)
    assert budget.take()
    now = 600.0
    assert budget.take() and not budget.take()
    assert budget.seconds_left() == HOUR - 600
    now = HOUR
    assert budget.seconds_left() == 0 and budget.take()
    assert RestartBudget(0).seconds_left() == float("inf")
