"""No process of an engine outlives the one that it works for, however that one ends.

    die_with_parent()     in a process that multiprocessing has started; elsewhere it does nothing

vLLM's processes look after their parent themselves, but one that hangs, or was stopped by a signal, looks at nothing:
it would keep its memory, and a GPU, for good. The kernel ends it.
"""

import ctypes
import multiprocessing
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1
"""Of Linux's `prctl`."""


def die_with_parent() -> None:
    """Be killed when the parent is no more."""
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it had died before
        os.kill(os.getpid(), signal.SIGKILL)
