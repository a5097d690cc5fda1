"""Memory that was freed, given back to the system.

give_back()

Episodes come and go in threads of Ray and of ours, in pieces of all sizes. The C library keeps what they leave free for
later, scattered over its heaps, and a driver of a thousand engines would look as if it grew by the iteration.
"""

import ctypes
from collections.abc import Callable

_trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""The GNU C library's; others have none and need none."""


def give_back() -> None:
    """Whole pages that nothing is in; some hundredths of a second."""
    if _trim is not None:
        _trim(0)
