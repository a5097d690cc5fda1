"""The memory of a piece of code, as PyTorch's own allocator sees it."""

from collections.abc import Callable
from typing import Any

from torch.profiler import profile


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most that PyTorch's own allocator held above what it held before."""
    with profile(profile_memory=True) as profiled:
        run()
    results: Any = profiled.profiler
    held = most = 0
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert most
    return most
