"""How often something may be started anew: so many times within any hour.

RestartBudget(3).take()   →  whether it may
  .seconds_left()         →  until it may again
"""

import time
from collections import deque
from collections.abc import Callable

HOUR = 3600.0


class RestartBudget:
    """What has been spent of it falls due again an hour later."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit, clock
        self._spent: deque[float] = deque()

    def take(self) -> bool:
        """Spend one; False where none is left at present."""
        if self.seconds_left() > 0:
            return False
        self._spent.append(self._clock())
        return True

    def seconds_left(self) -> float:
        """Until there is one again; without any, for good."""
        now = self._clock()
        while self._spent and now - self._spent[0] >= HOUR:
            self._spent.popleft()
        if len(self._spent) < self.limit:
            return 0.0
        return HOUR - (now - self._spent[0]) if self._spent else float("inf")
